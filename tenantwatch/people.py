"""Who is behind the pseudonyms of an output: masked, or in full for those who say so."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schemas.personal import is_identifier, is_personal_attribute, masked, pseudonyms_in, scrubbed
from schemas.tenant import PersonalData

if TYPE_CHECKING:
    from tenantwatch.control import Control

# Longer ones are texts that hold an identifier, not identifiers.
MAX_MASKED = 256


def people_in(
    control: "Control", tenant_id: str, document: Any, *, actor: str, reveal: bool = False
) -> dict[str, str]:
    """Return the masked form of each pseudonym in a document that the vault knows.

    Parameters
    ----------
    reveal
        The original instead; that is noted.
    """
    found = pseudonyms_in([json.dumps(document, default=str)])
    if not found:
        return {}
    asked: dict[str, Any] = {"tenant_id": tenant_id, "subjects": found}
    if not reveal:
        return dict(control.request("POST", "/privacy/masked", json=asked))
    asked |= {"actor": actor, "reason": "shown on the command line"}
    return dict(control.request("POST", "/privacy/reveal", json=asked))


def stored_user_id(control: "Control", tenant: Mapping[str, Any], user_id: str) -> str:
    """Return what stands in the trail for a user of a tenant: the pseudonym, if it is one that gets one."""
    if not PersonalData.model_validate(tenant.get("personal_data") or {}).replaces(user_id):
        return user_id
    asked = {"tenant_id": tenant["tenant_id"], "subjects": [user_id]}
    return str(control.request("POST", "/privacy/pseudonyms", json=asked)[user_id])


def masked_message(text: str) -> str:
    """Return a raw message as those see it who need not know whom it is about; its form stays.

    >>> masked_message('{"user_id": "jane@example.com", "attributes": {"name": "Jane Doe", "n": 1}}')
    '{"user_id": "j***@example.com", "attributes": {"name": "J*** D***", "n": 1}}'
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return scrubbed(text)
    shown = _masked(content, personal=False)
    # Whoever looks for what is wrong with it wants to see it as it was written.
    return text if shown == content else json.dumps(shown, ensure_ascii=False)


def _masked(value: Any, *, personal: bool) -> Any:
    if isinstance(value, dict):
        return {
            scrubbed(name): _masked(item, personal=personal or is_personal_attribute(name))
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item, personal=personal) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    if personal or (isinstance(value, str) and is_identifier(value)):
        return masked(str(value)) if len(str(value)) <= MAX_MASKED else scrubbed(str(value))
    return scrubbed(value) if isinstance(value, str) else value


def note_reading(control: "Control", tenant_id: str, *, actor: str, reason: str) -> None:
    """Note that somebody read what is not masked."""
    asked = {"tenant_id": tenant_id, "actor": actor, "reason": reason}
    control.request("POST", "/privacy/readings", json=asked)
