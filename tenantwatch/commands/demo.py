"""The command that shows everything once: demo."""

import signal
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from tenantwatch.commands.output import AsJson, fail, note, print_json

DEFAULT_SEED = 7
DEFAULT_EVENTS = 150_000


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(demo)


Stay = Annotated[bool, typer.Option("--stay", help="Keep it running at the end, until Ctrl-C.")]
Seed = Annotated[int, typer.Option("--seed", help="Another seed is another day; the same seed the same.")]
Events = Annotated[
    int, typer.Option("--events", min=10_000, max=1_000_000, help="How many events the day has.")
]
Keep = Annotated[bool, typer.Option("--keep", help="Leave its data directory for you to look at.")]


def demo(
    as_json: AsJson = False,
    stay: Stay = False,
    keep: Keep = False,
    seed: Seed = DEFAULT_SEED,
    events: Events = DEFAULT_EVENTS,
) -> None:
    """Start everything, replay a day with seven planted attacks, show what was found.

    The day and its tenants are made up; the rest is real: Kafka, the worker, the store, signed webhooks.
    Everything is kept in a temporary directory and on free ports, so nothing of yours is touched.
    Exit code 1: an attack was missed, an alert was false, or anything sent did not arrive.
    """
    from tenantwatch.demo.pipeline import (
        STOP_SIGNALS,
        ChildPipeline,
        DemoError,
    )  # imports Kafka's client: only now
    from tenantwatch.demo.receiver import Receiver
    from tenantwatch.demo.run import run_demo
    from tenantwatch.demo.show import show_next, show_outcome, show_stay, shown_step, silent_step

    # As Ctrl-C: what was started is stopped on the way out.
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _interrupt)
    try:
        with Receiver() as receiver, ChildPipeline(keep=keep) as pipeline:
            try:
                outcome = run_demo(pipeline, receiver, seed, events, silent_step if as_json else shown_step)
            except KeyboardInterrupt:
                note("stopping …")
                raise
            if as_json:
                print_json(outcome.data())
                sys.stdout.flush()  # with --stay its reader would wait for it
            else:
                show_outcome(outcome)
            if stay:
                show_stay(pipeline.data_dir, pipeline.status["http"])
                with suppress(KeyboardInterrupt):
                    pipeline.wait_forever()
                note("stopping …")
    except DemoError as error:
        raise fail(str(error)) from error
    if keep:
        note(f"kept: {pipeline.data_dir} (set TENANTWATCH_DATA_DIR to it to look at it)")
    if not as_json:
        show_next()
    if outcome.problems():
        raise typer.Exit(1)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
