"""The benign month that false alarms are counted on."""

import gzip
import json
import subprocess
import sys
from collections import Counter, defaultdict, deque
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from backtested import backtest

from bench import benign

# Enough for new colleagues and leavers, an audit, a clean-up, and a load test by the last of them.
TENANTS, DAYS, LARGEST = 8, 12, 60


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    """Return the events of some small companies."""
    return [*map(json.loads, benign.events(TENANTS, DAYS, seed=3, largest=LARGEST))]


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


@pytest.mark.thorough
def test_nobody_goes_beyond_their_limit_but_a_planned_test(told: list[dict[str, Any]]) -> None:
    """An alert about a rate would be right otherwise."""
    settings = benign.settings(TENANTS, DAYS, 3, largest=LARGEST)
    recent: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)
    worst = Counter[tuple[str, str]]()
    for event in told:
        if event["kind"] != "request":
            continue
        who = event["tenant_id"], event.get("user_id") or event["api_key_id"]
        limit = settings[who[0]].requests_allowed()
        times = recent[who]
        times.append(datetime.fromisoformat(event["time"]).timestamp())
        while times[0] <= times[-1] - limit.window_s:
            times.popleft()
        worst[who] = max(worst[who], 100 * len(times) // limit.requests)
    beyond = {who for who, percent in worst.items() if percent > 100}
    assert beyond == {("tenant-7", "key-test")}
    assert any(60 < percent <= 100 for percent in worst.values())


@pytest.mark.thorough
def test_nobody_gets_at_what_is_another_tenants(told: list[dict[str, Any]]) -> None:
    """Each of them is critical by contract; links that lead there are refused."""
    assert {event["outcome"] for event in told if "resource_tenant_id" in event} == {"failure"}


@pytest.mark.thorough
def test_rights_are_given_and_taken_by_those_who_may(told: list[dict[str, Any]]) -> None:
    """Only the first of a company and a launch's service change them: nobody raises their own."""
    changes = [event for event in told if event.get("action") in ("grant", "revoke")]
    assert {event["action"] for event in changes} == {"grant", "revoke"}
    for event in changes:
        assert event["user_id"] in (
            f"user-{event['tenant_id'].removeprefix('tenant-')}-0",
            "svc-provisioning",
        )


def test_a_file_ending_in_gz_is_compressed(tmp_path: Path) -> None:
    """The command writes the events that the function yields."""
    path = tmp_path / "month.ndjson.gz"
    command = [sys.executable, "-m", "bench.benign", "--tenants", "1", "--days", "1", "--out", str(path)]
    subprocess.run(command, check=True)
    assert gzip.decompress(path.read_bytes()).splitlines() == list(benign.events(tenants=1, days=1))
