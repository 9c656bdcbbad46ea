"""What a person's accesses have in common: networks, programs, actions; as dense numbers by tenant."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np

from detectors.columns import Hashed, named, picked
from detectors.growing import grown
from detectors.keys import Key, Keys, fingerprints
from detectors.networks import wide_network_of
from detectors.numbers import NumberTable
from detectors.saved import Saved
from schemas.batch import Int32s, Int64s

FEATURES: Final = ("network", "user_agent", "resource_type", "action", "permission")
ACTION: Final = FEATURES.index("action")
COMBINATION: Final = ("tenant_id", "user_id", "source_ip", "user_agent", *FEATURES[2:])
# What a cache may hold before it is emptied: raw values are often chosen by whoever calls.
MAX_CACHED: Final = 1 << 18
# Before any that an event can name.
_NO_HOUR: Final = -(1 << 30)

# The first that occurs names the program; Chrome calls itself Safari too, Edge both.
_BROWSERS: Final = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"))
_SYSTEMS: Final = (
    ("Android", "Android"),
    ("iPhone", "iOS"),
    ("iPad", "iOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


@lru_cache(maxsize=1 << 16)
def user_agent_family(user_agent: str) -> str:
    """Return the program and the system, without the versions that change by themselves.

    >>> user_agent_family("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/126.0 Safari/537.36")
    'Chrome on Windows'
    >>> user_agent_family("curl/8.5.0")
    'curl'
    """
    if not user_agent.startswith("Mozilla/"):
        return user_agent.split("/", 1)[0].split(" ", 1)[0][:64].lower()
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "Safari or another browser")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "another system")
    return f"{browser} on {system}"


class _Cache:
    """Numbers of what a raw key stands for, worked out once for each."""

    def __init__(self, width: int, derive: Callable[[list[Any]], Int64s]) -> None:
        self._derive = derive
        self._places = NumberTable()
        self._numbers: Int32s = np.zeros((0, width), np.int32)

    def numbers(self, parts: Sequence[Hashed], rows: Int64s) -> Int64s:
        """Return ``(m, width)``."""
        if len(self._places) > MAX_CACHED:
            self._places = NumberTable()
        prints = fingerprints(parts, rows)
        places, new = self._places.intern(prints)
        if len(new):
            raw = zip(*(picked(part.values, rows[new]) for part in parts), strict=True)
            self._numbers = grown(self._numbers, len(self._places), 0)
            self._numbers[places[new]] = self._derive(list(raw))
        return self._numbers[places].astype(np.int64)


class Values:
    """The values of every feature that each tenant has met, numbered.

    They are never forgotten: what a tenant's people use is small beside who uses it. Networks grow most, by
    about 200 bytes for each that a tenant was ever accessed from.

    Attributes
    ----------
    keys
        (tenant, feature, value).
    """

    # The caches know the values' numbers by hashes that hold in one process only.
    saved = Saved(frozenset({"_networks", "_user_agents", "_doings"}))

    def __init__(self) -> None:
        self.keys: Keys[Key] = Keys()
        self._networks = _Cache(1, self._of_addresses)
        self._user_agents = _Cache(1, self._of_user_agents)
        self._doings = _Cache(3, self._of_doings)

    def number(self, columns: Mapping[str, Hashed], rows: Int64s) -> Int64s:
        """Return ``(m, 5)`` the number of each row's value of each of `FEATURES`; -1: it has none."""
        tenants = columns["tenant_id"]
        return np.concatenate(
            (
                self._networks.numbers((tenants, columns["source_ip"]), rows),
                self._user_agents.numbers((tenants, columns["user_agent"]), rows),
                self._doings.numbers((tenants, *(columns[name] for name in FEATURES[2:])), rows),
            ),
            axis=1,
        )

    def _of_addresses(self, keys: list[tuple[str, str | None]]) -> Int64s:
        return self._intern("network", [(tenant, ip and wide_network_of(ip)) for tenant, ip in keys])[:, None]

    def _of_user_agents(self, keys: list[tuple[str, str | None]]) -> Int64s:
        families = [(tenant, user_agent and user_agent_family(user_agent)) for tenant, user_agent in keys]
        return self._intern("user_agent", families)[:, None]

    def _of_doings(self, keys: list[tuple[str, ...]]) -> Int64s:
        columns = (
            self._intern(name, [(key[0], key[i]) for key in keys]) for i, name in enumerate(FEATURES[2:], 1)
        )
        return np.stack(list(columns), axis=1)

    def _intern(self, feature: str, pairs: Sequence[tuple[str, str | None]]) -> Int64s:
        tenants, values = zip(*pairs, strict=True)
        numbers = np.full(len(pairs), -1, np.int64)
        known = np.flatnonzero(named(values))
        numbers[known] = self.keys.intern((Hashed(tenants), feature, Hashed(values)), known)
        return numbers


class Recent:
    """The hour in which each combination of user and values was last met, and whose it is.

    Within an hour a combination teaches nothing a second time, and none of its values is new: most rows of
    ordinary traffic are done with after one look-up. It is a cache: it may be emptied between calls.

    Attributes
    ----------
    user
        ``(k,)`` number of the user, by place.
    """

    def __init__(self) -> None:
        self._places = NumberTable()
        self._hour: Int32s = np.zeros(0, np.int32)
        self.user: Int32s = np.zeros(0, np.int32)

    def look(self, columns: Mapping[str, Hashed], rows: Int64s, hour: Int64s) -> tuple[Int64s, Int64s]:
        """Return ``(n,)`` places of combinations, and the rows that meet one for the first time in its hour.

        Parameters
        ----------
        columns
            By field name.
        rows, hour
            ``(n,)`` positions in the columns, and the hour of each.
        """
        prints = fingerprints([columns[name] for name in COMBINATION], rows)
        if len(self._places) > MAX_CACHED:
            self._places, self._hour = NumberTable(), self._hour[:0]
        places, _ = self._places.intern(prints)
        self._hour = grown(self._hour, len(self._places), _NO_HOUR)
        self.user = grown(self.user, len(self._places), 0)
        unseen = (self._hour[places] < hour).nonzero()[0]
        if len(unseen):
            np.maximum.at(self._hour, places[unseen], hour[unseen].astype(np.int32))
        return places, unseen
