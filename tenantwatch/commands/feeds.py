"""What a backtest is fed with: files, or a tenant's events in the store."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from tenantwatch.commands.input import opened
from tenantwatch.commands.output import complain

if TYPE_CHECKING:
    from schemas.batch import EventBatch
    from schemas.tenant import Tenant
    from tenantwatch.backtest import Backtest
    from tenantwatch.control import Control

REJECTED_SHOWN = 10


def feed_files(run: "Backtest", files: Sequence[str], tenant_id: str | None, until: datetime | None) -> int:
    """Let a backtest read files one after the other; return how many lines were rejected, which are told.

    Parameters
    ----------
    tenant_id
        Only events of this tenant.
    until
        Only events before.
    """
    from tenantwatch.lines import RejectedLine, read_lines

    count = 0
    for file in files:
        rejected: list[RejectedLine] = []
        with opened(file) as source:
            run.read(_chosen(read_lines(source.lines(), rejected), tenant_id, until))
        count += len(rejected)
        name = f"{source.name}, " if len(files) > 1 else ""
        for line, reason, detail in rejected[:REJECTED_SHOWN]:
            complain(f"{name}line {line}: {reason}: {detail}", "rejected")
        if (more := len(rejected) - REJECTED_SHOWN) > 0:
            complain(f"{name}and {more:,} more; `tenantwatch validate` shows all", "rejected")
    return count


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
    run: "Backtest", control: "Control", settings: "Tenant", since: datetime, until: datetime
) -> None:
    """Let a backtest see a tenant's stored events, as they were admitted when they came.

    Parameters
    ----------
    settings
        The tenant, as it is enriched.
    """
    from schemas.alert import to_ms
    from tenantwatch.history import history

    def page(kind: str, after_ms: int, until_ms: int, rows: int) -> bytes:
        found: Any = control.get(
            f"/history/{kind}", tenant_id=settings.tenant_id, after_ms=after_ms, until_ms=until_ms, rows=rows
        )
        return bytes(found)

    for batch in history(page, lambda _: settings, to_ms(since), to_ms(until)):
        run.fold(batch)
