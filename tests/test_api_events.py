"""Events over HTTP: searched a page at a time, exported as files, taken in whole or not at all."""

import asyncio
import csv
import io
import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from api_server import RunningApi, add_tenant, running_api
from schema_examples import event
from stored import store_events

from api.v1.routes import events as event_routes
from store import receipts
from store.database import Database
from store.queries import TenantContext
from streams.producer import SendError

TENANT, OTHER = "events-tenant", "events-other"
FORMULAS = (
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "\uff1d1",
    "x;=cmd|' /C calc'!A0", "x\t=1", 'x"; "=1', "x\n=1", "x;;@1",
)  # fmt: skip

BEGINS = ("=", "+", "-", "@", "\uff1d")


@pytest.fixture(scope="module")
def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """The API, with two tenants; one has 25 events, and one that would be a formula."""
    for tenant_id in (TENANT, OTHER):
        add_tenant(database, tenant_id)
    store_events(
        database,
        *(
            event(
                ("auth", "access", "request")[i % 3],
                tenant_id=TENANT,
                event_id=f"e{i:02}",
                time=f"2026-02-01T10:{i:02}:00Z",
                user_id=f"user-{i % 4}",
                source_ip="192.0.2.1",
                outcome="failure" if i % 5 == 0 else "success",
            )
            for i in range(25)
        ),
        *(
            event("access", tenant_id=TENANT, event_id=f"f{i}", time="2026-01-01T00:00:00Z",
                  resource_type="cell", resource_id=text)
            for i, text in enumerate(FORMULAS)
        ),
        event("auth", tenant_id=OTHER, event_id="theirs", user_id="user-1", time="2026-02-01T10:00:30Z"),
    )  # fmt: skip
    with running_api(database, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="module")
def analyst(api: RunningApi) -> httpx.Client:
    return api.client(api.key(TENANT, "analyst"))


@pytest.fixture(scope="module")
def producer(api: RunningApi) -> httpx.Client:
    return api.client(api.key(TENANT, "producer"))


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["event_id"] for each in answer.json()["events"]]


def all_pages(client: httpx.Client, **asked: Any) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        answer = client.get("/v1/events", params=asked | ({"cursor": cursor} if cursor else {}))
        found += ids(answer)
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 4, 7, 1000])
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_pages_hold_every_event_once_and_in_order(analyst: httpx.Client, limit: int, order: str) -> None:
    """Whatever their size, over all kinds."""
    found = all_pages(analyst, limit=limit, order=order, **{"from": "2026-02-01T00:00:00Z"})
    expected = [f"e{i:02}" for i in range(25)]
    assert found == (expected if order == "oldest" else expected[::-1])


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_pages_show_what_was_there_at_the_first(
    api: RunningApi, database: Database, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """Events that come in meanwhile, old ones and new ones, are on no further page and in no export."""
    tenant_id = f"events-growing-{order}"
    add_tenant(database, tenant_id)
    numbers = itertools.count()

    def come_in() -> list[str]:
        found = [f"g{next(numbers)}" for _ in range(20)]
        store_events(
            database,
            *(
                event("auth", tenant_id=tenant_id, event_id=id_, time=f"2026-03-01T10:{i:02}:00Z")
                for i, id_ in enumerate(found)
            ),
        )
        return found

    there = come_in()
    search_as_ever = event_routes.search

    def search(*asked: Any) -> Any:
        page = search_as_ever(*asked)
        time.sleep(0.01)  # clocks tell milliseconds
        come_in()
        return page

    analyst = api.client(api.key(tenant_id, "analyst"))
    monkeypatch.setattr(event_routes, "search", search)
    assert sorted(all_pages(analyst, limit=7, order=order)) == sorted(there)
    monkeypatch.setattr(event_routes, "QUICK_PAGE", 30)
    there = ids(analyst.get("/v1/events", params={"limit": 1000}))
    exported = analyst.get("/v1/events/export", params={"order": order})
    assert sorted(json.loads(line)["event_id"] for line in exported.text.splitlines()) == sorted(
        {*there, *(f"g{i}" for i in range(len(there), len(there) + 20))}
    )


def test_filters_hold_together(analyst: httpx.Client) -> None:
    """Kind, user, outcome and time, the end not included."""
    asked = {"kind": ["auth", "access"], "user_id": "user-0", "outcome": "failure"}
    assert set(ids(analyst.get("/v1/events", params=asked))) == {"e00"}
    asked = {"from": "2026-02-01T10:03:00Z", "to": "2026-02-01T10:06:00+00:00", "order": "oldest"}
    assert ids(analyst.get("/v1/events", params=asked)) == ["e03", "e04", "e05"]
    assert ids(analyst.get("/v1/events", params={"text": "SUM(a"})) == ["f3"]


def test_an_event_is_shown_with_all_that_is_known(analyst: httpx.Client) -> None:
    """The contract's fields, null where they have no value, and what enrichment added."""
    [shown] = analyst.get("/v1/events/e00").json()["events"]
    assert shown["kind"] == "auth"
    assert shown["time"] == "2026-02-01T10:00:00.000Z"
    assert shown["session_id"] is None
    assert shown["organization_id"] == f"org-{TENANT}"
    assert shown["flags"] == []
    assert shown["kafka_topic"] == "audit.auth"


def test_another_tenant_s_event_is_not_there(analyst: httpx.Client) -> None:
    """Neither by its id nor by any filter."""
    assert analyst.get("/v1/events/theirs").status_code == 404
    assert "theirs" not in all_pages(analyst, limit=1000)


@pytest.mark.parametrize(
    "text",
    [
        "' OR 1=1 --",
        "x' UNION ALL SELECT * FROM events WHERE '1'='1",
        "{scope_tenant_id:String}",
        "\\' OR tenant_id != \\'",
        "'; DROP TABLE events; --",
        "%",
        "\x00",
    ],
)
def test_sql_in_a_filter_is_a_text(api: RunningApi, analyst: httpx.Client, text: str) -> None:
    """It finds nothing, in every filter that takes a text."""
    parameters = api.app.openapi()["paths"]["/v1/events"]["get"]["parameters"]
    names = [p["name"] for p in parameters if p["in"] == "query" and p["name"] not in NO_TEXT]
    assert {"user_id", "text", "resource_id"} <= set(names)
    for name in names:
        answer = analyst.get("/v1/events", params={name: text})
        assert ids(answer) == [], name
    assert analyst.get("/v1/events/e00").status_code == 200


NO_TEXT = {"kind", "from", "to", "outcome", "http_status", "order", "limit", "cursor"}


@pytest.mark.parametrize("order", ["newest; DROP TABLE events", "time DESC", ""])
def test_sql_in_the_order_is_refused(analyst: httpx.Client, order: str) -> None:
    """There are two orders."""
    assert analyst.get("/v1/events", params={"order": order}).status_code == 422


def test_a_cursor_is_of_one_list_of_one_tenant(api: RunningApi, analyst: httpx.Client) -> None:
    """Changed, made up, with other filters, or another's: it is refused."""
    cursor = analyst.get("/v1/events", params={"limit": 1}).json()["next_cursor"]
    stranger = api.client(api.key(OTHER, "analyst"))
    swapped = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")
    for client, asked in (
        (analyst, {"cursor": swapped}),
        (analyst, {"cursor": "WzE3Njk5NDAwMDAwMDAsMywwLDAsIngiXQ"}),
        (analyst, {"cursor": cursor, "user_id": "user-1"}),
        (stranger, {"cursor": cursor}),
    ):
        answer = client.get("/v1/events", params=asked)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "query.cursor"


def test_times_the_wrong_way_round_are_refused(analyst: httpx.Client) -> None:
    """And named."""
    answer = analyst.get("/v1/events", params={"from": "2026-02-02T00:00:00Z", "to": "2026-02-01T00:00:00Z"})
    assert answer.json()["errors"][0]["field"] == "query.to"


def test_an_ndjson_export_holds_every_event(analyst: httpx.Client) -> None:
    """One on each line, as the search shows it."""
    answer = analyst.get("/v1/events/export", params={"user_id": "user-1", "order": "oldest"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["event_id"] for line in lines] == ["e01", "e05", "e09", "e13", "e17", "e21"]
    assert lines[0] == analyst.get("/v1/events/e01").json()["events"][0]
    assert "attachment" in answer.headers["content-disposition"]


def test_a_csv_export_has_no_formula(analyst: httpx.Client) -> None:
    """A spreadsheet shows each cell as the text that it is, whatever it takes for the end of one."""
    answer = analyst.get("/v1/events/export", params={"format": "csv", "resource_type": "cell"})
    text = answer.content.decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    shown = {row["event_id"]: row["resource_id"].replace("'", "") for row in rows}
    assert shown == {f"f{i}": formula.replace("'", "") for i, formula in enumerate(FORMULAS)}
    for delimiter in ",;\t":
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            assert not [cell for cell in row if cell.lstrip(' "\t\r\n').startswith(BEGINS)]


def test_an_ocsf_export_is_ocsf(analyst: httpx.Client) -> None:
    """Each kind in its class."""
    answer = analyst.get("/v1/events/export", params={"format": "ocsf", "from": "2026-02-01T00:00:00Z"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert {line["class_uid"] for line in lines} == {3002, 6003, 4002}
    assert len(lines) == 25


def test_an_export_may_be_empty(analyst: httpx.Client) -> None:
    """That is an answer, not an error."""
    assert analyst.get("/v1/events/export", params={"user_id": "nobody"}).text == ""


def sent(api: RunningApi, event_id: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [each for each in api.produced.sent if each[2]["event_id"].startswith(event_id)]


def test_an_event_is_taken_in_for_the_caller_s_tenant(api: RunningApi, producer: httpx.Client) -> None:
    """The receipt says where Kafka has it."""
    wanted = event("auth", event_id="single")
    del wanted["tenant_id"]
    answer = producer.post("/v1/events", json=wanted)
    assert answer.status_code == 202
    receipt = answer.json()
    assert receipt["accepted"] == 1
    assert receipt["messages"][0]["topic"] == "audit.auth"
    assert sent(api, "single") == [("auth", TENANT, {"tenant_id": TENANT, **wanted})]


def test_arrays_and_lines_are_taken_in_by_kind(api: RunningApi, producer: httpx.Client) -> None:
    """In their order; an array of a kind is one message."""
    events = [event(("auth", "request")[i % 2], tenant_id=TENANT, event_id=f"many-{i}") for i in range(10)]
    answer = producer.post("/v1/events", json=events)
    assert [each["events"] for each in answer.json()["messages"]] == [5, 5]
    lines = "\n".join(json.dumps({**each, "event_id": f"line-{i}"}) for i, each in enumerate(events))
    answer = producer.post("/v1/events", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert answer.json()["accepted"] == 10
    assert [e["event_id"] for _, _, e in sent(api, "line-")][:5] == [f"line-{i}" for i in range(0, 10, 2)]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"kind": "auth"}, "event_id"),
        ({"kind": "nothing"}, "kind"),
        (["not", "an", "object"], "JSON object"),
        (event("auth", tenant_id=OTHER), "tenant_id"),
        (event("auth", tenant_id=TENANT, source_ip="999"), "source_ip"),
        (event("access", tenant_id=TENANT, service="tenantwatch"), "service"),
        (event("access", tenant_id=TENANT, service="tenantwatch-api"), "service"),
    ],
)
def test_one_bad_event_refuses_all_of_them(
    api: RunningApi, producer: httpx.Client, bad: Any, said: str
) -> None:
    """Nothing is taken, and the bad one is named by its place."""
    before = len(api.produced.sent)
    good = event("auth", tenant_id=TENANT, event_id="good")
    answer = producer.post("/v1/events", json=[good, bad, good])
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == "body.1"
    assert said in error["detail"]
    assert len(api.produced.sent) == before


def test_the_same_request_is_taken_once(api: RunningApi, producer: httpx.Client) -> None:
    """With an Idempotency-Key: the same receipt, and Kafka has it once; with another body it is refused."""
    body = event("auth", tenant_id=TENANT, event_id="idempotent")
    headers = {"Idempotency-Key": "k-1"}
    first, second = (producer.post("/v1/events", json=body, headers=headers) for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(sent(api, "idempotent")) == 1
    other = producer.post("/v1/events", json={**body, "event_id": "idempotent-2"}, headers=headers)
    assert other.status_code == 409
    assert len(sent(api, "idempotent-2")) == 0


def test_an_answer_is_kept_for_a_day(database: Database) -> None:
    """No longer, whenever the store takes it away: the key may be used again, for another body too."""
    now = datetime.now(UTC)
    asked = receipts.Request(TenantContext(TENANT), "key:of-a-day", "k", b"{}")
    receipts.keep_answer(database, asked, {"receipt_id": "r"}, now)
    assert receipts.answer_of(database, asked, now + timedelta(hours=23)) == {"receipt_id": "r"}
    for body in (b"{}", b"[]"):
        later = replace(asked, body=body)
        assert receipts.answer_of(database, later, now + timedelta(hours=24, seconds=1)) is None


def test_the_same_request_twice_at_once_is_taken_once(
    api: RunningApi, producer: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is told that the first is under way, also with another body; later it gets the receipt."""
    body = event("auth", tenant_id=TENANT, event_id="at-once")
    reached, answered = threading.Event(), threading.Event()
    send = api.produced.send

    async def slow(*message: Any) -> tuple[int, int]:
        reached.set()
        await asyncio.to_thread(answered.wait, 30)
        return await send(*message)

    monkeypatch.setattr(api.produced, "send", slow)

    def post(key: str, **changed: str) -> httpx.Response:
        return producer.post("/v1/events", json=body | changed, headers={"Idempotency-Key": key})

    with ThreadPoolExecutor() as pool:
        first = pool.submit(post, "k-at-once")
        assert reached.wait(30)
        try:
            seconds = [post("k-at-once"), post("k-at-once", event_id="at-once-2")]
        finally:
            answered.set()
        assert [(each.status_code, each.json()["code"]) for each in seconds] == [(409, "conflict")] * 2
        assert "under way" in seconds[0].json()["detail"]
        assert first.result().status_code == 202
    assert post("k-at-once").json() == first.result().json()
    assert len(sent(api, "at-once")) == 1


def test_a_key_whose_request_failed_can_be_used_again(
    api: RunningApi, producer: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was answered, so there is nothing to answer with: the same request is tried anew."""
    body = event("auth", tenant_id=TENANT, event_id="failed-first")
    headers = {"Idempotency-Key": "k-failed"}

    async def away(*message: Any) -> tuple[int, int]:
        raise SendError("away")

    with monkeypatch.context() as broken:
        broken.setattr(api.produced, "send", away)
        assert producer.post("/v1/events", json=body, headers=headers).status_code == 503
    assert producer.post("/v1/events", json=body, headers=headers).status_code == 202


def test_one_caller_s_idempotency_keys_are_not_another_s(api: RunningApi, producer: httpx.Client) -> None:
    """The same key of another caller is a request of its own."""
    body = event("auth", tenant_id=TENANT, event_id="two-callers")
    second = api.client(api.key(TENANT, "producer"))
    for client in (producer, second):
        assert client.post("/v1/events", json=body, headers={"Idempotency-Key": "k-2"}).status_code == 202
    assert len(sent(api, "two-callers")) == 2


def test_the_body_must_be_json_or_lines_of_it(producer: httpx.Client) -> None:
    """And say so."""
    answer = producer.post("/v1/events", content="a=1", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    broken = producer.post("/v1/events", content='{"a":\n', headers={"Content-Type": "application/json"})
    assert broken.status_code == 400
    assert producer.post("/v1/events", json=[]).status_code == 422
