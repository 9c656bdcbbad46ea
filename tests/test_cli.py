"""The command line as a whole: exit codes, streams, suggestions, and what it costs to start."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from conftest import REPOSITORY, CommandLine, settings_env

from tenantwatch.cli import KNOWN_ERRORS

# Each takes a good part of a second to import, or is an engine; commands import them when they need them.
HEAVY = ("chdb", "clickhouse_connect", "faust", "kafka", "pyarrow", "pandas", "numpy", "fastapi", "uvicorn")


@pytest.fixture
def tenantwatch(tmp_path: Path) -> CommandLine:
    """The program with an empty data directory and no worker."""
    return CommandLine(settings_env(tmp_path))


def test_starting_loads_no_engine_and_no_kafka(tmp_path: Path) -> None:
    """Help and completion must answer at once, so nothing heavy is imported before a command needs it."""
    code = f"import sys, tenantwatch.cli; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_misspelt_command_is_answered_with_the_nearest(tenantwatch: CommandLine) -> None:
    """`alrts` exits 2 and suggests `alerts`, on standard error."""
    done = tenantwatch.run("alrts")
    assert done.returncode == 2
    assert "Did you mean 'alerts'" in done.stderr
    assert done.stdout == ""


def test_a_misspelt_subcommand_is_answered_with_the_nearest(tenantwatch: CommandLine) -> None:
    """So it is below a group."""
    done = tenantwatch.run("alerts", "shwo")
    assert done.returncode == 2
    assert "Did you mean 'show'?" in done.stderr


def test_a_misspelt_option_is_answered_with_the_nearest(tenantwatch: CommandLine) -> None:
    """So is an option."""
    done = tenantwatch.run("alerts", "list", "--tennant", "tenant-a")
    assert done.returncode == 2
    assert "--tenant" in done.stderr


def test_a_wrong_setting_is_named_as_a_variable(tmp_path: Path) -> None:
    """A setting that cannot be is one line with the variable's name, and exit code 2."""
    env = settings_env(tmp_path, http_port="eighty")
    done = CommandLine(env).run("status")
    assert done.returncode == 2
    assert done.stderr.startswith("error: TENANTWATCH_HTTP_PORT: ")
    assert "'eighty'" in done.stderr


SECRETS = {
    "clickhouse_password": "secret-of-clickhouse",
    "clickhouse_reader_password": "secret-of-the-reader",
    "kafka_password": "secret-of-kafka",
    "master_key": "secret-that-wraps-keys",
    "seal_key": "secret-that-signs",
    "oidc_client_secret": "secret-of-the-client",
}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kafka_security": "sasl_ssl"}, "needs TENANTWATCH_KAFKA_USER and TENANTWATCH_KAFKA_PASSWORD"),
        ({"clickhouse_reader": "http://secret-of-a-url@127.0.0.1"}, "needs TENANTWATCH_CLICKHOUSE:"),
        ({"http_port": "eighty"}, "TENANTWATCH_HTTP_PORT"),
    ],
)
def test_a_wrong_setting_shows_no_other(tmp_path: Path, settings: dict[str, str], words: str) -> None:
    """What does not go together is said in words; passwords and keys are on neither stream."""
    line = CommandLine(settings_env(tmp_path, **SECRETS, **settings))
    for command, code in (("status",), 2), (("doctor",), 1), (("doctor", "--json"), 1):
        done = line.run(*command)
        assert done.returncode == code
        assert words in done.stdout + done.stderr
        assert "secret" not in done.stdout + done.stderr
        assert "TENANTWATCH_:" not in done.stderr
        assert "TENANTWATCH_ is" not in done.stdout


def test_nothing_is_coloured_where_nobody_looks(tenantwatch: CommandLine) -> None:
    """A pipe gets no escape sequences, on neither stream."""
    for command in (["--help"], ["alerts", "list"], ["doctor"]):
        done = tenantwatch.run(*command)
        assert done.stdout + done.stderr != ""
        assert "\x1b" not in done.stdout + done.stderr


def test_a_reader_that_goes_away_is_no_error(tenantwatch: CommandLine) -> None:
    """`tenantwatch … | head` ends without a traceback."""
    with tenantwatch.start("tenants", "template", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_the_shell_completes_commands(tmp_path: Path) -> None:
    """The completion script's question is answered with what fits."""
    asked = {"_TENANTWATCH_COMPLETE": "complete_bash", "COMP_WORDS": "tenantwatch web", "COMP_CWORD": "1"}
    done = CommandLine(settings_env(tmp_path) | asked).run()
    assert done.stdout.split() == ["webhooks"]


def test_the_version_is_shown(tenantwatch: CommandLine) -> None:
    """`--version` prints the installed version."""
    done = tenantwatch.run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("tenantwatch 0.")


def test_an_empty_data_directory_is_told_from_one_without_alerts(tmp_path: Path) -> None:
    """A misspelt TENANTWATCH_DATA_DIR must not look like a quiet day."""
    done = CommandLine(settings_env(tmp_path / "misspelt")).run("alerts", "list")
    assert done.returncode == 1
    assert "TENANTWATCH_DATA_DIR" in done.stderr
    assert not (tmp_path / "misspelt").exists()


def test_status_without_a_worker_says_how_to_start_one(tenantwatch: CommandLine) -> None:
    """`status` fails where nothing runs."""
    done = tenantwatch.run("status")
    assert done.returncode == 1
    assert "`tenantwatch up`" in done.stderr


@pytest.mark.parametrize("command", ["worker", "api"])
def test_a_process_of_a_cluster_makes_no_store_of_its_own(tmp_path: Path, command: str) -> None:
    """A worker that joined the group with an engine of its own took its share of the events out of sight."""
    done = CommandLine(settings_env(tmp_path / "own", kafka="127.0.0.1:1")).run(command)
    assert done.returncode == 1
    assert "set TENANTWATCH_KAFKA=host:port and TENANTWATCH_CLICKHOUSE=URL" in done.stderr
    assert not (tmp_path / "own").exists()


def test_every_error_that_is_told_without_a_traceback_exists() -> None:
    """They are named by module and class, so that a renamed one would bring its traceback back."""
    for module, names in KNOWN_ERRORS.items():
        for name in names:
            assert issubclass(getattr(import_module(module), name), Exception)
