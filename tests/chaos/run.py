"""One run: rounds of faults, the end of the traffic, the reference, the verdict."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from streams.topics import ALERTS, DEAD_LETTERS, TOPIC_OF, ensure_topics
from tests.chaos import stored, topics
from tests.chaos.faults import Fault, Scene
from tests.chaos.sending import Sending
from tests.chaos.stage import Mode, Stage, Worker
from tests.chaos.traffic import Plan
from tests.chaos.verdict import FAULTLESS, Account, Published, Verdict, judge

PARTITIONS: Final = 12
ROUND_S: Final = 10.0
DRAIN_S: Final = 120.0
STILL_S: Final = 2.0
DIRECTORY_CHANGES: Final = 0.6


@dataclass(frozen=True)
class Setup:
    """What a run is to be.

    Parameters
    ----------
    folder
        Where everything is kept; emptied first.
    per_round
        Events sent in each round.
    faults
        One for each round.
    """

    mode: Mode
    faults: Sequence[Fault]
    seed: int
    folder: Path
    per_round: int = 4_000
    say: Callable[[str], None] = print


@dataclass
class Outcome:
    """What is written to ``build/chaos.json``."""

    setup: Setup
    verdict: Verdict
    faults: dict[str, int]
    stalls: list[str]
    producer_failures: list[str]
    seconds: float
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def faultless(self) -> bool:
        """Whether every guarantee held, and nothing hung."""
        return self.verdict.faultless and not self.stalls and not self.producer_failures

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        kills = sum(n for name, n in self.faults.items() if name.startswith("kill_"))
        counts = self.verdict.counts
        first = {name: counts[name] for name in ("lost", "doubled", "alerts_missing", "alerts_extra")}
        return {
            "mode": self.setup.mode,
            "seed": self.setup.seed,
            "rounds": len(self.setup.faults),
            "kills": kills,
            "sent": counts["sent"],
            **first,
            **{name: n for name, n in counts.items() if name not in (*first, "sent")},
            "stalls": self.stalls,
            "producer_failures": self.producer_failures,
            "faults": self.faults,
            "seconds": round(self.seconds, 1),
            **self.more,
            "alerts_by_kind": self.verdict.alerts,
            "examples": self.verdict.examples,
        }


def run(setup: Setup) -> Outcome:
    """Break things for some rounds, then compare."""
    began = time.monotonic()
    shutil.rmtree(setup.folder, ignore_errors=True)
    setup.folder.mkdir(parents=True)
    stage = Stage(setup.folder, setup.mode)
    try:
        ensure_topics(stage.kafka.bootstrap, partitions=PARTITIONS)
        progress = topics.Progress(stage.kafka.bootstrap, PARTITIONS)
        try:
            return _run(setup, stage, progress, began)
        finally:
            progress.close()
    finally:
        stage.close()


def _run(setup: Setup, stage: Stage, progress: topics.Progress, began: float) -> Outcome:
    plan = Plan(setup.seed, PARTITIONS)
    sending = Sending(
        stage.kafka.bootstrap,
        plan.messages(len(setup.faults) * setup.per_round),
        per_round=setup.per_round,
        round_s=ROUND_S,
        seed=setup.seed,
    )
    sending.set_up(plan.tenant_ids)
    _break(setup, stage, progress, sending, plan.tenant_ids)
    stage.round += 1
    stage.revive()
    setup.say("the rest is sent")
    sending.finish(plan.finale())
    messages = [m for topic in TOPIC_OF.values() for m in topics.read(stage.kafka.bootstrap, topic)]
    setup.say(f"{len(messages)} messages; waiting until all are handled")
    _drain(stage, progress, messages)
    account = _account(stage)
    for worker in stage.workers:
        if stage.stop(worker) != 0:
            stage.stalls.append(f"{worker.name} ended with {worker.exit_code} when it was asked to stop")
    published = Published(
        topics.read(stage.kafka.bootstrap, ALERTS), topics.read(stage.kafka.bootstrap, DEAD_LETTERS)
    )
    broken = stored.read(stage.store.url if stage.store else str(stage.workers[0].data_dir))
    setup.say("the same again, undisturbed")
    reference = _refer(stage, progress, messages)
    verdict = judge(messages, sending.acknowledged, published, account, broken, reference)
    return Outcome(
        setup,
        verdict,
        dict(sorted(stage.counts.items())),
        stage.stalls,
        sending.failures,
        time.monotonic() - began,
        {"aborted": len(sending.transactions.aborted), "unsure_transactions": sending.transactions.unsure},
    )


def _break(
    setup: Setup, stage: Stage, progress: topics.Progress, sending: Sending, tenant_ids: list[str]
) -> None:
    draw = Random(f"{setup.seed}/faults")
    scene = Scene(stage, progress, draw)
    version = 0
    for stage.round, fault in enumerate(setup.faults, 1):
        sending.next_round()
        began = time.monotonic()
        stage.note("round", fault=fault.__name__)
        changes = draw.sample(tenant_ids, 3) if draw.random() < DIRECTORY_CHANGES else []
        for tenant_id in changes:
            version += 1
            stage.counts["directory_changed"] += 1
            sending.change_directory(tenant_id, version)
        fault(scene)
        took_s = time.monotonic() - began
        setup.say(f"round {stage.round}: {fault.__name__}, {took_s:.1f} s, {sending.events} events sent")


def _drain(stage: Stage, progress: topics.Progress, messages: list[topics.Found]) -> None:
    """Wait until every message, failure by address and alert is committed, and nothing more comes."""
    wanted = topics.ends(messages)
    for attempt in range(2):
        deadline = time.monotonic() + DRAIN_S
        still_since = time.monotonic()
        before: object = None
        while time.monotonic() - still_since < STILL_S:
            stage.revive()
            all_wanted = {**wanted, **progress.own_ends()}
            behind = progress.behind(all_wanted)
            if behind or all_wanted != before:
                still_since, before = time.monotonic(), all_wanted
            if time.monotonic() > deadline:
                where = {f"{topic}/{number}": at for (topic, number), at in behind.items()}
                stage.stall(f"not everything was handled in {DRAIN_S:.0f} s (committed, end): {where}")
                break
            time.sleep(0.2)
        else:
            return
        if attempt == 0:
            # Stalled or lost? A fresh start tells.
            for worker in stage.workers:
                stage.kill(worker)


def _account(stage: Stage) -> Account:
    """Return what `tenantwatch reconcile` says, and what the workers have said on the way."""
    logs = [entry for worker in stage.workers for entry in worker.events("duplicates_collapsed")]
    gaps = [json.dumps(gap) for gap in stage.workers[0].ask("reconcile")["gaps"]]
    return Account(gaps, [json.dumps(entry) for entry in logs if entry["rows"]])


def _refer(stage: Stage, progress: topics.Progress, messages: list[topics.Found]) -> stored.Stored:
    """Let one worker with a fresh store handle the same messages in peace."""
    topics.forget_the_group(stage.kafka.bootstrap, PARTITIONS)
    worker = Worker("reference", "up", stage.folder, kafka=stage.kafka.bootstrap)
    stage.workers = [worker]
    stage.revive()
    _drain(stage, progress, messages)
    stage.stop(worker)
    return stored.read(str(worker.data_dir))


def describe(outcome: Outcome) -> str:
    """Return the outcome in a few lines."""
    counts = outcome.verdict.counts
    wrong = [f"{name} {counts[name]}" for name in FAULTLESS if counts[name]]
    wrong += outcome.stalls + outcome.producer_failures
    return (
        f"{counts['sent']} events, {counts['revisions']} revisions of {counts['alerts']} alerts, "
        f"{counts['dead_letters']} dead letters: " + ("; ".join(wrong) or "nothing lost, nothing twice")
    )
