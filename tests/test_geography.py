"""Where addresses are: a file that the operator brings."""

import json
from pathlib import Path

import mmdb
import numpy as np
import pytest
from scenarios.streams import START_MS, batch_of
from typer.testing import CliRunner

from streams.geography import GeographyError, locate_with
from tenantwatch.cli import app

PLACES = {"192.0.2.0/24": (52.5, 13.4), "203.0.113.0/25": (-33.9, 151.2)}


def logins(*addresses: str | None):
    return batch_of("auth", [{"time_ms": START_MS, "source_ip": address} for address in addresses])


def test_addresses_are_looked_up_in_the_file(tmp_path: Path) -> None:
    """What is not in it, or no address of its kind, is nowhere."""
    locate = locate_with(mmdb.write(tmp_path / "places.mmdb", PLACES))
    located = locate(logins("192.0.2.7", "203.0.113.9", "203.0.113.200", "2001:db8::1", None, "192.0.2.7"))
    nowhere = [np.nan, np.nan]
    expected = [[52.5, 13.4], [-33.9, 151.2], nowhere, nowhere, nowhere, [52.5, 13.4]]
    np.testing.assert_allclose(located.positions, expected, rtol=1e-6)


def test_only_logins_are_looked_up(tmp_path: Path) -> None:
    """Nobody asks where requests come from."""
    locate = locate_with(mmdb.write(tmp_path / "places.mmdb", PLACES))
    assert locate(batch_of("request", [{"time_ms": START_MS, "source_ip": "192.0.2.7"}])).positions is None


def test_positions_go_where_their_events_go(tmp_path: Path) -> None:
    """A batch that is cut keeps them."""
    located = locate_with(mmdb.write(tmp_path / "places.mmdb", PLACES))(logins("192.0.2.7", "203.0.113.9"))
    [position] = located.select(np.array([1])).positions.tolist()
    assert position == pytest.approx([-33.9, 151.2])


def test_without_a_file_nothing_is_looked_up() -> None:
    """Impossible travel is off then."""
    batch = logins("192.0.2.7")
    assert locate_with(None)(batch) is batch


@pytest.mark.parametrize("content", [None, b"no such format"])
def test_a_file_that_cannot_be_used_is_an_error_that_says_what_to_do(
    tmp_path: Path, content: bytes | None
) -> None:
    """At the start, not at the first login."""
    path = tmp_path / "places.mmdb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GeographyError, match="TENANTWATCH_GEOIP_FILE"):
        locate_with(path)


def test_a_backtest_tells_of_impossible_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the setting, and not without."""
    common = {
        "kind": "auth",
        "tenant_id": "tenant-a",
        "service": "login",
        "action": "login",
        "outcome": "success",
    }
    steps = [("08:00", "192.0.2.7", "Firefox/128.0"), ("09:00", "203.0.113.9", "curl/8.5.0")]
    events = [
        {**common, "event_id": ip, "user_id": "ana", "source_ip": ip, "user_agent": agent,
         "time": f"2026-01-05T{at}:00Z"}
        for at, ip, agent in steps
    ]  # fmt: skip
    file = tmp_path / "logins.ndjson"
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    assert CliRunner().invoke(app, ["backtest", str(file), "--json"]).stdout == ""
    monkeypatch.setenv("TENANTWATCH_GEOIP_FILE", str(mmdb.write(tmp_path / "places.mmdb", PLACES)))
    told = json.loads(CliRunner().invoke(app, ["backtest", str(file), "--json"]).stdout)
    assert (told["classification"], told["entity"]["value"]) == ("impossible_travel", "ana")
    assert told["evidence"]["numbers"]["distance_km"] == pytest.approx(16_100, rel=0.01)
