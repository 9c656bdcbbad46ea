"""The benign month that false alarms are counted on."""

import json
from itertools import islice

from bench import benign
from tenantwatch.backtest import backtest


def test_the_same_seed_gives_the_same_month() -> None:
    """What a run counted can be counted again."""
    once, again = (list(islice(benign.events(tenants=3, days=7, seed=5), 2_000)) for _ in range(2))
    assert once == again
    assert once != list(islice(benign.events(tenants=3, days=7, seed=6), 2_000))


def test_every_event_is_valid_in_order_and_on_time() -> None:
    """None is rejected or late, so that none escapes the detectors."""
    lines = list(benign.events(tenants=3, days=7))
    times = [json.loads(line)["time"] for line in lines]
    assert times == sorted(times)
    result = backtest(lines, benign.settings(tenants=3, days=7))
    assert (len(result.rejected), result.events.total()) == (0, len(lines))
    assert not set(result.not_evaluated) - {"planned_test"}
    assert set(result.events) == {"auth", "access", "request"}
