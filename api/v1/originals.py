"""Searching by originals: what somebody asks for as it was written stands in the trail as pseudonyms."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Final

from api.v1.caller import Caller
from api.v1.parts import Parts
from api.v1.problems import Problem
from schemas.personal import is_identifier, replaced
from schemas.tenant import Tenant
from store.alert_search import AlertSearch
from store.people import FIELDS
from store.search import EventSearch
from store.vault import Vault

# Whole identifiers, by a rule of the tenant's; in all others of `FIELDS` they stand among other words.
_USER: Final = "user_id"


def _vault(caller: Caller, parts: Parts) -> tuple[Vault, Tenant] | None:
    """Return what makes a caller's words pseudonyms; None: to this caller they are words like any other.

    Only who may read personal data may ask so: whether an address is in a trail is personal too.
    """
    if parts.privacy is None or caller.tenant is None or not caller.may("pii:read"):
        return None
    return parts.privacy.vault, caller.tenant


async def events_as_stored(caller: Caller, parts: Parts, wanted: EventSearch) -> EventSearch:
    """Return a search of events with pseudonyms where a caller named people by the original."""
    found = _vault(caller, parts)
    return await asyncio.to_thread(_events, *found, wanted) if found else wanted


async def alerts_as_stored(caller: Caller, parts: Parts, wanted: AlertSearch) -> AlertSearch:
    """Return a search of alerts with pseudonyms where a caller named people by the original.

    Raises
    ------
    Problem
        If it named somebody but no tenant: a person has another pseudonym in each, so that nothing would be
        found, and that would be taken for an answer.
    """
    able = parts.privacy is not None and caller.may("pii:read")
    if able and caller.tenant is None and any(map(is_identifier, wanted.entity_values)):
        detail = "people are found within one tenant: name it in the header X-Tenant-Id, or give a pseudonym"
        raise Problem("tenant_required", detail)
    found = _vault(caller, parts)
    return await asyncio.to_thread(_alerts, *found, wanted) if found else wanted


def _events(vault: Vault, tenant: Tenant, wanted: EventSearch) -> EventSearch:
    pseudonym = partial(vault.pseudonym, tenant.tenant_id)
    # As it was written, too: events from before the vault, or from when the tenant wanted it so, hold that.
    equal = {
        name: _each(
            form
            for value in values
            for form in (
                value,
                vault.stored_user_id(tenant, value) if name == _USER else value,
                replaced(value, pseudonym) if name in FIELDS else value,
            )
        )
        for name, values in wanted.equal.items()
    }
    # A name or a number of a person's is a pseudonym as a whole, which only whoever asks knows it to be.
    texts = [form for text in wanted.texts for form in (text, replaced(text, pseudonym), pseudonym(text))]
    return replace(wanted, equal=equal, texts=_each(texts))


def _alerts(vault: Vault, tenant: Tenant, wanted: AlertSearch) -> AlertSearch:
    pseudonym = partial(vault.pseudonym, tenant.tenant_id)
    forms = [
        form
        for value in wanted.entity_values
        for form in (value, vault.stored_user_id(tenant, value), replaced(value, pseudonym))
    ]
    return replace(wanted, entity_values=_each(forms))


def _each(forms: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(forms))
