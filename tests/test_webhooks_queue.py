"""Who is sent to next: the queue alone, without store or network."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from store.webhook_rows import Delivery
from streams.webhooks.queue import PendingQueue

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def delivery(
    revision: int = 1,
    *,
    endpoint_id: str = "ep_1",
    alert_id: str = "a-1",
    attempts: int = 0,
    due: datetime = NOW,
    partition: int = 0,
) -> Delivery:
    return Delivery(
        delivery_id=f"msg_{endpoint_id}_{alert_id}_{revision}",
        endpoint_id=endpoint_id,
        tenant_id="tenant-a",
        alert_id=alert_id,
        revision=revision,
        event_type="alert.opened" if revision == 1 else "alert.updated",
        kafka_partition=partition,
        status="pending",
        status_reason="",
        attempts=attempts,
        next_attempt_at=due,
        created_at=NOW,
    )


def queue(*deliveries: Delivery) -> PendingQueue:
    filled = PendingQueue(per_endpoint=2)
    for each in deliveries:
        filled.put(each)
    return filled


def retried(failed: Delivery, after_s: float) -> Delivery:
    return replace(
        failed,
        attempts=failed.attempts + 1,
        next_attempt_at=NOW + after_s * SECOND,
        version=failed.version + 1,
    )


def test_revisions_of_an_alert_go_one_after_the_other() -> None:
    """The second revision is not taken before the first is done, whichever came first."""
    first, second = delivery(1), delivery(2)
    waiting = queue(second, first)
    assert waiting.take(NOW, 10) == [first]
    assert waiting.take(NOW, 10) == []
    waiting.done(first, None)
    assert waiting.take(NOW, 10) == [second]


def test_a_retry_keeps_the_later_revisions_waiting() -> None:
    """An alert.opened that failed goes before the update that came meanwhile."""
    first, second = delivery(1), delivery(2)
    waiting = queue(first)
    waiting.take(NOW, 10)
    waiting.put(second)
    waiting.done(first, again := retried(first, 5))
    assert waiting.take(NOW, 10) == []
    assert waiting.next_due() == NOW + 5 * SECOND
    assert waiting.take(NOW + 5 * SECOND, 10) == [again]


def test_a_failed_update_gives_way_to_a_later_revision() -> None:
    """It is handed over for cancelling, and the later revision goes at once."""
    second, third = delivery(2, attempts=3, due=NOW + 3_600 * SECOND), delivery(3)
    waiting = queue(second)
    waiting.put(third)
    assert waiting.take(NOW, 10) == [third]
    assert waiting.take_superseded() == [second]
    assert waiting.take_superseded() == []


def test_an_update_in_flight_is_superseded_only_after_it_failed() -> None:
    """While it is being sent it may still succeed; when it fails, the later revision replaces it."""
    second, third = delivery(2, attempts=1), delivery(3)
    waiting = queue(second)
    waiting.take(NOW, 10)
    waiting.put(third)
    assert waiting.take_superseded() == []
    waiting.done(second, again := retried(second, 300))
    assert waiting.take_superseded() == [again]
    assert waiting.take(NOW, 10) == [third]


def test_a_failed_opening_is_never_superseded() -> None:
    """A receiver always learns first that there is an alert."""
    first = delivery(1, attempts=3, due=NOW + 60 * SECOND)
    waiting = queue(first, delivery(2), delivery(3))
    assert waiting.take(NOW + 60 * SECOND, 10) == [first]
    assert waiting.take_superseded() == []


def test_an_endpoint_has_at_most_its_share_in_flight() -> None:
    """Four alerts for one endpoint: two go, the third when one is done, the other endpoint's at once."""
    mine = [delivery(alert_id=f"a-{n}", due=NOW - (9 - n) * SECOND) for n in range(4)]
    other = delivery(endpoint_id="ep_2")
    waiting = queue(*mine, other)
    assert waiting.take(NOW, 10) == [mine[0], mine[1], other]
    waiting.done(mine[0], None)
    assert waiting.take(NOW, 10) == [mine[2]]


def test_an_answer_frees_the_endpoint_and_not_the_alert() -> None:
    """While an outcome is being stored another alert goes, but not the next revision of this one."""
    mine = [delivery(alert_id=f"a-{n}", due=NOW - (9 - n) * SECOND) for n in range(3)]
    waiting = queue(*mine, later := delivery(2, alert_id="a-0"))
    assert waiting.take(NOW, 10) == mine[:2]
    waiting.answered(mine[0])
    assert waiting.take(NOW, 10) == [mine[2]]
    waiting.answered(mine[1])
    assert waiting.take(NOW, 10) == []
    waiting.done(mine[0], None)
    assert waiting.take(NOW, 10) == [later]
    assert waiting.in_flight == 2


def test_no_more_is_taken_than_there_is_room_for() -> None:
    """What is due longest goes first, and the rest is not lost."""
    late, later = delivery(endpoint_id="ep_1"), delivery(endpoint_id="ep_2", due=NOW - SECOND)
    waiting = queue(late, later)
    assert waiting.take(NOW, 1) == [later]
    assert waiting.take(NOW, 1) == [late]


def test_a_paused_endpoint_is_left_alone() -> None:
    """Nothing goes before the pause is over, and a shorter pause does not end a longer one."""
    waiting = queue(only := delivery())
    waiting.pause("ep_1", NOW + 60 * SECOND)
    waiting.pause("ep_1", NOW + 5 * SECOND)
    assert waiting.take(NOW + 59 * SECOND, 10) == []
    assert waiting.next_due() == NOW + 60 * SECOND
    assert waiting.take(NOW + 60 * SECOND, 10) == [only]


def test_an_older_version_does_not_undo_a_newer_one() -> None:
    """What a slow query brings back is older than what happened meanwhile."""
    waiting = queue(again := retried(delivery(), 5))
    waiting.put(delivery())
    assert waiting.take(NOW, 10) == []
    assert waiting.take(NOW + 5 * SECOND, 10) == [again]


def test_what_is_put_back_while_in_flight_stays() -> None:
    """A redelivery asked for during an attempt is sent after it."""
    waiting = queue(sent := delivery())
    waiting.take(NOW, 10)
    waiting.put(again := replace(sent, version=7))
    waiting.done(sent, None)
    assert waiting.take(NOW, 10) == [again]


def test_only_the_partitions_of_this_worker_are_kept() -> None:
    """After a rebalance, what another worker owns is not sent from here."""
    waiting = queue(delivery(partition=1), stays := delivery(alert_id="a-2", partition=2))
    waiting.keep({2})
    assert waiting.take(NOW, 10) == [stays]


def test_what_is_in_flight_survives_a_rebalance_until_it_is_done() -> None:
    """An attempt cannot be called back; when it ends, nothing is left."""
    waiting = queue(sent := delivery(partition=1))
    waiting.take(NOW, 10)
    waiting.keep({2})
    assert len(waiting) == 1
    waiting.done(sent, None)
    assert len(waiting) == 0
    assert waiting.next_due() is None
