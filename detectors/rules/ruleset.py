"""A tenant's rules: checked before they are applied, compiled once, and never a reason to stop."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from detectors.rules.compiled import Rule
from detectors.rules.faults import RuleError
from schemas.event import Kind

# Texts, a millisecond each to compile; many tenants have the same ones.
MAX_COMPILED: Final = 4_096


@lru_cache(maxsize=MAX_COMPILED)
def compiled(text: str, stored: bool = False) -> tuple[Rule, ...]:
    """Return the rules of a text.

    Parameters
    ----------
    stored
        Whether it is a tenant's already: an address that is none, once taken, then matches nothing.

    Raises
    ------
    RuleError
        With everything that is wrong with it.
    """
    # pySigma takes a tenth of a second to import, and most processes meet no rule.
    from detectors.rules.sigma import read

    try:
        return read(text, stored)
    except RuleError:
        raise
    # A parser that is not ours, on texts that are not either: whatever it trips over, the worker goes on.
    except Exception as error:
        raise RuleError([f"cannot be read: {type(error).__name__}: {error}"]) from error


def check_rules(texts: Sequence[str], stored: bool = False) -> list[str]:
    """Return what is wrong with a tenant's ``rules``, one line for a person each; empty: nothing.

    Parameters
    ----------
    stored
        As `compiled`.

    >>> check_rules(["title: Exports"])[0]
    'rules[0]: Exports: logsource: missing; fix: {product: tenantwatch, category: auth}'
    """
    faults: list[str] = []
    places: dict[str, int] = {}
    for place, text in enumerate(texts):
        try:
            rules = compiled(text, stored)
        except RuleError as error:
            faults += [f"rules[{place}]: {fault}" for fault in error.faults]
            continue
        for rule in rules:
            first = places.setdefault(rule.headline.key, place)
            if first != place:
                faults.append(f"rules[{place}]: {rule.headline.title}: the same as rules[{first}]")
    return faults


def rules_for(texts: Sequence[str], kind: Kind) -> tuple[Rule, ...]:
    """Return the rules of a tenant that look at events of a kind.

    A text that `check_rules` faults is passed over: a tenant's record that got past ``tenantwatch rules
    apply`` must not stop the worker that reads it.

    >>> rules_for(["no rule"], "auth")
    ()
    """
    return tuple({rule.headline.key: rule for rule in _good(texts) if rule.kind == kind}.values())


def _good(texts: Sequence[str]) -> Iterator[Rule]:
    for text in texts:
        try:
            yield from compiled(text, True)
        except RuleError:
            continue  # told by who took the record (streams.directory)
