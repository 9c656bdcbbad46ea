"""Access logs of Apache and nginx become request events."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantwatch.importers.combined import CombinedReader
from tenantwatch.importers.routes import route_of
from tests.importing import Made, only, picked, run_lines

AGENT = "Mozilla/5.0 (X11; Linux x86_64)"


def line(
    request: str = "GET /v1/jobs/42?token=secret HTTP/1.1",
    *,
    client: str = "192.0.2.1",
    user: str = "-",
    status: str = "200",
    size: str = "1234",
    after: str = "",
    before: str = "",
) -> str:
    head = f"{before}{client} - {user} [05/Jan/2026:08:00:00 +0100]"
    return f'{head} "{request}" {status} {size} "https://example.com/a?b=c" "{AGENT}"{after}'


def read(*lines: str, duration_unit: str | None = None) -> Made:
    return run_lines(CombinedReader(duration_unit).read, *lines)


def test_a_line_is_a_request() -> None:
    """Every field is filled; the query, where tokens are, is left out."""
    event = dict(only(read(line(user="ana"))))
    assert event.pop("event_id")
    assert event == {
        "kind": "request",
        "tenant_id": "tenant-a",
        "time": "2026-01-05T07:00:00.000Z",
        "service": "test",
        "user_id": "ana",
        "source_ip": "192.0.2.1",
        "user_agent": AGENT,
        "outcome": "success",
        "http_method": "GET",
        "http_route": "/v1/jobs/{id}",
        "http_path": "/v1/jobs/42",
        "http_status": 200,
        "bytes_out": 1234,
        "attributes": {"referer": "https://example.com/a", "protocol": "HTTP/1.1"},
    }


def test_the_common_format_is_read() -> None:
    """Without referer and user agent."""
    event = only(read('192.0.2.1 - - [05/Jan/2026:08:00:00 +0000] "GET / HTTP/1.0" 304 -'))
    assert picked(event, "http_status", "bytes_out", "user_agent") == (304, None, None)


@pytest.mark.parametrize(
    ("status", "outcome", "reason"),
    [
        ("302", "success", None),
        ("400", "failure", "http_400"),
        ("401", "failure", "unauthorized"),
        ("403", "failure", "missing_permission"),
        ("404", "failure", "not_found"),
        ("429", "failure", "rate_limited"),
        ("503", "failure", "server_error"),
        ("-", "failure", "no_status"),
        ("000", "failure", "no_status"),
    ],
)
def test_a_status_of_400_or_more_is_a_failure(status: str, outcome: str, reason: str | None) -> None:
    """So is none: the connection broke before there was an answer."""
    assert picked(only(read(line(status=status))), "outcome", "reason") == (outcome, reason)


@pytest.mark.parametrize("request_line", [r"\x16\x03\x01", "-", "", "hello", r"\"quoted\" HTTP"])
def test_what_is_no_http_is_kept_as_it_came(request_line: str) -> None:
    """Scanners speak other protocols to web servers; the attempt is an event all the same."""
    event = only(read(line(request_line, status="400")))
    assert picked(event, "http_method", "http_path", "http_status") == (None, None, 400)
    assert event.get("attributes", {}).get("request", "") == request_line


@pytest.mark.parametrize(
    ("request_line", "method", "path"),
    [
        ("GET http://example.com/a?b HTTP/1.1", "GET", "/a"),
        ("GET http://example.com HTTP/1.1", "GET", "/"),
        ("OPTIONS * HTTP/1.0", "OPTIONS", "*"),
        ("CONNECT example.com:443 HTTP/1.1", "CONNECT", "example.com:443"),
        ("GET /a b HTTP/1.1", "GET", "/a b"),
        ("GET /a", "GET", "/a"),
    ],
)
def test_targets_of_any_form_are_read(request_line: str, method: str, path: str) -> None:
    """Proxies and oddities included."""
    assert picked(only(read(line(request_line))), "http_method", "http_path") == (method, path)


def test_quotes_in_what_the_client_sends_end_no_field() -> None:
    """Servers escape them."""
    text = line().replace(AGENT, r"x\" 500 1 \"y")
    assert picked(only(read(text)), "http_status", "user_agent") == (200, 'x" 500 1 "y')


def test_a_servers_name_before_the_client_is_the_host() -> None:
    """Apache's vhost_combined."""
    event = only(read(line(before="shop.example.com:443 ")))
    assert event["attributes"]["host"] == "shop.example.com"
    assert event["source_ip"] == "192.0.2.1"


def test_a_servers_name_may_be_an_address_in_brackets() -> None:
    """Who asks for an IPv6 address is no lost client."""
    event = only(read(line(before="[2001:db8::1]:443 ")))
    assert (event["attributes"]["host"], event["source_ip"]) == ("2001:db8::1", "192.0.2.1")
    assert only(read(line(client="[2001:db8::7]:4242")))["source_ip"] == "2001:db8::7"


@pytest.mark.parametrize(
    ("client", "source_ip"),
    [
        ("192.0.2.1, 10.0.0.1", "192.0.2.1"),
        ("192.0.2.1,10.0.0.1,fd00::1", "192.0.2.1"),
        ("198.51.100.9, 192.0.2.1, 172.16.0.1", "192.0.2.1"),
        ("unknown, 192.0.2.1:4242", "192.0.2.1"),
        ("10.1.1.1, 10.0.0.1", "10.1.1.1"),
    ],
)
def test_of_a_forwarded_list_the_last_address_beyond_ones_own_proxies_is_the_source(
    client: str, source_ip: str
) -> None:
    """What stands before it the client may have made up; the list is kept."""
    event = only(read(line(client=client, user="ana")))
    assert picked(event, "source_ip", "user_id") == (source_ip, "ana")
    assert event["attributes"]["forwarded_for"] == client
    assert only(read(line(client=client)))["user_id"] is None


def test_an_address_behind_the_agent_is_what_a_proxy_forwarded() -> None:
    """nginx's default format; the client itself chose it, so it is no source_ip."""
    event = only(read(line(after=' "198.51.100.9"')))
    assert event["source_ip"] == "192.0.2.1"
    assert event["attributes"]["forwarded_for"] == "198.51.100.9"


@pytest.mark.parametrize(
    ("after", "unit", "duration_ms"),
    [
        (" 0.250", "s", 250.0),
        (" 250000", "us", 250.0),
        (' "-" rt=0.25 uct="0.1"', "s", 250.0),
        (" 250", None, None),
    ],
)
def test_a_number_behind_the_agent_is_the_duration_if_its_unit_is_given(
    after: str, unit: str | None, duration_ms: float | None
) -> None:
    """The format does not say what it is, so it is asked for."""
    assert only(read(line(after=after), duration_unit=unit))["duration_ms"] == duration_ms


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/v1/jobs/42", "/v1/jobs/{id}"),
        ("/users/user@example.com/orders", "/users/{id}/orders"),
        ("/a/7c9e6679-7425-40de-944b-e07fc1f90ae7", "/a/{id}"),
        ("/a/5f2b8c1d9e", "/a/{id}"),
        ("/a/01ARZ3NDEKTSV4RRFFQ69G5FAV/", "/a/{id}/"),
        ("/reports/2026-01-05.csv", "/reports/{id}.csv"),
        ("/jobs/job-17", "/jobs/{id}"),
        ("/a;jsessionid=1A2B", "/a"),
        ("/blog/the-year-2026-in-a-few-words", "/blog/the-year-2026-in-a-few-words"),
        ("/deface", "/deface"),
        ("/css/main.css", "/css/main.css"),
    ],
)
def test_ids_in_paths_are_replaced_and_words_are_not(path: str, route: str) -> None:
    """Otherwise every job would be a route of its own, or different routes one."""
    assert route_of(path) == route


def test_the_same_line_twice_is_two_events_and_twice_the_same() -> None:
    """Two requests in one second are two; importing again is not."""
    events, _ = read(line(), line())
    assert len({event["event_id"] for event in events}) == 2
    assert events == read(line(), line())[0]


@pytest.mark.parametrize(
    "text", ["hello", line().replace("Jan", "Foo"), line().replace("05/Jan", "32/Jan"), "{}"]
)
def test_another_line_is_not_understood(text: str) -> None:
    """Nor is one whose time does not exist."""
    events, report = read(text, "")
    assert (events, report.not_understood, dict(report.without_event)) == ([], 1, {"blank": 1})


TEXT = st.text(st.characters(codec=None), max_size=300)


@settings(deadline=None)
@given(TEXT, TEXT, TEXT, st.from_regex(r"\A[0-9-]{1,20}\Z"))
def test_no_line_raises_and_every_event_keeps_the_contract(
    request: str, user: str, rest: str, number: str
) -> None:
    """Whatever a client sends."""
    forms: list[Any] = [
        request,
        line(request, user=user, after=rest),
        line(status=number, size=number, client=user),
    ]
    _, report = read(*forms)
    assert report.read == len(forms)
