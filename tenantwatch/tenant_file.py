"""Tenants in a file: read all of it, and say everything that is wrong with it, before one is used."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from detectors.parameters import check_overrides
from detectors.rules.ruleset import check_rules
from schemas.errors import describe
from schemas.tenant import Tenant, check_planned_tests


class TenantFileError(Exception):
    """The file cannot be used.

    Parameters
    ----------
    faults
        One line for each thing to mend, with entry and field.
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def read_tenants(content: bytes) -> list[Tenant]:
    """Return the tenants of a file: a JSON array, one object, or an object on each line.

    Raises
    ------
    TenantFileError
        If anything in it is wrong.

    >>> read_tenants(b'{"tenant_id": "tenant-a", "organization_id": "o", "name": "A"}')[0].tier
    'free'
    >>> try:
    ...     read_tenants(b'[{"tenant_id": "tenant-a", "organization_id": "o", "name": "A", "teir": "free"}]')
    ... except TenantFileError as error:
    ...     print(error)
    [0] tenant-a: teir: extra inputs are not permitted, found 'free'; fix: did you mean `tier`?
    """
    tenants: dict[str, Tenant] = {}
    faults: list[str] = []
    for where, entry in _entries(content, faults):
        if not isinstance(entry, dict):
            faults.append(
                f"{where}: {type(entry).__name__}; fix: send a JSON object with the tenant's fields"
            )
            continue
        named = f"{where} {entry.get('tenant_id', '(no tenant_id)')!s:.64}"
        try:
            tenant = Tenant.model_validate(entry)
        except ValidationError as error:
            faults.append(f"{named}: {_describe(error)}")
            continue
        faults += [f"{named}: {fault}" for fault in check_overrides(tenant.detectors)]
        faults += [f"{named}: {fault}" for fault in check_rules(tenant.rules)]
        faults += [f"{named}: {fault}" for fault in check_planned_tests(tenant.planned_tests)]
        if tenant.tenant_id in tenants:
            faults.append(f"{named}: there twice; fix: keep one of them")
        tenants[tenant.tenant_id] = tenant
    if faults:
        raise TenantFileError(faults)
    return [*tenants.values()]


def _entries(content: bytes, faults: list[str]) -> Iterator[tuple[str, Any]]:
    content = content.strip()
    try:
        whole = from_json(content)
    except ValueError as error:
        lines = content.splitlines()
        if len(lines) < 2 or lines[0].strip() in (b"{", b"[", b"[{"):
            faults.append(f"no JSON: {error}; fix: send an array of tenants, or one on each line")
            return
    else:
        entries = whole if isinstance(whole, list) else [whole]
        yield from ((f"[{i}]" if isinstance(whole, list) else "tenant", e) for i, e in enumerate(entries))
        return
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield f"line {number}", from_json(line)
            except ValueError as error:
                faults.append(f"line {number}: no JSON: {error}; fix: write one tenant on each line")


def _describe(error: ValidationError) -> str:
    text = describe(error)
    for detail in error.errors(include_url=False):
        near = get_close_matches(str(detail["loc"][-1]), list(Tenant.model_fields), 1)
        if detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1 and near:
            found = f"{detail['loc'][0]}: extra inputs are not permitted"
            at = text.find(found)
            old = "fix: remove it, or correct its name"
            if at >= 0:
                text = text[:at] + text[at:].replace(old, f"fix: did you mean `{near[0]}`?", 1)
    return text
