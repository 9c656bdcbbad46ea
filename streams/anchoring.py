"""Anchoring: the newest heads are kept outside the store, at an interval."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from store.seals.anchors import Anchor, AnchorBook, signed_part
from store.seals.keys import MANIFEST, Signer
from streams import metrics
from streams.webhooks.sender import Sender

log = structlog.get_logger()
Send = Callable[[bytes], Awaitable[Any]]


class Anchoring:
    """Sends heads that are new to where they are wanted.

    Parameters
    ----------
    heads
        Returns those of this worker's partitions.
    book
        Has the log on this machine.
    signer
        Returns the key of the moment.
    interval_s
        Between two times.
    targets
        Further ones by name, ``webhook`` or ``topic``: takes a JSON document.
    """

    def __init__(
        self,
        heads: Callable[[], list[Anchor]],
        book: AnchorBook,
        signer: Callable[[], Signer],
        interval_s: float,
        targets: dict[str, Send] | None = None,
    ) -> None:
        self._heads = heads
        self._book = book
        self._signer = signer
        self._interval_s = interval_s
        self._targets: dict[str, Callable[[list[Anchor]], Awaitable[Any]]] = {"file": self._write}
        for name, send in (targets or {}).items():
            self._targets[name] = _documents(send, signer)
        self._sent: dict[str, set[Anchor]] = {name: set() for name in self._targets}

    async def run(self) -> None:
        """Anchor until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.anchor()

    async def anchor(self) -> None:
        """Send what is new to each target; one that fails is told, and tried again the next time."""
        heads = self._heads()
        for name, send in self._targets.items():
            new = sorted(set(heads) - self._sent[name])
            if not new:
                continue
            try:
                await send(new)
            except Exception as error:  # noqa: BLE001 - of any target; sealing must not end with it
                metrics.ANCHORS_FAILED.labels(name).inc()
                log.warning("anchors_not_sent", target=name, error=str(error)[:300] or type(error).__name__)
            else:
                self._sent[name] = set(heads)
                log.info("anchors_sent", target=name, anchors=len(new))

    async def _write(self, anchors: list[Anchor]) -> None:
        await asyncio.to_thread(self._book.append, anchors)


def document(anchors: Sequence[Anchor], signer: Signer) -> bytes:
    """Return anchors as they are sent: JSON, with a signature over the list."""
    return json.dumps(
        {
            "type": "trail.anchors",
            "anchors": [anchor.as_dict() for anchor in anchors],
            "key_id": signer.key_id,
            "signature": signer.sign(MANIFEST, signed_part(anchors)),
        },
        separators=(",", ":"),
    ).encode()


def _documents(send: Send, signer: Callable[[], Signer]) -> Callable[[list[Anchor]], Awaitable[Any]]:
    async def to_target(anchors: list[Anchor]) -> None:
        await send(document(anchors, signer()))

    return to_target


def webhook_target(url: str, sender: Sender) -> Send:
    """Return what posts a document to a URL and raises if it was not taken."""

    async def send(body: bytes) -> None:
        result = await sender.send(url, {}, body)
        if not result.delivered:
            raise ConnectionError(result.error)

    return send
