"""Looking at everything that can be wrong, one line each, with its fix."""

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from pydantic import ValidationError
from rich.text import Text

from tenantwatch.commands.output import AsJson, note, out, plain, print_json
from tenantwatch.mistakes import mistakes
from tenantwatch.settings import Settings

if TYPE_CHECKING:
    from tenantwatch.checks import Check

NAME_WIDTH = 15
ANSWER_S = 5.0
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
PORTS = {
    "TENANTWATCH_KAFKA_PORT": "kafka_port",
    "TENANTWATCH_KAFKA_CONTROLLER_PORT": "kafka_controller_port",
    "TENANTWATCH_HTTP_PORT": "http_port",
    "TENANTWATCH_API_PORT": "api_port",
}


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(doctor)


def doctor(as_json: AsJson = False) -> None:
    """Look at everything that can be wrong: one line per check, each with its fix.

    Exit code 1 if a check fails.
    """
    checks = []
    for check in _checks():
        checks.append(check)
        if not as_json:
            _print(check)
    if as_json:
        print_json([asdict(check) for check in checks])
    counts = {status: sum(check.status == status for check in checks) for status in ("ok", "warn", "fail")}
    note(", ".join(f"{count} {status}" for status, count in counts.items()))
    raise typer.Exit(1 if counts["fail"] else 0)


def _print(check: "Check") -> None:
    line = Text(f"{check.status:4}", STYLES[check.status])
    line.append(f"  {check.name:{NAME_WIDTH}} {plain(check.found)}", "default")
    if check.fix:
        line.append(f"; fix: {plain(check.fix)}", "default")
    out.print(line, soft_wrap=True)


def _checks() -> "Iterator[Check]":
    from tenantwatch.checks import (
        Check,
        check_api_keys,
        check_api_process,
        check_python,
        check_variables,
        check_worker,
    )
    from tenantwatch.control import ControlError

    yield check_python(sys.version_info[:3])
    try:
        settings = Settings()
    except ValidationError as error:
        for wrong in mistakes(error):
            one = f"{wrong.variable} is {wrong.found or 'not allowed'}"
            found = one if wrong.variable else "what is set does not go together"
            yield Check("settings", "fail", found, wrong.message)
        return
    yield check_variables(os.environ)
    yield _data_dir(settings.data_dir)
    yield _master_key(settings)
    keys = settings.api_keys_path
    yield check_api_keys(str(keys), keys.stat().st_mode if keys.exists() else None)
    try:
        status = _status(settings)
    except ControlError as error:
        yield Check("worker", "fail", str(error), "look at its log; if it hangs, stop it and start it again")
        return
    problems = _api_problems(settings) if status is None else None
    if problems is not None:
        yield check_api_process(problems)
    else:
        yield check_worker(status)
        if status is None:
            yield from _before_start(settings)
    yield from _kafka(settings, status)
    yield from _store(settings)


def _data_dir(path: Path) -> "Check":
    from tenantwatch.checks import check_data_dir

    there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    return check_data_dir(str(path), os.access(there, os.W_OK | os.X_OK), shutil.disk_usage(there).free)


def _master_key(settings: Settings) -> "Check":
    from store.master_key import MasterKeyError, parse_keys, read_key_file
    from tenantwatch.checks import check_master_key

    if settings.kms is not None:
        return check_master_key(f"KMS {settings.kms}", "", False)
    own = settings.master_key is None and settings.master_key_file is None
    if own and not settings.key_path.exists():
        return check_master_key("made at the first start", "", settings.clickhouse is not None)
    try:
        if settings.master_key is not None:
            parse_keys(settings.master_key, "TENANTWATCH_MASTER_KEY")
            return check_master_key("TENANTWATCH_MASTER_KEY", "", False)
        read_key_file(settings.key_path)
    except MasterKeyError as error:
        return check_master_key("", str(error), False)
    return check_master_key(str(settings.key_path), "", own and settings.clickhouse is not None)


def _status(settings: Settings) -> dict[str, Any] | None:
    from tenantwatch.control import Control, running

    if not running(settings):
        return None
    with Control(settings) as control:
        return dict(control.get("/status"))


def _api_problems(settings: Settings) -> list[str] | None:
    """Return why an API process that answers on our port is not ready; None if none answers."""
    # An address that stands for all of this host's leads to this host.
    asked = HTTPConnection(settings.http_host, settings.http_port, timeout=ANSWER_S)
    try:
        asked.request("GET", "/readyz")
        answer = json.loads(asked.getresponse().read())
        return list(answer["problems"]) if answer["process"] == "api" else None
    # Nothing, or something else, listens there.
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        asked.close()


def _before_start(settings: Settings) -> "Iterator[Check]":
    from streams.jars import jars_cached, noted_jars
    from tenantwatch.checks import check_jars, check_ports

    names = [name for name in PORTS if settings.kafka is None or "KAFKA" not in name]
    ports = {name: int(getattr(settings, PORTS[name])) for name in names}
    yield check_ports({name: port for name, port in ports.items() if port and _taken(port)})
    if settings.kafka is None:
        yield check_jars(bool(noted_jars(settings.data_dir / "kafka")) or jars_cached())


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _kafka(settings: Settings, status: dict[str, Any] | None) -> "Iterator[Check]":
    from streams.inspection import view_cluster
    from streams.topics import TopicError
    from tenantwatch.checks import Check, check_cluster

    bootstrap = settings.kafka_brokers or (status and status["kafka"])
    if not bootstrap:
        yield Check("kafka", "warn", "does not run: it is started by `tenantwatch up`", "`tenantwatch up`")
        return
    try:
        view = view_cluster(bootstrap)
    except TopicError as error:
        fix = "start it, or correct TENANTWATCH_KAFKA" if settings.kafka else "restart `tenantwatch up`"
        yield Check("kafka", "fail", str(error), fix)
        return
    yield Check("kafka", "ok", f"answers at {bootstrap}")
    yield from check_cluster(view)


def _store(settings: Settings) -> "Iterator[Check]":
    from store.database import StoreError, StoreUnavailable
    from tenantwatch.checks import Check, check_store
    from tenantwatch.control import Control, ControlError

    if settings.clickhouse is None and not (settings.data_dir / "clickhouse").exists():
        yield Check("store", "warn", "there is none yet", "`tenantwatch up` makes it")
        return
    try:
        with Control(settings) as control:
            health = control.get("/doctor")
    except (ControlError, StoreError, StoreUnavailable) as error:
        fix = (
            "start it, or correct TENANTWATCH_CLICKHOUSE"
            if settings.clickhouse
            else "look at the worker's log"
        )
        yield Check("store", "fail", str(error), fix)
        return
    yield from check_store(health, server=settings.clickhouse is not None)
