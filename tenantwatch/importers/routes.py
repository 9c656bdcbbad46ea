"""Route templates guessed from paths: ``/v1/jobs/42`` is a request of ``/v1/jobs/{id}``."""

import re
from functools import lru_cache
from typing import Final

ROUTE_CHARACTERS: Final = 256

# What is an id and no word: numbers, UUIDs, hashes, ULIDs and other random keys, dates, addresses of people.
_ID: Final = re.compile(
    r"\d+"
    r"|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
    r"|(?=[a-fA-F]*\d)[0-9a-fA-F]{8,}"
    r"|\d{4}-\d\d(?:-\d\d)?"
    r"|[A-Za-z]{1,10}[-_]\d+"
    r"|(?=[^/]*\d)(?=[^/]*[A-Za-z])[A-Za-z0-9]{20,}"
    r"|(?=[^/]*\d)(?=[^/]*[A-Z])(?=[^/]*[a-z])[A-Za-z0-9_-]{20,}"
    r"|[^/]*(?:@|%40)[^/]*",
    re.ASCII,
)
# Words that begin like ids: versions of an API.
_WORD: Final = re.compile(r"[vV]\d{1,3}")
_FILE: Final = re.compile(r"(.+)(\.[A-Za-z][A-Za-z0-9]{0,7})", re.ASCII)


@lru_cache(maxsize=1 << 14)
def route_of(path: str) -> str:
    """Return a path with each id in it replaced by ``{id}``.

    Only what looks like no word is taken for one: a log tells no route, and a wrong ``{id}`` would mix what
    has nothing to do with each other, where a missed one only splits.

    Parameters
    ----------
    path
        The path of a request, without query.

    >>> route_of("/v1/jobs/42/files/7c9e6679-7425-40de-944b-e07fc1f90ae7.pdf")
    '/v1/jobs/{id}/files/{id}.pdf'
    >>> route_of("/2026/report/job-17/")
    '/{id}/report/{id}/'
    """
    plain = path.partition(";")[0]
    route = "/".join(_template(segment) for segment in plain.split("/"))
    if len(route) <= ROUTE_CHARACTERS:
        return route
    return route[: route.rfind("/", 0, ROUTE_CHARACTERS) + 1] + "{rest}"


def _template(segment: str) -> str:
    if not segment or _WORD.fullmatch(segment):
        return segment
    if _ID.fullmatch(segment):
        return "{id}"
    file = _FILE.fullmatch(segment)
    return "{id}" + file[2] if file and _ID.fullmatch(file[1]) else segment
