"""How much of requests' bodies this process holds at once."""

from typing import Final

from api.v1.problems import RETRY_S, Problem
from api.v1.trace import Trace

# Each request has its own limit (`Access.max_body_bytes`), but nothing else bounds how many there are.
DEFAULT_BODIES_BYTES: Final = 64 * 1024 * 1024


class Bodies:
    """What is held for requests that have not been answered; all of a body until then.

    Parameters
    ----------
    max_bytes
        Of all of them together.

    Attributes
    ----------
    held_bytes
        At this moment.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.held_bytes = 0

    def check(self, size: int) -> None:
        """Make sure that there is room for so many bytes.

        What somebody says that they will send takes no room: they need not send it.

        Raises
        ------
        Problem
            ``unavailable``.
        """
        if self.held_bytes + size > self._max_bytes:
            detail = "too much is being sent to this process at once; nothing was changed"
            headers = {"Retry-After": str(RETRY_S), "Connection": "close"}
            raise Problem("unavailable", detail, headers=headers)

    def hold(self, trace: Trace, size: int) -> None:
        """Count bytes that came, until the request is over.

        Raises
        ------
        Problem
            ``unavailable``.
        """
        self.check(size)
        self.held_bytes += size
        trace.bytes_held += size

    def let_go(self, trace: Trace) -> None:
        """Count a request's bytes no more."""
        self.held_bytes -= trace.bytes_held
        trace.bytes_held = 0
