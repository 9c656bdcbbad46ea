"""``tenantwatch``: the command line."""

import logging
import os
import sys
from importlib.metadata import version
from typing import Annotated, Final

import typer
from pydantic import ValidationError

from tenantwatch.commands import (
    alerts,
    backtest,
    backup,
    dead_letters,
    demo,
    doctor,
    events,
    evidence,
    explain,
    imports,
    keys,
    privacy,
    reconcile,
    replay,
    rules,
    run,
    score_series,
    seals,
    tenants,
    tuning,
    verify,
    webhooks,
    why_not,
)
from tenantwatch.commands.output import complain, print_line
from tenantwatch.mistakes import mistakes

# Errors whose message is for the person at the terminal, and says what to do.
KNOWN_ERRORS: Final[dict[str, tuple[str, ...]]] = {
    "api.serve": ("PortTaken",),
    "api.v1.key_ring": ("KeyRingError",),
    "store.backups.manifest": ("BackupError",),
    "store.database": ("StoreError", "StoreUnavailable"),
    "store.lock": ("StoreLocked",),
    "store.master_key": ("MasterKeyError",),
    "store.seals.evidence": ("BundleBroken",),
    "store.seals.keys": ("KeyUnusable",),
    "streams.broker": ("BrokerError",),
    "streams.geography": ("GeographyError",),
    "streams.producer": ("SendError",),
    "streams.topics": ("TopicError",),
    "tenantwatch.control": ("ControlError",),
    "tenantwatch.up": ("BrokerDied",),
}

app = typer.Typer(
    name="tenantwatch",
    help="Who did what, and is anything wrong? Audit trail and anomaly detection for multi-tenant services.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"tenantwatch {version('tenantwatch')}")
        raise typer.Exit


@app.callback()
def tenantwatch(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Run a command."""


run.register(app)
demo.register(app)
doctor.register(app)
reconcile.register(app)
verify.register(app)
events.register(app)
replay.register(app)
backtest.register(app)
explain.register(app)
why_not.register(app)
score_series.register(app)
app.add_typer(imports.app, name="import", help="Turn other programs' logs into events.")
app.add_typer(alerts.app, name="alerts", help="Look at alerts.")
app.add_typer(dead_letters.app, name="dead-letters", help="What could not be stored, and sending it again.")
app.add_typer(tenants.app, name="tenants", help="The tenant directory.")
app.add_typer(tuning.app, name="tuning", help="Detector parameters: what holds, and changing it.")
app.add_typer(rules.app, name="rules", help="Detection rules of one's own: check, test, apply.")
app.add_typer(backup.app, name="backup", help="Backups of the store: make, list, restore, verify.")
app.add_typer(evidence.app, name="evidence", help="Evidence of the trail for auditors.")
app.add_typer(seals.app, name="seals", help="The seals of the trail, and the key that signs them.")
app.add_typer(
    privacy.app, name="privacy", help="People in the trail: export, forget, legal holds, keys, reports."
)
app.add_typer(keys.app, name="keys", help="API keys: who may call the HTTP API.")
app.add_typer(webhooks.app, name="webhooks", help="Where alerts are delivered.")


def _is_known(error: Exception) -> bool:
    # By what is loaded, because these modules pull in the engine and Kafka, and an error that was raised
    # comes from a module that is.
    modules = (sys.modules[name] for name in KNOWN_ERRORS if name in sys.modules)
    return any(isinstance(error, getattr(m, name)) for m in modules for name in KNOWN_ERRORS[m.__name__])


def _explain_settings(error: ValidationError) -> None:
    for mistake in mistakes(error):
        complain(str(mistake))


def main() -> None:
    """Run the command line; errors that a person can mend are one line, not a traceback.

    Exit codes: 0 done, 1 failed, 2 misused, 130 interrupted.
    """
    # What the clients have to say about an absent Kafka, in many lines, our errors say in one.
    for client in ("kafka", "aiokafka"):
        logging.getLogger(client).setLevel(logging.CRITICAL)
    try:
        app(prog_name="tenantwatch")
    except ValidationError as error:
        if error.title != "Settings":
            raise
        _explain_settings(error)
        sys.exit(2)
    except Exception as error:
        if not _is_known(error):
            raise
        complain(str(error))
        sys.exit(1)
    finally:
        _flush()


def _flush() -> None:
    """Write out what is left; a reader that has gone (head, less) is no error to tell anyone about."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
