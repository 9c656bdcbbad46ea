"""What a worker does about people: forgets whom others forgot, and tells the trail who looked at whom."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from schemas.event import Kind
from store.database import StoreUnavailable
from store.vault import Shredded, Vault
from streams.pseudonyms import Pseudonymiser

INTERVAL_S: Final = 1.0
# Sends an event of ours: kind, tenant, JSON.
SendEvent = Callable[[Kind, str, bytes], Awaitable[None]]


class Forgetting:
    """Keeps a worker's memory of people up with the vault.

    Parameters
    ----------
    vault
        Whose people.
    send
        Takes events for the trail.
    """

    def __init__(self, vault: Vault, send: SendEvent) -> None:
        self.pseudonymiser = Pseudonymiser(vault.pseudonym_key)
        self._vault = vault
        self._send = send
        self._sending: set[asyncio.Future[None]] = set()

    def forget(self, who: Sequence[Shredded]) -> None:
        """Take it that people were forgotten."""
        if who:
            self.pseudonymiser.forget(who)

    async def run(self) -> None:
        """Forget whom another process forgot, until cancelled; what is in this one's memory may be older."""
        loop = asyncio.get_running_loop()

        def on_shredded(who: Sequence[Shredded]) -> None:
            loop.call_soon_threadsafe(self.forget, who)

        def on_reveal(*what: Any) -> None:
            loop.call_soon_threadsafe(self._tell_trail, *what)

        self._vault.on_shredded.append(on_shredded)
        self._vault.on_reveal.append(on_reveal)
        while True:
            with contextlib.suppress(StoreUnavailable):
                self.forget(await asyncio.to_thread(self._vault.newly_shredded))
            await asyncio.sleep(INTERVAL_S)

    def _tell_trail(self, tenant_id: str, pseudonyms: Sequence[str], actor: str, reason: str) -> None:
        """Tell the trail who looked at whom: reading it is an access too."""
        event = reveal_event(tenant_id, pseudonyms, actor, reason, datetime.now(UTC))
        # Noted in privacy_log already: a Kafka that is away does not keep anybody from their work.
        sending = asyncio.ensure_future(self._send("access", tenant_id, json.dumps(event).encode()))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)


def reveal_event(
    tenant_id: str, pseudonyms: Sequence[str], actor: str, reason: str, now: datetime
) -> dict[str, Any]:
    """Return the access event of somebody who saw originals."""
    return {
        "event_id": uuid4().hex,
        "kind": "access",
        "tenant_id": tenant_id,
        "time": now.isoformat(timespec="milliseconds"),
        "service": "tenantwatch",
        "user_id": actor[:256],
        "action": "reveal",
        "permission": "pii:read",
        "resource_type": "vault",
        "resource_id": pseudonyms[0] if len(pseudonyms) == 1 else None,
        "record_count": len(pseudonyms),
        "outcome": "success",
        "attributes": {"why": reason[:1_000], "people": ",".join(pseudonyms[:50])},
    }
