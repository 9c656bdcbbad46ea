"""The guarantees, in short: a few rounds of `make chaos`, and that its comparison sees what it should."""

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos import faults
from tests.chaos.run import Outcome, Setup, describe, run
from tests.chaos.stage import Mode
from tests.chaos.stored import Stored
from tests.chaos.topics import Found
from tests.chaos.traffic import LANES, Message, Plan
from tests.chaos.verdict import Account, Published, Verdict, judge
from tests.libchdb import LibraryMissing, library

SEED = 7
EVENTS = 3_000  # enough for revisions of every kind


def messages(seed: int) -> list[Message]:
    plan = Plan(seed)
    return [*plan.messages(5_000), *plan.finale()]


def test_the_same_seed_sends_the_same_messages() -> None:
    """Chance has no other source: a run that found something can be repeated."""
    assert messages(SEED) == messages(SEED)
    assert messages(SEED) != messages(SEED + 1)


def test_each_tenant_has_one_producer_and_each_partition_tenants_of_all() -> None:
    """Two producers could overtake each other, and the runs would not see the same order."""
    lanes: dict[str, set[str]] = {}
    for message in Plan(SEED).messages(5_000):
        lanes.setdefault(message.key, set()).add(message.lane)
    del lanes["tenant-nobody"]
    assert all(len(of_tenant) == 1 for of_tenant in lanes.values())
    assert len(lanes) == 12 * len(LANES)


@pytest.mark.parametrize("mode", ["embedded", "cluster"])
def test_every_fault_has_its_turn_in_fifty_rounds(mode: Any) -> None:
    """Faults are dealt as from a pack of cards."""
    wanted = faults.EMBEDDED if mode == "embedded" else faults.CLUSTER
    assert set(faults.choose(mode, 50, SEED)) == set(wanted)


def found(offset: int, *event_ids: str) -> Found:
    value = json.dumps([{"event_id": event_id} for event_id in event_ids]).encode()
    return Found("audit.auth", 0, offset, value, {})


# Two messages of three good events and a bad one, and one alert.
TRUTH = [found(0, "a", "bad-b"), found(2, "c", "d")]
ALERT = json.dumps(
    {"alert_id": "1", "classification": "c", "detector": "d", "revision": 1, "status": "open"}, sort_keys=True
)
RIGHT = Stored(
    {
        ("audit.auth", 0, offset, index): (1, event_id, ["hash"])
        for offset, index, event_id in ((0, 0, "a"), (2, 0, "c"), (2, 1, "d"))
    },
    {("1", 1): ALERT},
    {("audit.auth", 0, 0): "invalid_event"},
)
PUBLISHED = Published(
    [Found("audit.alerts", 0, 0, json.dumps({**json.loads(ALERT), "published_at": "now"}).encode(), {})],
    [
        Found(
            "audit.dead-letters",
            0,
            0,
            b"",
            {"source_topic": "audit.auth", "source_partition": "0", "source_offset": "0"},
        )
    ],
)
FINE = Account([], [])


def compare(broken: Stored, published: Published = PUBLISHED, account: Account = FINE) -> Verdict:
    acknowledged = [("audit.auth", 0, 0), ("audit.auth", 0, 2)]
    return judge(TRUTH, acknowledged, published, account, broken, RIGHT)


def with_rows(**changed: Any) -> Stored:
    rows = {at: changed.get(row[1], row) for at, row in RIGHT.rows.items()}
    return replace(RIGHT, rows={at: row for at, row in rows.items() if row})


def test_two_runs_that_agree_are_faultless() -> None:
    """A bad event is no row, and it is missed nowhere."""
    verdict = compare(RIGHT)
    assert verdict.faultless
    assert verdict.counts["sent"] == 3


@pytest.mark.parametrize(
    ("broken", "names"),
    [
        (with_rows(c=None), {"lost"}),
        (with_rows(c=(2, "c", ["hash"])), {"doubled"}),
        (with_rows(c=(1, "c", ["another"])), {"changed"}),
        (with_rows(c=(1, "x", ["hash"])), {"changed"}),
        (replace(RIGHT, rows={**RIGHT.rows, ("audit.auth", 0, 1, 0): (1, "x", ["hash"])}), {"unexpected"}),
        (replace(RIGHT, alerts={}), {"alerts_missing"}),
        (replace(RIGHT, alerts={("1", 1): ALERT, ("1", 2): ALERT}), {"alerts_extra"}),
        (
            replace(RIGHT, alerts={("1", 1): ALERT.replace("open", "updated")}),
            {"alerts_missing", "alerts_extra"},
        ),
        (replace(RIGHT, dead_letters={}), {"dead_letters_missing"}),
    ],
)
def test_what_two_runs_do_not_agree_on_is_told_by_its_name(broken: Stored, names: set[str]) -> None:
    """Rows by identity and content, alerts by revision and content."""
    verdict = compare(broken)
    assert verdict.examples.keys() == names
    assert not verdict.faultless


def test_a_wrong_revision_counts_even_where_a_right_one_replaced_it_in_the_table() -> None:
    """Webhooks and other services have seen it."""
    wrong = Found(
        "audit.alerts", 0, 1, json.dumps({**json.loads(ALERT), "score": 9, "published_at": ""}).encode(), {}
    )
    published = replace(PUBLISHED, alerts=[*PUBLISHED.alerts, wrong])
    assert compare(RIGHT, published).examples.keys() == {"alerts_extra"}


def test_rows_that_were_collapsed_and_gaps_in_the_ledger_are_faults() -> None:
    """Tidying up after a fault does not undo that it happened."""
    assert compare(RIGHT, account=Account(["gap"], [])).examples.keys() == {"gaps"}
    assert compare(RIGHT, account=Account([], ["row"])).examples.keys() == {"collapsed"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[Mode, Outcome]:
    """A few rounds of both kinds, side by side: most of their time is waiting for sessions to expire."""
    rounds: dict[Mode, list[faults.Fault]] = {"embedded": [faults.kill_committed, faults.kill_recovered]}
    with contextlib.suppress(LibraryMissing):
        library()
        rounds["cluster"] = [faults.freeze]
    setups = {
        mode: Setup(mode, chosen, SEED, tmp_path_factory.mktemp("chaos") / mode, EVENTS // len(chosen))
        for mode, chosen in rounds.items()
    }
    with ThreadPoolExecutor(len(setups)) as pool:
        return dict(zip(setups, pool.map(run, setups.values()), strict=True))


def assert_faultless(outcome: Outcome) -> None:
    assert outcome.faultless, describe(outcome)
    raised = {(kind.split()[0], kind.split()[2]) for kind in outcome.verdict.alerts}
    detectors = ("failed_login", "rate_breach", "access_anomaly")
    assert {(name, status) for name in detectors for status in ("open", "updated", "resolved")} <= raised


def test_one_worker_that_is_killed_loses_and_doubles_nothing(outcomes: dict[Mode, Outcome]) -> None:
    """Right after a commit, and while it handles again what it had not committed."""
    assert_faultless(outcomes["embedded"])


def test_three_workers_of_which_one_wakes_up_as_a_zombie_lose_and_double_nothing(
    outcomes: dict[Mode, Outcome],
) -> None:
    """It was stopped for longer than its session: others have its partitions when it goes on."""
    if "cluster" not in outcomes:
        pytest.skip("libchdb, for a ClickHouse server, cannot be fetched")
    assert_faultless(outcomes["cluster"])
