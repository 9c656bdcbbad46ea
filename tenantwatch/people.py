"""Who is behind the pseudonyms of an output: masked, or in full for those who say so."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schemas.personal import is_identifier, pseudonyms_in

if TYPE_CHECKING:
    from tenantwatch.control import Control


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
    mode = (tenant.get("personal_data") or {}).get("user_id", "auto")
    if not (mode == "always" or (mode == "auto" and is_identifier(user_id))):
        return user_id
    asked = {"tenant_id": tenant["tenant_id"], "subjects": [user_id]}
    return str(control.request("POST", "/privacy/pseudonyms", json=asked)[user_id])
