"""Commands that run the pipeline: up, worker, api, status."""

from typing import Annotated

import typer

from tenantwatch.commands.output import AsJson, err, fail, out, print_json
from tenantwatch.leaving import run
from tenantwatch.logs import configure_logging
from tenantwatch.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(up)
    app.command()(worker)
    app.command()(api)
    app.command()(status)


def _run(settings: Settings, quiet: bool, *, with_api: bool) -> None:
    from tenantwatch.up import Pipeline, run_until_signal  # imports the engine and Kafka's client: only now

    configure_logging("warning" if quiet else settings.log_level, settings.log_format)

    def greet(pipeline: Pipeline) -> None:
        shown = pipeline.status()
        api = f"API {shown['api']}, " if shown["api"] else ""
        err.print(
            f"[bold green]tenantwatch is up[/]: Kafka {shown['kafka']}, {api}"
            f"health and metrics {shown['http']}, data {shown['data_dir']}. Ctrl-C stops it.",
            soft_wrap=True,
        )

    run(run_until_signal(settings, greet, with_api=with_api))


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings and errors only.")]


def up(quiet: Quiet = False) -> None:
    """Run the whole pipeline here: Kafka, ClickHouse's engine, the worker, the HTTP API.

    Settings come from the environment (TENANTWATCH_…). With TENANTWATCH_KAFKA or TENANTWATCH_CLICKHOUSE
    set, that cluster or server is used instead.
    """
    _run(Settings(), quiet, with_api=True)


def worker(quiet: Quiet = False) -> None:
    """Run one worker of many, against a Kafka cluster and a ClickHouse server.

    Needs TENANTWATCH_KAFKA and TENANTWATCH_CLICKHOUSE; workers share the work as one consumer group.
    """
    settings = Settings()
    # With an engine of its own a worker's share of the events would be where no other process sees it.
    _check_cluster(settings, "a worker joins a cluster", "runs all of it in one process")
    _run(settings, quiet, with_api=False)


def _check_cluster(settings: Settings, what: str, instead: str) -> None:
    if settings.kafka is None or settings.clickhouse is None:
        raise fail(
            f"{what}: set TENANTWATCH_KAFKA=host:port and TENANTWATCH_CLICKHOUSE=URL; "
            f"on one machine `tenantwatch up` {instead}"
        )


def api(quiet: Quiet = False) -> None:
    """Serve the HTTP API (/v1), one process of many, against a Kafka cluster and a ClickHouse server.

    Needs TENANTWATCH_KAFKA and TENANTWATCH_CLICKHOUSE, and the same TENANTWATCH_API_KEYS_FILE for all.
    """
    from tenantwatch.serving import serve_until_signal

    settings = Settings()
    _check_cluster(settings, "an API process serves a cluster", "serves the API itself")
    configure_logging("warning" if quiet else settings.log_level, settings.log_format)

    def greet(url: str) -> None:
        err.print(f"[bold green]the API is up[/]: {url}. Ctrl-C stops it.", soft_wrap=True)

    run(serve_until_signal(settings, greet))


def status(as_json: AsJson = False) -> None:
    """Show the running worker with this data directory."""
    from tenantwatch.control import Control, running

    settings = Settings()
    if not running(settings):
        raise fail(f"no worker runs with the data directory {settings.data_dir}; start one: `tenantwatch up`")
    with Control(settings) as control:
        shown = control.get("/status")
    if as_json:
        print_json(shown)
        return
    problems = shown.pop("problems")
    for name, value in shown.items():
        out.print(f"{name:15} {value}")
    out.print(f"{'ready':15} {'yes' if not problems else 'no: ' + '; '.join(problems)}")
