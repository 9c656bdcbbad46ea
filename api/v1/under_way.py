"""What this process is doing, and is not to do twice at once."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from api.v1.problems import Problem


class UnderWay:
    """Requests that this process has not answered yet, by what there may be one of."""

    def __init__(self) -> None:
        self._places: set[Hashable] = set()

    @contextmanager
    def only(self, place: Hashable, what: str) -> Iterator[None]:
        """Be the only one at a place, until the block ends.

        Parameters
        ----------
        what
            Is under way, if somebody is there.

        Raises
        ------
        Problem
            ``conflict``, if somebody is there.
        """
        if place in self._places:
            detail = f"{what} is under way: send the request again when it was answered"
            raise Problem("conflict", detail, headers={"Retry-After": "1"})
        self._places.add(place)
        try:
            yield
        finally:
            self._places.remove(place)
