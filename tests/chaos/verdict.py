"""The comparison: what Kafka holds, what the broken run stored, and what the undisturbed run stored."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.sending import Place
from tests.chaos.stored import Identity, Stored, alert_content
from tests.chaos.topics import Found

EXAMPLES: Final = 20
# Each of these must be 0.
FAULTLESS: Final = (
    "lost",
    "doubled",
    "alerts_missing",
    "alerts_extra",
    "unexpected",
    "changed",
    "dead_letters_missing",
    "dead_letters_extra",
    "dead_letters_unpublished",
    "collapsed",
    "gaps",
    "lost_by_kafka",
    "reference_lost",
    "reference_doubled",
)


@dataclass
class Verdict:
    """What was found.

    Parameters
    ----------
    counts
        By name; see `judge`.
    examples
        The first few of what should not be, by the same names.
    alerts
        What the reference's revisions were: detector, classification and status.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[Any]] = field(default_factory=dict)
    alerts: list[str] = field(default_factory=list)

    def add(self, name: str, found: Iterable[Any]) -> None:
        """Count something that should not be, and keep a few examples."""
        listed = sorted(found)
        self.counts[name] = len(listed)
        if listed:
            self.examples[name] = listed[:EXAMPLES]

    @property
    def faultless(self) -> bool:
        """Whether every guarantee held."""
        return not any(self.counts[name] for name in FAULTLESS)


@dataclass(frozen=True)
class Published:
    """What a run sent to Kafka: every message of ``audit.alerts`` and ``audit.dead-letters``."""

    alerts: Sequence[Found]
    dead_letters: Sequence[Found]


@dataclass(frozen=True)
class Account:
    """What the broken run said of itself: gaps that reconciliation found, and rows that it collapsed."""

    gaps: Sequence[str]
    collapsed: Sequence[str]


def judge(
    messages: Sequence[Found],
    acknowledged: Iterable[Place],
    published: Published,
    account: Account,
    broken: Stored,
    reference: Stored,
) -> Verdict:
    """Compare.

    Parameters
    ----------
    messages
        Every committed message of the event topics: the truth.
    acknowledged
        Where the producers were told that their messages are.
    published, account
        Of the broken run.
    broken, reference
        What the two runs stored.

    Returns
    -------
    Verdict
        ``lost``: events without a row. ``doubled``: rows too many of one identity. ``unexpected``: rows that
        stand for no committed event, as of an aborted transaction. ``changed``: rows whose content is not
        the reference's (flags, for one: they come from state). ``alerts_missing``, ``alerts_extra``:
        revisions, with their content, in one run only; extra are also those that were published and later
        replaced in the table by better ones. ``collapsed``: rows that were there twice for a while.
        ``lost_by_kafka``: acknowledged and not in the topics. That,
        and a reference that is wrong itself, make the run worthless.
    """
    verdict = Verdict()
    expected: dict[Identity, str] = {
        (m.topic, m.partition, m.offset, index): event_id
        for m in messages
        for index, event_id in m.event_ids().items()
    }
    verdict.counts["sent"] = len(expected)
    verdict.counts["rows"] = sum(n for n, _, _ in broken.rows.values())
    verdict.add("lost", expected.keys() - broken.rows.keys())
    verdict.add("doubled", _surplus(broken))
    verdict.add("unexpected", broken.rows.keys() - expected.keys())
    verdict.add("changed", _changed(expected, broken, reference))
    verdict.add("lost_by_kafka", set(acknowledged) - {(m.topic, m.partition, m.offset) for m in messages})
    _compare_alerts(verdict, published.alerts, broken, reference)
    _compare_dead_letters(verdict, published.dead_letters, broken, reference)
    verdict.add("collapsed", account.collapsed)
    verdict.add("gaps", account.gaps)
    verdict.add("reference_lost", expected.keys() - reference.rows.keys())
    verdict.add("reference_doubled", _surplus(reference))
    return verdict


def _surplus(stored: Stored) -> list[Identity]:
    """Return the identity of each row too many."""
    return [identity for identity, (n, _, _) in stored.rows.items() for _ in range(n - 1)]


def _changed(expected: Mapping[Identity, str], broken: Stored, reference: Stored) -> list[Identity]:
    return [
        at
        for at in expected.keys() & broken.rows.keys() & reference.rows.keys()
        if {broken.rows[at][1], reference.rows[at][1]} != {expected[at]}
        or set(broken.rows[at][2]) != set(reference.rows[at][2])
    ]


def _compare_alerts(verdict: Verdict, published: Sequence[Found], broken: Stored, reference: Stored) -> None:
    right, mine = set(reference.alerts.items()), set(broken.alerts.items())
    said = set()
    for message in published:
        content = json.loads(message.value or b"{}")
        revision = (content["alert_id"], content["revision"])
        said.add((revision, alert_content(message.value or b"{}")))
    verdict.alerts = sorted({_kind_of(body) for body in reference.alerts.values()})
    verdict.counts["alerts"] = len({alert_id for alert_id, _ in reference.alerts})
    verdict.counts["revisions"] = len(reference.alerts)
    verdict.counts["revisions_repeated"] = len(published) - len(said)
    verdict.add("alerts_missing", right - mine)
    verdict.add("alerts_extra", (mine | said) - right)


def _kind_of(body: str) -> str:
    alert = json.loads(body)
    return f"{alert['detector']} {alert['classification']} {alert['status']}"


def _compare_dead_letters(
    verdict: Verdict, published: Sequence[Found], broken: Stored, reference: Stored
) -> None:
    right, mine = set(reference.dead_letters.items()), set(broken.dead_letters.items())
    said = {
        (m.headers["source_topic"], int(m.headers["source_partition"]), int(m.headers["source_offset"]))
        for m in published
    }
    verdict.counts["dead_letters"] = len(right)
    verdict.add("dead_letters_missing", right - mine)
    verdict.add("dead_letters_extra", mine - right)
    verdict.add("dead_letters_unpublished", reference.dead_letters.keys() - said)
