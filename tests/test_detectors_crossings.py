"""Episodes of rows that each cross a threshold: what of all their rows is told, and when."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scenarios.streams import START_MS, as_set
from sizes import examples

from detectors.clock import FOREVER_MS
from detectors.columns import Hashed
from detectors.crossings import Crossings
from detectors.episode import Episode, Story
from detectors.episodes import EpisodeRule
from detectors.keys import Key, Keys
from schemas.alert import Alert

QUIET_MS = 60_000
# Key, score, threshold, grade, and whether there is anything to say of the row.
ROW = st.tuples(
    st.integers(0, 1), st.integers(-3, 9), st.sampled_from([-1, 0, 2]), st.integers(0, 2), st.booleans()
)


class _Teller:
    detector = rule = "crossings"
    facts: Any = str | None

    def tell(self, episode: Episode) -> Story:
        severities = ("low", "medium", "high")
        return Story("crossed", severities[episode.grade], str(episode.facts), {}, (), "")  # type: ignore[arg-type]


def fold(rows: list[tuple[int, int, int, int, bool]], cuts: Any = ()) -> list[Alert]:
    """Return the revisions of rows a second apart, cut anywhere, and of their episodes' end."""
    rule, keys = EpisodeRule(_Teller()), Keys[Key]()
    keys.intern(("tenant-a", "user_id", Hashed(["ana", "ben"])), np.arange(2))
    alerts: list[Alert] = []
    for start, stop in pairwise([0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]):
        slot, score, threshold, grade, _ = np.array(rows[start:stop], np.int64).reshape(-1, 5).T
        n = stop - start
        crossings = Crossings(
            slot,
            keys,
            START_MS + 1_000 * np.arange(start, stop),
            np.full(n, QUIET_MS),
            [f"e{i}" for i in range(start, stop)],
            score.astype(np.float64),
            threshold.astype(np.float64),
            lambda at, start=start: f"e{start + at}" if rows[start + at][4] else None,  # type: ignore[misc]
            grade,
        )
        alerts += crossings.fold(rule)
    return alerts + rule.settle("tenant-a", FOREVER_MS)


@given(rows=st.lists(ROW, min_size=1, max_size=40), cuts=st.lists(st.integers(0, 40), max_size=8))
@examples(60, thorough=500)
def test_every_revision_tells_the_highest_of_all_rows_so_far(rows: list[Any], cuts: list[int]) -> None:
    """The gravest, among these that farthest over its threshold, of equals the first, however it is cut."""
    alerts = fold(rows, cuts)
    assert as_set(alerts) == as_set(fold(rows))
    for alert in alerts:
        mine = [i for i, row in enumerate(rows) if ("ana", "ben")[row[0]] == alert.entity.value]
        highest = max(mine[: alert.event_count], key=lambda i: (rows[i][3], rows[i][1] - rows[i][2]))
        _, score, threshold, grade, said = rows[highest]
        assert (alert.score, alert.threshold) == (score, threshold)
        assert alert.severity == ("low", "medium", "high")[grade]
        assert alert.summary == (f"e{highest}" if said else "None")


@given(rows=st.lists(ROW, min_size=1, max_size=40))
@examples(30, thorough=300)
def test_a_severity_that_rises_is_told_by_the_event_that_raises_it(rows: list[Any]) -> None:
    """And no other events are told of at once but those at 1, 2, 4, 8, …."""
    counts: dict[str, set[int]] = {"ana": set(), "ben": set()}
    for alert in fold(rows):
        if alert.status != "resolved":
            counts[alert.entity.value].add(alert.event_count)
    for slot, user in enumerate(counts):
        grades = [row[3] for row in rows if row[0] == slot]
        rises = {i + 1 for i, grade in enumerate(grades) if grade > max(grades[:i], default=-1)}
        assert counts[user] == rises | {2**i for i in range(7) if 2**i <= len(grades)}
