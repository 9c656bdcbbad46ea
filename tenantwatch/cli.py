"""``tenantwatch``: the command line."""

import sys

import typer
from pydantic import ValidationError

from tenantwatch.commands import alerts, events, run, tenants, webhooks
from tenantwatch.commands.output import err

app = typer.Typer(
    name="tenantwatch",
    help="Who did what, and is anything wrong? Audit trail and anomaly detection for multi-tenant services.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
run.register(app)
events.register(app)
app.add_typer(alerts.app, name="alerts", help="Look at alerts.")
app.add_typer(tenants.app, name="tenants", help="The tenant directory.")
app.add_typer(webhooks.app, name="webhooks", help="Where alerts are delivered.")


def _known_errors() -> tuple[type[Exception], ...]:
    # Imported when something failed: these pull in the engine and Kafka.
    from kafka.errors import KafkaError

    from api.serve import PortTaken
    from store.database import StoreError, StoreUnavailable
    from store.lock import StoreLocked
    from streams.broker import BrokerError
    from streams.producer import SendError
    from streams.topics import TopicError
    from tenantwatch.control import ControlError
    from tenantwatch.up import BrokerDied

    return (
        BrokerDied,
        BrokerError,
        ControlError,
        KafkaError,
        PortTaken,
        SendError,
        StoreError,
        StoreLocked,
        StoreUnavailable,
        TopicError,
    )


def main() -> None:
    """Run the command line; errors that a person can mend are one line, not a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; Python would complain again at exit.
        sys.stderr.close()
        sys.exit(141)
    except ValidationError as error:
        if error.title != "Settings":
            raise
        for detail in error.errors(include_url=False):
            name = "TENANTWATCH_" + "_".join(map(str, detail["loc"][:1])).upper()
            err.print(f"[bold red]error:[/] {name}: {detail['msg']}, found {detail['input']!r}", soft_wrap=True)
        sys.exit(2)
    except Exception as error:
        if not isinstance(error, _known_errors()):
            raise
        err.print(f"[bold red]error:[/] {str(error).replace('[', chr(92) + '[')}", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
