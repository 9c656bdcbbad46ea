"""Requests of a batch, counted by route or tenant and minute."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from detectors.clock import MINUTE_MS
from detectors.columns import named
from detectors.segments import by_key
from detectors.service_health_traffic import (
    COUNTS,
    ERRORS,
    LOG_UNIT,
    LOGS,
    NEVER,
    REQUESTS,
    SLOW,
    SQUARES,
    TIMED,
    Traffic,
)
from schemas.batch import Bools, Column, EventBatch, Floats, Int64s
from schemas.columns import ArrowColumn, numbers_of

# Faster than this nothing is told apart: a logarithm needs an end.
MIN_DURATION_MS = 0.1


class Samples(NamedTuple):
    """Requests, in order of arrival.

    Parameters
    ----------
    time_ms
        ``(n,)`` never running backwards within a tenant.
    counts
        ``(n, 6)`` what each adds to the counts of a minute.
    """

    time_ms: Int64s
    counts: Int64s


def _numbers(column: Column, rows: Int64s) -> Floats:
    """Return ``(n,)`` numbers at the given positions, NaN where there is none."""
    if isinstance(column, ArrowColumn):
        found = numbers_of(column.array)[rows].astype(np.float64)
        found[~named(column)[rows]] = np.nan
        return found
    return np.array([np.nan if column[row] is None else column[row] for row in rows.tolist()], np.float64)


def sampled(batch: EventBatch, rows: Int64s, time_ms: Int64s, slow_ms: Int64s) -> Samples:
    """Return what the rows of a batch count for.

    A request failed if its status is 500 or more: what a client did wrong says nothing of the service's
    health. Where there is no status, the outcome tells.

    Parameters
    ----------
    rows, time_ms
        ``(n,)`` positions, and times.
    slow_ms
        ``(n,)`` durations above which each is slow.
    """
    status = _numbers(batch.columns["http_status"], rows)
    duration_ms = _numbers(batch.columns["duration_ms"], rows)
    timed = ~np.isnan(duration_ms)
    counts = np.zeros((len(rows), COUNTS), np.int64)
    counts[:, REQUESTS] = 1
    counts[:, ERRORS] = np.where(np.isnan(status), batch.failed[rows], status >= 500)
    counts[:, SLOW] = timed & (duration_ms > slow_ms)
    counts[:, TIMED] = timed
    logs = np.log2(np.maximum(np.where(timed, duration_ms, 1.0), MIN_DURATION_MS))
    counts[:, LOGS] = np.rint(LOG_UNIT * logs).astype(np.int64)
    counts[:, SQUARES] = counts[:, LOGS] ** 2
    return Samples(time_ms, counts)


@dataclass(slots=True)
class Minutes:
    """Minutes of keys, sorted by key and then by time.

    Parameters
    ----------
    slot, minute, first_ms, last_ms
        ``(g,)`` number of the key, minute since 1970, and its first and latest request.
    counts
        ``(g, 6)``.
    row, error_row, slow_row
        ``(g,)`` positions of the latest request, of the latest that failed, and that was slow; -1: none in
        this batch.
    fresh
        Whether the minute begins in this batch.
    closed
        Whether it is over: the tenant's clock is in a later one.
    """

    slot: Int64s
    minute: Int64s
    first_ms: Int64s
    last_ms: Int64s
    counts: Int64s
    row: Int64s
    error_row: Int64s
    slow_row: Int64s
    fresh: Bools
    closed: Bools

    def __len__(self) -> int:
        return len(self.slot)

    def at(self, rows: Int64s) -> "Minutes":
        """Return the minutes at some positions."""
        return Minutes(*(getattr(self, field.name)[rows] for field in fields(self)))


def _grouped(slot: Int64s, samples: Samples) -> Minutes:
    # Small numbers are sorted ten times as fast.
    order = np.argsort(slot.astype(np.uint16), kind="stable") if slot.max() < 1 << 16 else by_key(slot)
    slot, time_ms, counts = slot[order], samples.time_ms[order], samples.counts[order]
    minute = time_ms // MINUTE_MS
    starts = np.flatnonzero(np.append(True, (slot[1:] != slot[:-1]) | (minute[1:] != minute[:-1])))
    last = np.append(starts[1:], len(order)) - 1

    def latest(flags: Int64s) -> Int64s:
        return np.maximum.reduceat(np.where(flags > 0, order, NEVER), starts)

    return Minutes(
        slot[starts],
        minute[starts],
        time_ms[starts],
        time_ms[last],
        np.add.reduceat(counts, starts, axis=0),
        order[last],
        latest(counts[:, ERRORS]),
        latest(counts[:, SLOW]),
        np.ones(len(starts), np.bool_),
        np.zeros(len(starts), np.bool_),
    )


def _open(traffic: Traffic, slot: Int64s) -> Minutes:
    """Return the minutes that were not over before the batch."""
    nothing = np.full(len(slot), NEVER, np.int64)
    no = np.zeros(len(slot), np.bool_)
    return Minutes(
        slot,
        traffic.minute[slot],
        traffic.first_ms[slot],
        traffic.last_ms[slot],
        traffic.counts[slot],
        nothing,
        nothing,
        nothing,
        no,
        no,
    )


def take_minutes(traffic: Traffic, slot: Int64s, samples: Samples, now_minute: Int64s) -> Minutes:
    """Return the minutes that a batch adds to, and those that end with it; no others stay open.

    Parameters
    ----------
    traffic
        Its open minutes are taken out; `put_back` keeps those that are still not over.
    slot
        ``(n,)`` number of each sample's key.
    now_minute
        ``(k,)`` the minute in which the clock of each key's tenant is.
    """
    k = len(now_minute)
    found = _grouped(slot, samples) if len(slot) else _open(traffic, slot)
    firsts = np.flatnonzero(np.diff(found.slot, prepend=NEVER))
    on = firsts[traffic.minute[found.slot[firsts]] == found.minute[firsts]]
    going_on = found.slot[on]
    found.counts[on] += traffic.counts[going_on]
    found.first_ms[on] = traffic.first_ms[going_on]
    found.fresh[on] = False
    traffic.minute[going_on] = NEVER
    over = np.flatnonzero((traffic.minute[:k] != NEVER) & (traffic.minute[:k] < now_minute))
    if len(over):
        before = _open(traffic, over)
        traffic.minute[over] = NEVER
        parts = [(getattr(before, f.name), getattr(found, f.name)) for f in fields(found)]
        found = Minutes(*(np.concatenate(pair) for pair in parts))
        found = found.at(np.lexsort((found.minute, found.slot)))
    found.closed = found.minute < now_minute[found.slot]
    return found


def put_back(traffic: Traffic, minutes: Minutes) -> None:
    """Keep the minutes that are not over."""
    rows = np.flatnonzero(~minutes.closed)
    slot = minutes.slot[rows]
    traffic.minute[slot] = minutes.minute[rows]
    traffic.first_ms[slot] = minutes.first_ms[rows]
    traffic.counts[slot] = minutes.counts[rows]
