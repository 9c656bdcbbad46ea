"""What a rule asks of an event's fields: tests of one field each, joined by and, or, not.

A test looks at values, not at rows: at each distinct value of a column once. A field that an event does not
have is None, which no test accepts but `Missing`; so the negation of a test accepts it.
"""

import ipaddress
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np

from schemas.batch import Bools
from schemas.columns import search
from schemas.tenant import meant_network

Comparison = Literal["lt", "lte", "gt", "gte"]
_COMPARE: Final[dict[Comparison, Callable[[Any, Any], bool]]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Among:
    """The field has one of some values.

    Parameters
    ----------
    field
        The contract's name, or ``attributes.`` and the attribute's.
    values
        Texts, in lower case unless `cased`, and numbers.
    cased
        Whether upper and lower case differ; in Sigma they do not.
    """

    field: str
    values: tuple[str | int | float, ...]
    cased: bool = False

    def accepts(self, values: Sequence[Any]) -> Bools:
        """Return ``(n,)`` which values the test accepts.

        >>> Among("user_id", ("root",)).accepts(["Root", "toor", None]).tolist()
        [True, False, False]
        """
        wanted = frozenset(self.values)
        # True equals 1 to Python, not to whoever writes a rule.
        return _flags(
            not isinstance(v, bool) and (v.lower() if isinstance(v, str) and not self.cased else v) in wanted
            for v in values
        )


@dataclass(frozen=True, slots=True)
class Is:
    """The attribute is true, or false."""

    field: str
    truth: bool

    def accepts(self, values: Sequence[Any]) -> Bools:
        """Return ``(n,)`` which values the test accepts."""
        return _flags(v is self.truth for v in values)


@dataclass(frozen=True, slots=True)
class Matches:
    """The field is a text in which a regular expression is found.

    Parameters
    ----------
    pattern
        Of RE2; in lower case where `lowered`.
    lowered
        Whether the text is looked at in lower case.
    """

    field: str
    pattern: str
    lowered: bool = False

    def accepts(self, values: Sequence[Any]) -> Bools:
        """Return ``(n,)`` which values the test accepts.

        >>> Matches("user_agent", "^curl/", lowered=True).accepts(["Curl/8.5", "not curl/8", 7]).tolist()
        [True, False, False]
        """
        texts = [v if isinstance(v, str) else None for v in values]
        return search([t and t.lower() for t in texts] if self.lowered else texts, self.pattern)


@dataclass(frozen=True, slots=True)
class Compared:
    """The field is a number on one side of another."""

    field: str
    comparison: Comparison
    number: float

    def accepts(self, values: Sequence[Any]) -> Bools:
        """Return ``(n,)`` which values the test accepts."""
        compare, number = _COMPARE[self.comparison], self.number
        return _flags(type(v) in (int, float) and compare(v, number) for v in values)


@dataclass(frozen=True, slots=True)
class Within:
    """The field is an IP address of a network."""

    field: str
    network: str

    def accepts(self, values: Sequence[Any]) -> Bools:
        """Return ``(n,)`` which values the test accepts.

        >>> Within("source_ip", "192.0.2.0/24").accepts(["192.0.2.7", "198.51.100.1", "::1"]).tolist()
        [True, False, False]
        """
        network = meant_network(self.network)
        return _flags(
            isinstance(v, str) and (address := _address(v)) is not None and address in network for v in values
        )


@dataclass(frozen=True, slots=True)
class Missing:
    """The event does not have the field, or null in it."""

    field: str

    def accepts(self, values: Sequence[Any]) -> Bools:
        """Return ``(n,)`` which values the test accepts."""
        return _flags(v is None for v in values)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds."""

    parts: tuple["Predicate", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple["Predicate", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: "Predicate"


Test = Among | Is | Matches | Compared | Within | Missing
Predicate = Test | AllOf | AnyOf | Not


def _flags(found: Any) -> Bools:
    return np.fromiter(found, np.bool_)


@lru_cache(maxsize=1 << 16)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
