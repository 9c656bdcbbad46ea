"""What the detectors say of a file's events, with settings of the tenants or the defaults."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.alert import Alert
from schemas.event import Kind
from schemas.tenant import Tenant
from streams.geography import Locate
from tenantwatch.backtest import Backtest, Trial
from tenantwatch.lines import RejectedLine, read_lines
from tenantwatch.ordering import in_order


@dataclass(frozen=True)
class BacktestResult:
    """What a backtest found.

    Parameters
    ----------
    alerts
        The last revision of each alert, in order of detection.
    events
        Good events by kind.
    not_evaluated
        How many of them detectors did not look at, by reason (`late`, `duplicate`).
    rejected
        Lines that are no events.
    """

    alerts: list[Alert]
    events: Counter[Kind]
    not_evaluated: Counter[str]
    rejected: list[RejectedLine]


def backtest(
    lines: Iterable[bytes], tenants: Mapping[str, Tenant] | None = None, locate: Locate | None = None
) -> BacktestResult:
    """Run the detectors over events in a file, as the worker would over a partition where none came late.

    Parameters
    ----------
    lines
        Newline-delimited JSON: an event, or an array of events of one kind, on each line.
    tenants
        Tenant to settings; defaults for those not named.
    locate
        Adds the positions of addresses.
    """
    rejected: list[RejectedLine] = []
    trial = Trial()
    run = Backtest([trial], tenants, locate)
    run.read(in_order(read_lines(lines, rejected)))
    return BacktestResult(trial.alerts(), run.events, run.not_evaluated, rejected)
