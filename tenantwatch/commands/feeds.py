"""What a backtest is fed with: files, or a tenant's events in the store."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from tenantwatch.commands.input import opened
from tenantwatch.commands.output import complain

if TYPE_CHECKING:
    from schemas.batch import EventBatch
    from streams.geography import Locate
    from tenantwatch.backtest import Backtest
    from tenantwatch.control import Control
    from tenantwatch.history import SettingsOf

REJECTED_SHOWN = 10


def locate_here() -> "Locate":
    """Return what adds the positions of addresses to events, as the settings say.

    Raises
    ------
    GeographyError
        The file that they name cannot be used.
    """
    from streams.geography import locate_with
    from tenantwatch.settings import Settings

    return locate_with(Settings().geoip_file)


def feed_files(
    run: "Backtest",
    files: Sequence[str],
    tenant_id: str | None,
    until: datetime | None,
    look: "Callable[[EventBatch], None]" = lambda batch: None,
    *,
    tell: bool = True,
) -> int:
    """Let a backtest read files, in order of time, and return how many lines were rejected.

    Parameters
    ----------
    tenant_id
        Only events of this tenant.
    until
        Only events before.
    look
        Is shown them first.
    tell
        Whether to say what was rejected.
    """
    from tenantwatch.ordering import in_order

    counts: list[int] = []
    for batch in in_order(_read(files, tenant_id, until, counts, tell=tell)):
        look(batch)
        run.read((batch,))
    return sum(counts)


def _read(
    files: Sequence[str], tenant_id: str | None, until: datetime | None, counts: list[int], *, tell: bool
) -> "Iterator[EventBatch]":
    """Yield what is chosen of files; `counts` is how many lines of each were rejected."""
    from tenantwatch.lines import RejectedLine, read_lines

    for file in files:
        rejected: list[RejectedLine] = []
        with opened(file) as source:
            yield from _chosen(read_lines(source.lines(), rejected), tenant_id, until)
        counts.append(len(rejected))
        if not tell:
            continue
        name = f"{source.name}, " if len(files) > 1 else ""
        for line, reason, detail in rejected[:REJECTED_SHOWN]:
            complain(f"{name}line {line}: {reason}: {detail}", "rejected")
        if (more := len(rejected) - REJECTED_SHOWN) > 0:
            complain(f"{name}and {more:,} more; `tenantwatch validate` shows all", "rejected")


def _chosen(
    batches: "Iterator[EventBatch]", tenant_id: str | None, until: datetime | None
) -> "Iterator[EventBatch]":
    from schemas.alert import to_ms

    for batch in batches:
        chosen = np.ones(len(batch), np.bool_)
        if tenant_id is not None:
            of_tenant = np.array([value == tenant_id for value in batch.tenant.values], np.bool_)
            chosen &= of_tenant[batch.tenant.codes]
        if until is not None:
            chosen &= batch.time_ms < to_ms(until)
        yield batch if chosen.all() else batch.select(np.flatnonzero(chosen))


def feed_store(
    run: "Backtest",
    control: "Control",
    tenant_id: str,
    settings_of: "SettingsOf",
    since: datetime,
    until: datetime,
) -> None:
    """Let a backtest see a tenant's stored events, as they were admitted when they came.

    Parameters
    ----------
    settings_of
        What they are enriched with.
    """
    from schemas.alert import to_ms
    from tenantwatch.history import history

    def page(kind: str, after_ms: int, until_ms: int, rows: int) -> bytes:
        found: Any = control.get(
            f"/history/{kind}", tenant_id=tenant_id, after_ms=after_ms, until_ms=until_ms, rows=rows
        )
        return bytes(found)

    for batch in history(page, settings_of, to_ms(since), to_ms(until)):
        run.fold(batch)


def settings_now(control: "Control", tenant_id: str) -> "SettingsOf":
    """Return a tenant's settings as they hold now, whatever events came with."""
    from detectors.tuning import tuned
    from schemas.tenant import Tenant
    from tenantwatch.commands.tenants import find_tenant
    from tenantwatch.directory import current_tuning

    now = tuned(Tenant.model_validate(find_tenant(control, tenant_id)), current_tuning(control))
    return lambda version, tuning: now


def settings_then(control: "Control", tenant_id: str) -> "SettingsOf":
    """Return a tenant's settings as they held when events came; what is nowhere stored has the defaults."""
    from functools import cache

    from detectors.tuning import tuned
    from schemas.tenant import Tenant, unknown_tenant
    from schemas.tuning import Tuning

    tenants = control.get(f"/tenants/{tenant_id}/versions")
    tunings = control.get("/tuning")

    @cache
    def settings_of(version: int, tuning: int) -> "Tenant":
        told = tenants.get(str(version))
        tenant = Tenant.model_validate(told) if told else unknown_tenant(tenant_id)
        return tuned(tenant, Tuning.model_validate(tunings.get(str(tuning), {})))

    return settings_of
