"""What explains failures: a tenant's logins, and failures from where their users often log in."""

from bisect import bisect_left
from typing import Final, NamedTuple

import numpy as np

from detectors.clock import MINUTE_MS
from detectors.guessing_pressure import WINDOWS, InWindows
from schemas.batch import Bools, Int64s

WINDOWS_MS: Final = np.array(WINDOWS, np.int64) * MINUTE_MS


class Arrivals:
    """Rows of one tenant in a batch, in order of arrival.

    Parameters
    ----------
    rows
        ``(m,)`` ascending.
    at_ms
        ``(n,)`` times of all rows, which never run backwards for the tenant.
    """

    def __init__(self, rows: Int64s, at_ms: Int64s) -> None:
        self._rows: list[int] = rows.tolist()
        self._times: list[int] = at_ms[rows].tolist()

    def add(self, row: int, time_ms: int) -> None:
        """Add a row."""
        place = bisect_left(self._rows, row)
        self._rows.insert(place, row)
        self._times.insert(place, time_ms)

    def drop(self, row: int) -> None:
        """Take a row out, if it is one of them."""
        place = bisect_left(self._rows, row)
        if place < len(self._rows) and self._rows[place] == row:
            del self._rows[place], self._times[place]

    def before(self, row: int) -> int:
        """Return how many came before a row."""
        return bisect_left(self._rows, row)

    def since(self, start_ms: int, row: int) -> int:
        """Return how many came before a row, but not before a time.

        >>> Arrivals(np.array([0, 1, 2]), np.array([5, 6, 7])).since(6, 2)
        1
        """
        seen = self.before(row)
        return seen - bisect_left(self._times, start_ms, 0, seen)


class Exposures(NamedTuple):
    """One tenant's rows in a batch that explain failures.

    Parameters
    ----------
    logins, newcomers, familiar
        Logins, those of known users from new places, and failures from where their users often log in.
    """

    logins: Arrivals
    newcomers: Arrivals
    familiar: Arrivals

    def before(self, row: int) -> list[int]:
        """Return how many of each came before a row."""
        return [arrivals.before(row) for arrivals in self]

    def in_windows(self, row: int, time_ms: int, window: Int64s, counts: Int64s) -> InWindows:
        """Return what came before a row in the current window of each length.

        Parameters
        ----------
        row, time_ms
            Which row, and when.
        window, counts
            ``(4,)`` windows that earlier batches ended in, by number; and ``(4, 2)`` logins and familiar
            failures in them.
        """
        found = []
        for length_ms, known, (logins, familiar) in zip(
            WINDOWS_MS.tolist(), window.tolist(), counts.tolist(), strict=True
        ):
            number = time_ms // length_ms
            start_ms = number * length_ms
            is_same = known == number
            found.append(
                (
                    logins * is_same + self.logins.since(start_ms, row),
                    familiar * is_same + self.familiar.since(start_ms, row),
                )
            )
        return tuple(found)


def count_into(
    window: Int64s, counts: Int64s, tenants: Int64s, at_ms: Int64s, kinds: tuple[Bools, Bools]
) -> None:
    """Count a batch's logins and familiar failures into the windows that it ends in.

    Parameters
    ----------
    window, counts
        ``(t, 4)`` windows by number, set already; and ``(t, 4, 2)`` counts, changed.
    tenants, at_ms
        ``(n,)`` the rows' tenants and times.
    kinds
        ``(n,)`` logins, and familiar failures.
    """
    for kind, which in enumerate(kinds):
        of, when_ms = tenants[which], at_ms[which]
        for i, length_ms in enumerate(WINDOWS_MS.tolist()):
            current = of[when_ms // length_ms == window[of, i]]
            counts[:, i, kind] += np.bincount(current, minlength=len(counts))
