"""Cursors: where a page ended, sealed, so that nobody can make one or use another's."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from api.v1.caller import Caller
from api.v1.key_ring import KeyRing, NotSealedHere
from api.v1.problems import Problem


def seal_cursor(
    ring: KeyRing, caller: Caller, what: str, asked: Mapping[str, Any], position: Sequence[Any]
) -> str:
    """Return a cursor for a position.

    Parameters
    ----------
    what
        Which list it is of.
    asked
        The filters: with others the position would mean nothing.
    """
    return ring.seal(json.dumps([*position]).encode(), _bound(caller, what, asked))


def open_cursor(
    ring: KeyRing, caller: Caller, what: str, asked: Mapping[str, Any], cursor: str | None
) -> list[Any] | None:
    """Return the position in a cursor; None without one.

    Raises
    ------
    Problem
        If it was not made for this list, these filters and this tenant, or not by us.
    """
    if cursor is None:
        return None
    try:
        opened: list[Any] = json.loads(ring.unseal(cursor, _bound(caller, what, asked)))
    except (NotSealedHere, ValueError):
        detail = "the cursor is not one of this list with these filters: begin without one"
        raise Problem("invalid", detail, errors=[{"field": "query.cursor", "detail": detail}]) from None
    return opened


def _bound(caller: Caller, what: str, asked: Mapping[str, Any]) -> str:
    return json.dumps(["cursor", what, caller.tenant_id, dict(asked)], sort_keys=True, default=str)
