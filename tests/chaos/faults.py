"""What is done to the processes, one function a fault; the seed chooses one for each round."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.chaos.stage import READY_S, SESSION_TIMEOUT_S, Mode, Stage, Worker
from tests.chaos.topics import Progress

# From the start of the process to its first inserts: imports, the engine, joining, recovery.
STARTING_S: Final = (0.3, 5.0)
RUNNING_S: Final = (0.0, 2.5)
# Longer than the group waits for a silent member: it wakes up as a zombie.
FROZEN_S: Final = (SESSION_TIMEOUT_S + 1.0, SESSION_TIMEOUT_S + 4.0)
HICCUP_S: Final = (0.2, SESSION_TIMEOUT_S - 1.0)
AWAY_S: Final = (0.0, 3.0)
PAUSED_S: Final = (1.0, 8.0)


@dataclass(frozen=True)
class Scene:
    """What a fault may act on.

    Parameters
    ----------
    draw
        All chance comes from here.
    """

    stage: Stage
    progress: Progress
    draw: Random

    def sleep(self, span_s: tuple[float, float]) -> None:
        """Wait for a random time."""
        time.sleep(self.draw.uniform(*span_s))

    def victim(self) -> Worker:
        """Return one of the workers."""
        return self.draw.choice(self.stage.workers)

    def await_commit(self) -> None:
        """Wait until the group commits something."""
        before = self.progress.committed()
        deadline = time.monotonic() + READY_S
        while True:
            now = self.progress.committed()
            if now and now != before:
                return
            if time.monotonic() > deadline:
                self.stage.stall(f"nothing was committed for {READY_S:.0f} s", committed=str(now))
                return
            time.sleep(0.01)


Fault = Callable[[Scene], None]


def kill_running(scene: Scene) -> None:
    """Kill -9 a worker while it handles events."""
    scene.stage.await_ready()
    scene.sleep(RUNNING_S)
    scene.stage.kill(scene.victim())


def kill_starting(scene: Scene) -> None:
    """Kill -9 a worker while it starts, is assigned partitions or recovers their state."""
    worker = scene.victim()
    scene.stage.kill(worker)
    scene.stage.revive()
    scene.sleep(STARTING_S)
    scene.stage.kill(worker)


def kill_recovered(scene: Scene) -> None:
    """Kill -9 a worker as soon as it says that it is ready: it handles what was redelivered."""
    worker = scene.victim()
    scene.stage.kill(worker)
    scene.stage.revive()
    scene.stage.await_ready(worker)
    scene.sleep((0.0, 0.4))
    scene.stage.kill(worker)


def kill_committed(scene: Scene) -> None:
    """Kill -9 a worker right after a commit."""
    scene.stage.await_ready()
    scene.await_commit()
    scene.sleep((0.0, 0.05))
    scene.stage.kill(scene.victim())


def kill_two(scene: Scene) -> None:
    """Kill -9 two workers at once."""
    scene.stage.await_ready()
    scene.sleep(RUNNING_S)
    for worker in scene.draw.sample(scene.stage.workers, 2):
        scene.stage.kill(worker)


def terminate(scene: Scene) -> None:
    """Ask a worker to stop while it handles events."""
    scene.stage.await_ready()
    scene.sleep(RUNNING_S)
    scene.stage.count("terminate_worker")
    scene.stage.stop(scene.victim())


def terminate_starting(scene: Scene) -> None:
    """Ask a worker to stop while it starts or joins the group."""
    worker = scene.victim()
    scene.stage.kill(worker)
    scene.stage.revive()
    scene.sleep((1.5, 6.0))
    scene.stage.count("terminate_worker")
    scene.stage.stop(worker)


def freeze(scene: Scene) -> None:
    """Stop a worker for longer than its session, then let it go on: a zombie."""
    _pause(scene, FROZEN_S, "freeze_worker")


def hiccup(scene: Scene) -> None:
    """Stop a worker for less than its session."""
    _pause(scene, HICCUP_S, "hiccup_worker")


def _pause(scene: Scene, span_s: tuple[float, float], name: str) -> Worker:
    scene.stage.await_ready()
    scene.sleep(RUNNING_S)
    worker = scene.victim()
    scene.stage.count(name, worker=worker.name)
    worker.signal(signal.SIGSTOP)
    scene.sleep(span_s)
    worker.signal(signal.SIGCONT)
    scene.stage.note("resumed", worker=worker.name)
    scene.sleep(RUNNING_S)
    return worker


def kill_frozen(scene: Scene) -> None:
    """Stop a worker for longer than its session, let it go on and kill -9 it a moment later."""
    scene.stage.kill(_pause(scene, FROZEN_S, "freeze_worker"))


def kafka_kill(scene: Scene) -> None:
    """Kill -9 Kafka and start it again."""
    scene.stage.await_ready()
    scene.sleep(RUNNING_S)
    scene.stage.count("kill_kafka")
    scene.stage.kafka.kill()
    scene.sleep(AWAY_S)
    scene.stage.kafka.start()
    scene.stage.note("kafka_started")
    scene.sleep(RUNNING_S)


def kafka_pause(scene: Scene) -> None:
    """Stop Kafka for a while."""
    scene.stage.await_ready()
    scene.sleep(RUNNING_S)
    scene.stage.count("pause_kafka")
    scene.stage.kafka.pause()
    scene.sleep(PAUSED_S)
    scene.stage.kafka.resume()
    scene.sleep(RUNNING_S)


def kill_without_kafka(scene: Scene) -> None:
    """Kill -9 a worker while Kafka is paused: nothing can be committed, rows may be stored."""
    scene.stage.await_ready()
    scene.stage.count("pause_kafka")
    scene.stage.kafka.pause()
    scene.sleep(RUNNING_S)
    scene.stage.kill(scene.victim())
    scene.stage.kafka.resume()


def power_cut(scene: Scene) -> None:
    """Kill -9 Kafka and a worker together."""
    scene.stage.await_ready()
    scene.sleep(RUNNING_S)
    scene.stage.count("kill_kafka")
    scene.stage.kafka.kill()
    scene.stage.kill(scene.victim())
    scene.stage.kafka.start()
    scene.stage.note("kafka_started")


def store_kill(scene: Scene) -> None:
    """Kill -9 the ClickHouse server and start it again."""
    store = scene.stage.store
    assert store is not None
    scene.stage.await_ready()
    scene.sleep(RUNNING_S)
    scene.stage.count("kill_store")
    store.kill()
    scene.sleep(AWAY_S)
    store.start()
    scene.stage.note("store_started")
    scene.sleep(RUNNING_S)


def store_pause(scene: Scene) -> None:
    """Stop the ClickHouse server for a while; sometimes kill a worker meanwhile."""
    store = scene.stage.store
    assert store is not None
    scene.stage.await_ready()
    scene.sleep(RUNNING_S)
    scene.stage.count("pause_store")
    store.pause()
    scene.sleep(PAUSED_S)
    if scene.draw.random() < 0.5:
        scene.stage.kill(scene.victim())
    store.resume()
    scene.sleep(RUNNING_S)


def join_and_leave(scene: Scene) -> None:
    """Let another worker join in mid-stream, and leave in peace or by kill -9."""
    stage = scene.stage
    stage.await_ready()
    guest = stage.new_worker("guest")
    stage.count("worker_joined")
    guest.start(f"round {stage.round}")
    try:
        if scene.draw.random() < 0.7:
            stage.await_ready(guest)
        scene.sleep(RUNNING_S)
        if scene.draw.random() < 0.5:
            stage.kill(guest)
        else:
            stage.stop(guest)
    finally:
        guest.kill()


# How often each is chosen, in proportion.
EMBEDDED: Final[dict[Fault, int]] = {
    kill_running: 5,
    kill_starting: 4,
    kill_recovered: 4,
    kill_committed: 4,
    terminate: 2,
    terminate_starting: 1,
    freeze: 2,
    hiccup: 1,
    kill_frozen: 1,
    kafka_kill: 2,
    kafka_pause: 2,
    kill_without_kafka: 2,
    power_cut: 2,
}
CLUSTER: Final[dict[Fault, int]] = {
    kill_running: 4,
    kill_starting: 2,
    kill_recovered: 2,
    kill_committed: 2,
    kill_two: 2,
    terminate: 2,
    terminate_starting: 1,
    freeze: 4,
    hiccup: 1,
    kill_frozen: 1,
    kafka_kill: 1,
    kafka_pause: 1,
    power_cut: 1,
    store_kill: 3,
    store_pause: 3,
    join_and_leave: 3,
}


def choose(mode: Mode, rounds: int, seed: int) -> list[Fault]:
    """Return a fault for each round: as from a pack of cards, so that none is rare in a long run."""
    weights = EMBEDDED if mode == "embedded" else CLUSTER
    draw = Random(f"{seed}/rounds")
    chosen: list[Fault] = []
    while len(chosen) < rounds:
        pack = [fault for fault, weight in weights.items() for _ in range(weight)]
        draw.shuffle(pack)
        chosen += pack
    return chosen[:rounds]
