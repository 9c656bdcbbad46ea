"""Seeing that a topic is still the one that this worker began with.

A topic that was deleted and made anew has the same name and offsets from 0. Rows are told apart by the
topic's id, which a worker reads at its start: with the old one, new events would be taken for stored ones.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from streams.topics import DEAD_LETTERS, TopicError, admin_of

log = structlog.get_logger()
INTERVAL_S: Final = 60.0
RETRY_S: Final = 1.0
# Only written to, so that nothing of it is known by its offset.
NOT_WATCHED: Final = frozenset({DEAD_LETTERS})


class TopicReplaced(Exception):
    """A topic was deleted and made anew under a running worker; the message says which and what to do."""


def read_topic_ids(bootstrap: str, names: Sequence[str]) -> dict[str, str]:
    """Return the ids that topics have now; those that are not there are left out.

    Raises
    ------
    TopicError
        If Kafka does not answer.
    """
    with admin_of(bootstrap) as admin:
        found = admin.describe_topics(list(names))
    return {topic["name"]: str(topic["topic_id"]) for topic in found if not topic["error_code"]}


class TopicWatch:
    """Compares the topics' ids with those that the worker began with.

    Parameters
    ----------
    begun_with
        Topic name to id.
    read
        Returns the ids of topics as they are now (`read_topic_ids`); blocks.
    """

    def __init__(
        self, begun_with: Mapping[str, str], read: Callable[[Sequence[str]], Mapping[str, str]]
    ) -> None:
        self._begun_with = {name: id_ for name, id_ in begun_with.items() if name not in NOT_WATCHED}
        self._read = read

    async def run(self) -> None:
        """Check once a minute, until cancelled or until a topic was replaced."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.check()

    async def check(self) -> bool:
        """Return once it is known that all is as it was; waits for a Kafka that is away.

        Returns
        -------
        bool
            Whether Kafka was away meanwhile.

        Raises
        ------
        TopicReplaced
            If a topic has another id.
        """
        away = False
        while True:
            try:
                now = await asyncio.to_thread(self._read, list(self._begun_with))
                break
            except TopicError as error:
                away = True
                log.warning("topic_check_retried", error=str(error)[:500], wait_s=RETRY_S)
                await asyncio.sleep(RETRY_S)
        for name, began in self._begun_with.items():
            # One that is not there has nothing to confuse; it comes back with another id.
            if now.get(name, began) != began:
                raise TopicReplaced(
                    f"the topic {name} was deleted and made anew while this worker ran: its id was {began} "
                    f"and is {now[name]}. Nothing was acknowledged since that was seen. Start the worker "
                    "again: it then knows the new topic's events for new ones"
                )
        return away
