"""The backtest: detectors over a file."""

import json
from typing import Any

from backtested import backtest

from schemas.tenant import RateLimit, unknown_tenant
from tenantwatch import lines as module


def line(kind: str, second: int, **fields: Any) -> bytes:
    """Return an event of tenant-a."""
    base = {
        "kind": kind,
        "event_id": f"{kind}-{second}",
        "tenant_id": "tenant-a",
        "time": f"2026-01-05T09:{second // 60:02}:{second % 60:02}Z",
        "service": "test",
        "outcome": "success",
    }
    return json.dumps({**base, **fields}).encode()


def guesses(n: int) -> list[bytes]:
    """Return failed logins, one a second."""
    return [
        line("auth", i, action="login", outcome="failure", user_id="ana", source_ip="203.0.113.9")
        for i in range(n)
    ]


def test_kinds_may_be_mixed() -> None:
    """Each kind goes to its own detectors, in the order of the file."""
    requests = [line("request", i, user_id="ben") for i in range(120)]
    abroad = line("access", 5, action="read", user_id="cleo", resource_tenant_id="tenant-b")
    mixed = [event for pair in zip(guesses(20), requests[:20], strict=True) for event in pair]
    result = backtest([*mixed, b"", abroad, *requests[20:]])
    assert result.events == {"auth": 20, "request": 120, "access": 1}
    assert {alert.detector for alert in result.alerts} == {"failed_login", "rate_breach", "access_anomaly"}


def test_only_the_last_revision_of_an_alert_is_kept() -> None:
    """Thirty failures are one alert, as it was told last; at the file's end it stays open."""
    (alert,) = backtest(guesses(30)).alerts
    assert (alert.revision, alert.status, alert.event_count) == (3, "updated", 16)


def test_settings_of_tenants_hold() -> None:
    """A tenant's own limit is used; tenants that are not named have the defaults."""
    requests = [line("request", i, user_id="ben") for i in range(12)]
    own = unknown_tenant("tenant-a").model_copy(update={"rate_limit": RateLimit(requests=10)})
    assert backtest(requests).alerts == []
    assert len(backtest(requests, {"tenant-a": own}).alerts) == 1


def test_bad_lines_are_told_by_number() -> None:
    """What cannot be read or names no kind is rejected with its line, the others count."""
    lines = [*guesses(2), b"no json", b'{"kind":"metric"}', line("auth", 9, action="Login"), line("auth", 10)]
    result = backtest(lines)
    assert [(rejected.line, rejected.reason) for rejected in result.rejected] == [
        (3, "invalid_event"),
        (4, "invalid_event"),
        (5, "invalid_event"),
        (6, "invalid_event"),
    ]
    assert "action" in result.rejected[2].detail
    assert result.events == {"auth": 2}


def test_arrays_and_misleading_attributes_find_their_kind() -> None:
    """A line may hold an array; a key named kind under attributes does not deceive."""
    array = b"[" + b",".join(guesses(3)) + b"]"
    odd = line("auth", 50, action="login", user_id="ana", attributes={"kind": "access"})
    assert backtest([array, odd]).events == {"auth": 4}


def test_repeats_are_counted_but_not_evaluated() -> None:
    """A file may hold an event twice; its second copy is no second guess."""
    result = backtest([*guesses(4), *guesses(4)])
    assert result.not_evaluated == {"duplicate": 4}
    assert result.alerts == []


def test_a_file_may_begin_with_the_newest_event() -> None:
    """As many sources' exports do: nothing is late, and the alerts are those of the file turned round."""
    hourly = [
        line("auth", i, event_id=f"old-{i}", action="login", user_id="ben", time=f"2026-01-04T{i:02}:00:00Z")
        for i in range(24)
    ]
    upwards = backtest([*hourly, *guesses(300)])
    downwards = backtest([*guesses(300)[::-1], *hourly[::-1]])
    assert downwards.not_evaluated == {}
    assert downwards.alerts == upwards.alerts
    assert [alert.event_count for alert in upwards.alerts] == [256]


def test_a_clock_that_is_years_ahead_makes_nothing_late() -> None:
    """One such event in a file is one event; what comes after it is judged."""
    ahead = line("auth", 0, event_id="ahead", action="login", user_id="ana", time="2036-01-05T09:00:00Z")
    result = backtest([*guesses(2), ahead, *guesses(30)[2:]])
    assert result.not_evaluated == {}
    assert [alert.classification for alert in result.alerts] == ["brute_force"]


def test_batches_of_any_size_give_the_same(monkeypatch: Any) -> None:
    """How many lines are read at once does not show."""
    lines = guesses(60)
    whole = backtest(lines)
    monkeypatch.setattr(module, "LINES_PER_BATCH", 7)
    assert backtest(lines) == whole
