"""State to bytes and back: the verdicts to come are those of a detector that was never interrupted."""

import dataclasses
import json
import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from itertools import pairwise
from operator import eq
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenarios.streams import START_MS, as_set, batch_of, numbered, run
from sizes import examples, some
from test_detectors_contract import CUTS, DAY_MS, DETECTORS, MAKERS, SEEDS, SETTINGS, TENANTS, stream

from detectors import keys, known_ids, packing
from detectors.access_anomaly import AccessAnomalyState
from detectors.admission import Admission
from detectors.custom_rule import CustomRuleState
from detectors.failed_login import FailedLogin
from detectors.failed_login_state import FailedLoginState
from detectors.features import Recent, Values
from detectors.keys import Keys
from detectors.rate_breach import RateBreachState
from detectors.saved import Saved, walk
from detectors.service_health import ServiceHealthState
from detectors.sliding_log import SlidingLog
from detectors.snapshot import MAGIC, SnapshotError, dumps, freeze, loads
from detectors.spells import Spell
from schemas.tenant import unknown_tenant

STATES: dict[str, type[Any]] = {
    "access_anomaly": AccessAnomalyState,
    "admission": Admission,
    "custom_rule": CustomRuleState,
    "failed_login": FailedLoginState,
    "rate_breach": RateBreachState,
    "service_health": ServiceHealthState,
}
END_MS = START_MS + 400 * DAY_MS
SEVERAL_SEEDS = range(16)
FEW_SEEDS = range(4)


def folded(make: Callable[[], Any], seed: int, n: int = 150) -> Any:
    """Return the state of a detector that has seen the first events of a stream."""
    detector = make()
    state = detector.new_state()
    run(detector, stream(detector.kind, seed)[:n], [n // 3], SETTINGS, state)
    return state


def rest_of(
    detector: Any, state: Any, seed: int, start: int = 150, cuts: Iterable[int] = (200,)
) -> list[str]:
    """Return what the rest of a stream gives rise to, and in the end the passing of time."""
    events = stream(detector.kind, seed)[start:]
    alerts = run(detector, events, [cut - start for cut in cuts if cut > start], SETTINGS, state)
    alerts += detector.advance(state, dict.fromkeys(TENANTS, END_MS))
    return [alert.model_dump_json() for alert in alerts]


def assert_same(one: Any, other: Any) -> None:
    """Check that two states remember the same, all but where a log keeps its rings."""
    for node, twin in zip(walk(one), walk(other), strict=True):
        for name, value in node.values.items():
            if not isinstance(node.owner, SlidingLog) or name not in ("_arena", "_begin", "_used"):
                same = np.array_equal if isinstance(value, np.ndarray) else eq
                assert same(value, twin.values[name]), node.at(name)


def admitted(judge: Admission, seed: int, start: int, stop: int) -> list[int]:
    """Return the flags of a part of a stream in which every tenth event is a repeated one."""
    events = stream("auth", seed)
    for i in range(10, len(events), 10):
        events[i] = {**events[i - 1 - seed % 9], "time_ms": events[i]["time_ms"]}
    flags = judge.admit(batch_of("auth", events[start:stop], SETTINGS)).flags
    assert flags is not None
    return flags.tolist()


def go_on(folder: Path) -> None:
    """Go on from the snapshots in a folder, and write down the verdicts: run in a process of its own."""
    verdicts: dict[str, Any] = {"hash": hash("tenant-a")}
    for path in folder.glob("*.snapshot"):
        name, seed = path.stem.split("-")
        if name == "admission":
            verdicts[path.stem] = admitted(loads(Admission, path.read_bytes()), int(seed), 150, 300)
        else:
            detector = MAKERS[name]()
            state = loads(detector.new_state, path.read_bytes())
            verdicts[path.stem] = rest_of(detector, state, int(seed))
    (folder / "verdicts.json").write_text(json.dumps(verdicts))


@pytest.mark.parametrize("seeds", [FEW_SEEDS, pytest.param(SEVERAL_SEEDS, marks=pytest.mark.thorough)])
def test_another_process_goes_on_as_if_nothing_had_happened(tmp_path: Path, seeds: range) -> None:
    """Alerts and flags are the same to the last bit, though its hashes are others."""
    expected: dict[str, list[Any]] = {}
    for seed in seeds:
        for name, make in MAKERS.items():
            state = folded(make, seed)
            (tmp_path / f"{name}-{seed}.snapshot").write_bytes(dumps(freeze(state)))
            expected[f"{name}-{seed}"] = rest_of(make(), state, seed)
        judge = Admission()
        admitted(judge, seed, 0, 150)
        (tmp_path / f"admission-{seed}.snapshot").write_bytes(dumps(freeze(judge)))
        expected[f"admission-{seed}"] = admitted(judge, seed, 150, 300)
    environment = {**os.environ, "PYTHONHASHSEED": "4321"}
    subprocess.run([sys.executable, __file__, str(tmp_path)], env=environment, check=True)
    verdicts = json.loads((tmp_path / "verdicts.json").read_text())
    assert verdicts.pop("hash") != hash("tenant-a")
    assert verdicts == expected
    assert all(any(verdicts[f"{name}-{seed}"] for seed in seeds) for name in (*MAKERS, "admission"))


@DETECTORS
def test_the_streams_of_this_suite_leave_something_to_remember(make: Callable[[], Any]) -> None:
    """Snapshots of states in which nothing is open would prove little."""
    open_of: dict[str, int] = {}
    spells = 0
    for seed in SEVERAL_SEEDS:
        for node in walk(folded(make, seed)):
            kept = map(Spell.unpacked, node.values.get("spells", ()))
            spells += len([spell for spell in kept if spell.recent])
            if "open" in node.values:
                open_of[node.path] = open_of.get(node.path, 0) + len(node.values["open"])
    if make().name == "service_health":
        # These take days: test_detectors_service_health.py interrupts them.
        del open_of["volume.episodes"], open_of["silences.episodes"]
    if make().name == "failed_login":
        # Nobody says where these addresses are: test_detectors_travel.py goes through snapshots, too.
        del open_of["travel.journeys.episodes"]
    assert all(open_of.values())
    assert spells or make().name in ("rate_breach", "service_health", "custom_rule")


@DETECTORS
@given(seed=SEEDS, at=st.integers(0, 300), cuts=CUTS, sweep_min_keys=st.sampled_from([0, 4_096]))
@examples(6, thorough=40)
def test_a_restored_state_gives_the_same_alerts(
    make: Callable[[], Any], seed: int, at: int, cuts: list[int], sweep_min_keys: int
) -> None:
    """Wherever the stream is interrupted, however often keys are swept; and a second time as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "SWEEP_MIN_KEYS", sweep_min_keys)
        patch.setattr(packing, "CHUNK_ROWS", 3)
        state = folded(make, seed, at)
        data = dumps(freeze(state))
        restored = loads(make().new_state, data)
        again = loads(make().new_state, dumps(freeze(restored)))
        expected = rest_of(make(), state, seed, at, cuts)
        assert rest_of(make(), restored, seed, at, cuts) == expected
        assert rest_of(make(), again, seed, at, cuts) == expected
        assert_same(restored, state)


@given(seed=SEEDS, at=st.integers(0, 300), generation=st.sampled_from([1, 7, 16_384]))
@examples(6, thorough=40)
def test_a_restored_admission_gives_the_same_flags(seed: int, at: int, generation: int) -> None:
    """Watermarks and both generations of ids are those of the one that was interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_ids, "GENERATION", generation)
        judge = Admission()
        admitted(judge, seed, 0, at)
        restored = loads(Admission, dumps(freeze(judge)))
        assert_same(restored, judge)
        assert admitted(restored, seed, at, 300) == admitted(judge, seed, at, 300)


@given(seed=SEEDS, cuts=CUTS)
@examples(6, thorough=40)
def test_what_a_snapshot_leaves_out_changes_no_verdict(seed: int, cuts: list[int]) -> None:
    """The caches of access_anomaly may be emptied at any time."""
    detector = MAKERS["access_anomaly"]()
    events = stream(detector.kind, seed)
    state, alerts = detector.new_state(), []
    bounds = [0, *sorted(cuts), 300]
    for start, stop in pairwise(bounds):
        alerts += run(detector, events[start:stop], (), SETTINGS, state)
        known = state.first_seen.values.keys
        state.people.recent, state.first_seen.values = Recent(), Values()
        state.first_seen.values.keys = known
    assert as_set(alerts) == as_set(run(MAKERS["access_anomaly"](), events, cuts, SETTINGS))


@DETECTORS
@pytest.mark.parametrize("seed", some(SEVERAL_SEEDS, lambda seed: seed < 2))
def test_what_is_frozen_stays_as_it_is(make: Callable[[], Any], seed: int) -> None:
    """Later folds do not show in it, so that it can be made bytes of beside them."""
    state = folded(make, seed)
    frozen = freeze(state)
    before = dumps(frozen)
    assert dumps(frozen) == before
    rest_of(make(), state, seed)
    assert dumps(frozen) == before
    assert dumps(freeze(state)) != before


def test_a_frozen_admission_stays_as_it_is() -> None:
    """What is admitted later does not show in it."""
    judge = Admission()
    admitted(judge, 1, 0, 150)
    frozen = freeze(judge)
    before = dumps(frozen)
    admitted(judge, 1, 150, 300)
    assert dumps(frozen) == before
    assert dumps(freeze(judge)) != before


def test_a_long_memory_of_a_tenant_not_met_again_yet_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long successes count comes with tenants' settings, and the first to come may ask for less."""
    monkeypatch.setattr(keys, "SWEEP_MIN_KEYS", 0)
    patient = unknown_tenant("tenant-a").model_copy(
        update={"detectors": {"failed_login": {"known_days": 365}}}
    )
    tenants = {"tenant-a": patient}

    def login(
        day: float, user_id: str, outcome: str = "success", tenant_id: str = "tenant-a"
    ) -> dict[str, Any]:
        at_ms = START_MS + int(day * DAY_MS)
        return {"time_ms": at_ms, "tenant_id": tenant_id, "user_id": user_id, "outcome": outcome,
                "source_ip": "192.0.2.1", "action": "login"}  # fmt: skip

    guessed = [login(200.1, "ana", "failure") for _ in range(6)]
    first = numbered([login(0, "ana"), login(200, "ben")])
    others = [login(200, f"user-{i}", tenant_id="tenant-b") for i in range(4)]
    later = numbered([*others, *guessed, login(200.1, "ana")])
    detector = FailedLogin()
    state = detector.new_state()
    run(detector, first, tenants=tenants, state=state)
    restored = loads(FailedLoginState, dumps(freeze(state)))
    expected = run(detector, later, [4], tenants, state)
    assert as_set(run(FailedLogin(), later, [4], tenants, restored)) == as_set(expected)
    assert {alert.classification for alert in expected} == {"brute_force"}


def test_gaps_in_the_arena_are_not_saved() -> None:
    """Rings that grew left their old places behind; the restored arena has none of these."""
    log = SlidingLog()
    log.reserve(2)
    for i in range(400):
        key, at_ms = np.array([i % 2]), np.array([START_MS + i])
        log.add(key, np.array([0]), at_ms, np.array([500]), np.array([10_000]))
    state = RateBreachState(log=log)
    restored = loads(RateBreachState, dumps(freeze(state))).log
    assert restored._used == int(restored._size.sum()) < log._used
    last = np.array([1]), np.array([199]), np.array([START_MS + 399])
    assert restored.counts(*last) == log.counts(*last) == 200


@pytest.mark.parametrize("name", STATES)
def test_damaged_bytes_are_told(name: str) -> None:
    """A flipped bit anywhere, or a part that is missing, is an error; it is never a memory gone wrong."""
    make = STATES[name]
    data = dumps(freeze(make() if name == "admission" else folded(MAKERS[name], 1)))
    draw = np.random.default_rng(1)
    for at in [*range(40), *draw.integers(0, len(data), 200).tolist()]:
        damaged = bytearray(data)
        damaged[at] ^= 1 << draw.integers(0, 8)
        with pytest.raises(SnapshotError):
            loads(make, bytes(damaged))
    for length in [*range(40), *draw.integers(0, len(data), 100).tolist(), len(data) - 1]:
        with pytest.raises(SnapshotError):
            loads(make, data[:length])
    with pytest.raises(SnapshotError):
        loads(make, data + b"\0")


def test_a_snapshot_is_compressed() -> None:
    """There are several copies of it on its way into the store: of all users of a partition, at once."""
    state = RateBreachState()
    state.log.window_ms = np.full(100_000, 60_000, np.uint32)
    assert len(dumps(freeze(state))) < state.log.window_ms.nbytes // 10


@given(st.binary(max_size=60))
@examples(50, thorough=200)
def test_other_bytes_are_told(data: bytes) -> None:
    """Also where magic and checksum happen to be right."""
    with pytest.raises(SnapshotError):
        loads(Admission, data)
    with pytest.raises(SnapshotError):
        loads(Admission, MAGIC + zlib.crc32(data).to_bytes(4, "little") + data)


def test_a_pickle_is_not_opened() -> None:
    """Whoever can write to the store must not be able to run code here."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("a pickle was opened",)

    data = pickle.dumps(Trap())
    with pytest.raises(SnapshotError):
        loads(Admission, data)
    with pytest.raises(SnapshotError):
        loads(Admission, MAGIC + zlib.crc32(data).to_bytes(4, "little") + data)


def test_another_version_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both versions are named; the state is then built from the store."""
    data = dumps(freeze(RateBreachState()))
    monkeypatch.setattr(RateBreachState, "format_version", 7)
    with pytest.raises(SnapshotError, match="format 6, this program reads format 7"):
        loads(RateBreachState, data)


def test_another_detectors_state_is_told() -> None:
    """Bytes of one state are not read as another's."""
    with pytest.raises(SnapshotError, match="found Admission"):
        loads(RateBreachState, dumps(freeze(Admission())))


def _changed(path: str, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return the bytes of a state of which an object's attributes were changed behind its back."""
    frozen = freeze(folded(MAKERS["failed_login"], 1))
    nodes = {node.path: node for node in frozen.nodes}
    values = dict(nodes[path].values)
    change(values)
    nodes[path] = nodes[path]._replace(values=values)
    return dumps(dataclasses.replace(frozen, nodes=tuple(nodes.values())))


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("guessing.pairs", lambda values: values.pop("known_ms")),
        ("", lambda values: values.pop("known_ms")),
        ("", lambda values: values.update(novelty=7)),
        ("", lambda values: values.update(known_ms="7")),
        ("guessing.pairs", lambda values: values.update(known_ms=values["known_ms"].astype(np.float64))),
        ("guessing.pairs", lambda values: values.update(known_ms=values["known_ms"].astype(np.int32))),
        ("guessing.pairs", lambda values: values.update(known_ms=7)),
        ("users", lambda values: values.update(spells=[b"no spell"])),
    ],
)
def test_a_layout_that_changed_unnoticed_is_told(path: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Missing, additional and retyped attributes are errors even under the right version."""
    assert loads(FailedLoginState, _changed(path, lambda values: None))
    with pytest.raises(SnapshotError, match="does not hold together"):
        loads(FailedLoginState, _changed(path, change))


class _Mystery:
    pass


@dataclasses.dataclass
class _State:
    """Of things that nobody said how to save."""

    format_version: ClassVar[int] = 1
    held: Any = None


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (_Mystery(), "held: _Mystery does not say how it is saved"),
        (np.int64(7), "held: int64 does not say how it is saved"),
        (np.array([object()]), "held: ndarray does not say how it is saved"),
        (iter(()), "held: tuple_iterator does not say how it is saved"),
    ],
)
def test_what_nobody_knows_how_to_save_is_told(held: Any, told: str) -> None:
    """With its place and the fix, at the first snapshot and not at the restart."""
    with pytest.raises(SnapshotError, match=told):
        freeze(_State(held))


def test_an_unsaved_attribute_that_is_gone_is_told() -> None:
    """One that was renamed would be saved under its new name, cache or not."""

    @dataclasses.dataclass
    class Stale:
        saved: ClassVar[Saved] = Saved(frozenset({"cache"}))
        cached: int = 7

    with pytest.raises(SnapshotError, match=r"held: has no cache; fix: .*Stale\.saved"):
        freeze(_State(Stale()))


def test_containers_of_undeclared_content_are_told() -> None:
    """A class that is no dataclass says what its lists hold."""
    known: Keys[Any] = Keys()
    known.more = []  # type: ignore[attr-defined]  # what a change to the class would add
    with pytest.raises(
        SnapshotError, match=r"held.more: nobody says what is in it; fix: Keys.saved.containers"
    ):
        freeze(_State(known))


def test_a_state_without_a_version_is_told() -> None:
    """Nobody could tell its bytes from those of a later layout."""
    with pytest.raises(SnapshotError, match="Keys has no format_version"):
        freeze(Keys())


if __name__ == "__main__":
    go_on(Path(sys.argv[1]))
