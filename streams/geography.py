"""Where addresses are, roughly: from a file that the operator brings (MaxMind's format, MMDB)."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from schemas.batch import EventBatch

# Latitude and longitude in degrees.
Position = tuple[float, float]
Locate = Callable[[EventBatch], EventBatch]
_NOWHERE: Final = (float("nan"), float("nan"))
# Addresses whose position is kept in mind: a look into the file takes some microseconds.
MAX_CACHED: Final = 1 << 17


class GeographyError(Exception):
    """The file cannot be used; says what to do."""


def locate_with(path: Path | None) -> Locate:
    """Return what adds positions to batches, according to a file; without one batches stay as they are.

    Raises
    ------
    GeographyError
        There is no such file, or it is none of addresses' positions.

    >>> locate_with(None)("a batch")
    'a batch'
    """
    return _as_is if path is None else partial(located, find=_finder(path))


def _as_is(batch: EventBatch) -> EventBatch:
    return batch


def _finder(path: Path) -> Callable[[str], Position]:
    import maxminddb

    fix = "fix: name an MMDB file with locations of cities in TENANTWATCH_GEOIP_FILE, or unset it"
    try:
        reader: Any = maxminddb.open_database(str(path))
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        raise GeographyError(f"{path}: {error}; {fix}") from None

    @lru_cache(MAX_CACHED)
    def find(address: str) -> Position:
        try:
            found = reader.get(address)
        except ValueError:
            # One of IPv6, in a file of IPv4.
            return _NOWHERE
        place = found.get("location", {}) if isinstance(found, dict) else {}
        return place.get("latitude", _NOWHERE[0]), place.get("longitude", _NOWHERE[1])

    return find


def located(batch: EventBatch, find: Callable[[str], Position | None]) -> EventBatch:
    """Return a batch of logins with the positions of its addresses; any other as it is.

    Parameters
    ----------
    batch
        Not changed.
    find
        Address to position; asked once for each address.
    """
    if batch.kind != "auth":
        return batch
    addresses = list(batch.columns["source_ip"])
    places = {address: (address and find(address)) or _NOWHERE for address in dict.fromkeys(addresses)}
    positions = np.array([places[address] for address in addresses], np.float32).reshape(-1, 2)
    return replace(batch, positions=positions)
