"""Events through the detectors with default settings, and with other budgets of false alarms beside them."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from detectors.tuning import overridden
from schemas.alert import Alert
from schemas.tenant import Tenant
from tenantwatch.backtest import Backtest, Trial
from tenantwatch.lines import RejectedLine, read_lines

# All that a tenant may set, in steps of ten.
BUDGETS: Final = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0)


class Tried(NamedTuple):
    """What the detectors said.

    Parameters
    ----------
    alerts
        With default settings.
    by_budget
        The same with each other budget, in the order given.
    events, tenant_weeks
        How many events there were, and how many tenants times weeks from the first to the last.
    rejected
        Lines that are no events.
    """

    alerts: list[Alert]
    by_budget: list[list[Alert]]
    events: int
    tenant_weeks: float
    rejected: list[RejectedLine]


def try_events(
    lines: Iterable[bytes], budgets: Sequence[float] = (), tenants: Mapping[str, Tenant] | None = None
) -> Tried:
    """Run lines of events through the detectors, once for all settings.

    Parameters
    ----------
    lines
        Newline-delimited JSON in order of time.
    budgets
        Values of ``budget.false_alarms_per_week`` to try besides the default.
    tenants
        Tenant to settings; defaults for those not named.

    >>> try_events([b"no event"]).rejected[0].line
    1
    """
    changes = (
        partial(overridden, overrides={"budget": {"false_alarms_per_week": budget}}) for budget in budgets
    )
    first, *others = trials = [Trial(), *map(Trial, changes)]
    run, rejected = Backtest(trials, tenants), list[RejectedLine]()
    run.read(read_lines(lines, rejected))
    alerts_of_others = [trial.alerts() for trial in others]
    return Tried(first.alerts(), alerts_of_others, run.events.total(), run.tenant_weeks(), rejected)
