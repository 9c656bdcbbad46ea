"""Webhook endpoints, the queue of deliveries and the log of attempts."""

import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from schemas.alert import SEVERITIES, Severity
from store.database import Database
from store.parts import in_parts
from store.webhook_rows import (
    Attempt,
    Delivery,
    Endpoint,
    LoggedDelivery,
    condition_of,
    condition_within,
    new_secret,
)
from store.webhook_secrets import SEALED, OpenBox, as_read, as_stored

log = structlog.get_logger()
PLATFORM: Final = ""
UNSIGNABLE: Final = "its secret does not open; rotate it, then enable the endpoint"
ROTATION: Final = timedelta(hours=24)  # how long the old secret signs beside the new one

# Of an endpoint that was removed: no other is beyond it.
LAST_VERSION: Final = 2**62
_NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
_QUEUE_COLUMNS: Final = (
    "delivery_id, endpoint_id, tenant_id, alert_id, revision, event_type, kafka_partition, status, "
    "status_reason, attempts, next_attempt_at, created_at, version"
)


class UnknownWebhook(LookupError):
    """No endpoint or delivery has this id, or it belongs to another tenant."""


class WebhookStore:
    """The tables of the webhooks; every method blocks, as those of `Database` do.

    Parameters
    ----------
    clock
        Seconds since 1970.
    secrets
        Seals and opens endpoints' secrets; None: this process can neither make nor use any.
    """

    def __init__(
        self, database: Database, clock: Callable[[], float] = time.time, secrets: OpenBox | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._secrets = secrets

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def add(
        self, *, tenant_id: str, url: str, description: str = "", min_severity: Severity = "low"
    ) -> Endpoint:
        """Add an endpoint with a secret of its own.

        The URL is taken as it is: ``streams.webhooks.endpoints.add_endpoint`` is what checks it first.

        Parameters
        ----------
        tenant_id
            Whose alerts it receives; empty for the platform, which receives every tenant's.

        Raises
        ------
        SecretsClosed
            If this process cannot seal its secret.
        """
        endpoint = Endpoint(
            endpoint_id=f"ep_{secrets.token_hex(12)}",
            tenant_id=tenant_id,
            url=url,
            description=description,
            min_severity=_checked(min_severity),
            secret=new_secret(),
            previous_secret="",
            previous_secret_until=_NO_TIME,
            status="enabled",
            status_reason="",
            created_at=self._now(),
            version=0,
        )
        return self._write(endpoint)

    def list(self, tenant_id: str | None = None) -> Sequence[Endpoint]:
        """Return the endpoints of a tenant, of the platform (empty) or of everyone (None); secrets sealed."""
        where, parameters = condition_of({"tenant_id": tenant_id})
        rows = self._database.query(
            f"SELECT * FROM webhook_endpoints FINAL WHERE status != 'deleted' AND {where} "
            "ORDER BY tenant_id, created_at, endpoint_id",
            parameters,
        )
        return [Endpoint(**row) for row in rows]

    def get(self, endpoint_id: str, tenant_id: str | None = None) -> Endpoint:
        """Return an endpoint.

        Raises
        ------
        UnknownWebhook
            If there is none, it was removed, or `tenant_id` is given and is not its tenant.
        """
        where, parameters = condition_of({"endpoint_id": endpoint_id, "tenant_id": tenant_id})
        rows = self._database.query(
            f"SELECT * FROM webhook_endpoints FINAL WHERE status != 'deleted' AND {where}",
            parameters,
        )
        if not rows:
            raise UnknownWebhook(
                f"there is no webhook endpoint {endpoint_id!r}; "
                "`tenantwatch webhooks list` shows those there are"
            )
        return self._opened(Endpoint(**rows[0]))

    def update(
        self,
        endpoint_id: str,
        *,
        url: str | None = None,
        description: str | None = None,
        min_severity: Severity | None = None,
    ) -> Endpoint:
        """Change what is given; the URL is taken as it is, see `add`."""
        old = self.get(endpoint_id)
        return self._write(
            replace(
                old,
                url=old.url if url is None else url,
                description=old.description if description is None else description,
                min_severity=old.min_severity if min_severity is None else _checked(min_severity),
            )
        )

    def rotate_secret(self, endpoint_id: str) -> Endpoint:
        """Give an endpoint a new secret; the old one signs beside it for a day."""
        old = self.get(endpoint_id)
        newer = self._write(
            replace(
                old,
                secret=new_secret(),
                previous_secret=old.secret,
                previous_secret_until=self._now() + ROTATION,
            )
        )
        self._drop_earlier_versions()
        return newer

    def enable(self, endpoint_id: str) -> Endpoint:
        """Deliver to an endpoint again, from the next alert on."""
        return self._write(replace(self.get(endpoint_id), status="enabled", status_reason=""))

    def disable(self, endpoint_id: str, reason: str) -> Endpoint:
        """Stop delivering to an endpoint and cancel what waits; `redeliver` brings single ones back."""
        endpoint = self._write(replace(self.get(endpoint_id), status="disabled", status_reason=reason))
        self._cancel({"endpoint_id": endpoint_id}, f"endpoint disabled: {reason}")
        return endpoint

    def remove(self, endpoint_id: str) -> None:
        """Remove an endpoint for good and cancel what waits; its delivery log stays."""
        gone = replace(self.get(endpoint_id), status="deleted", url="", secret="", previous_secret="")
        # Whoever changes at this moment what they read before must not bring it back.
        self._write(replace(gone, version=LAST_VERSION))
        self._drop_earlier_versions()
        self._cancel({"endpoint_id": endpoint_id}, "endpoint removed")

    def seal_plain(self) -> int:
        """Seal the secrets that earlier versions stored as they are; return of how many endpoints."""
        rows = self._database.query(
            "SELECT * FROM webhook_endpoints FINAL "
            "WHERE startsWith(secret, 'whsec_') OR startsWith(previous_secret, 'whsec_')"
        )
        for row in rows:
            self._write(Endpoint(**row))
        if rows:
            self._drop_earlier_versions()
        return len(rows)

    def _drop_earlier_versions(self) -> None:
        """Let no row hold a secret that was replaced; the engine removes the files within minutes."""
        self._database.command("OPTIMIZE TABLE webhook_endpoints FINAL")

    def _write(self, endpoint: Endpoint) -> Endpoint:
        newer = replace(endpoint, version=endpoint.version + 1)
        row = asdict(newer)
        for name in ("secret", "previous_secret"):
            row[name] = as_stored(row[name], endpoint.endpoint_id, self._secrets)
        self._database.insert_rows("webhook_endpoints", [row])
        return newer

    def _opened(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint with its secrets; sealed, where this process cannot open them."""
        secret, previous = (
            as_read(text, endpoint.endpoint_id, self._secrets)
            for text in (endpoint.secret, endpoint.previous_secret)
        )
        return replace(endpoint, secret=secret, previous_secret=previous)

    def _signable(self, stored: Endpoint) -> Endpoint:
        """Return an endpoint with its secrets; disabled, if nobody can sign for it any more."""
        endpoint = self._opened(stored)
        if self._secrets is None or endpoint.status != "enabled" or not endpoint.secret.startswith(SEALED):
            return endpoint
        about = {"endpoint_id": endpoint.endpoint_id, "tenant_id": endpoint.tenant_id}
        log.error("webhook_endpoint_disabled", reason=UNSIGNABLE, **about)
        return self.disable(endpoint.endpoint_id, UNSIGNABLE)

    def enqueue(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Put new deliveries into the queue, durably, and return each once.

        One that was there before stays what it has become: its versions are later.
        """
        each = {delivery.delivery_id: delivery for delivery in deliveries}
        self._database.insert_rows("webhook_deliveries", [asdict(delivery) for delivery in each.values()])
        return [*each.values()]

    def pending(self, partitions: Collection[int]) -> Sequence[Delivery]:
        """Return what waits of some partitions of ``audit.alerts``, without bodies."""
        if not partitions:
            return []
        rows = self._database.query(
            f"SELECT {_QUEUE_COLUMNS} FROM webhook_deliveries FINAL "
            "WHERE status = 'pending' AND kafka_partition IN {partitions:Array(Int32)} "
            "ORDER BY created_at, alert_id, revision",
            {"partitions": sorted(partitions)},
        )
        return [Delivery(**row) for row in rows]

    def delivery(self, delivery_id: str, tenant_id: str | None = None) -> Delivery:
        """Return a delivery as it stands, with its body.

        Raises
        ------
        UnknownWebhook
            If there is none, or `tenant_id` is given and its endpoint is not that tenant's.
        """
        where, parameters = condition_of({"delivery_id": delivery_id, "tenant_id": tenant_id})
        rows = self._database.query(
            f"SELECT * FROM webhook_deliveries FINAL WHERE {where}",
            parameters,
        )
        if not rows:
            raise UnknownWebhook(
                f"there is no delivery {delivery_id!r}; "
                "`tenantwatch webhooks deliveries` shows those there are"
            )
        return Delivery(**rows[0])

    def to_send(self, waiting: Sequence[Delivery]) -> Sequence[tuple[Delivery, Endpoint] | None]:
        """Return deliveries as they stand, with their bodies, and where each goes.

        None: it is not there, or its endpoint was removed. An endpoint whose secret does not open is
        disabled: whatever is wrong with one, the others are sent to.
        """
        deliveries = self._database.query(
            "SELECT * FROM webhook_deliveries FINAL WHERE tenant_id IN {tenants:Array(String)} "
            "AND endpoint_id IN {endpoints:Array(String)} AND delivery_id IN {deliveries:Array(String)}",
            _keys(waiting),
        )
        endpoints = self._database.query(
            "SELECT * FROM webhook_endpoints FINAL WHERE status != 'deleted' "
            "AND endpoint_id IN {endpoints:Array(String)}",
            {"endpoints": sorted({delivery.endpoint_id for delivery in waiting})},
        )
        as_it_stands = {row["delivery_id"]: Delivery(**row) for row in deliveries}
        where = {row["endpoint_id"]: self._signable(Endpoint(**row)) for row in endpoints}
        return [
            (as_it_stands[each.delivery_id], where[each.endpoint_id])
            if each.delivery_id in as_it_stands and each.endpoint_id in where
            else None
            for each in waiting
        ]

    def record_attempts(self, made: Sequence[tuple[Delivery, Attempt]]) -> Sequence[Delivery]:
        """Log attempts, and store and return the state that each one's delivery is in after it.

        The log goes first: a crash in between repeats an attempt, but hides none.
        """
        newer = [replace(delivery, version=delivery.version + 1) for delivery, _ in made]
        self._database.insert_rows("webhook_attempts", [asdict(attempt) for _, attempt in made])
        self._database.insert_rows("webhook_deliveries", [asdict(delivery) for delivery in newer])
        return newer

    def redeliver(self, delivery_id: str, tenant_id: str | None = None) -> Delivery:
        """Put a delivery back into the queue, whatever became of it, with the same id and all its attempts.

        Raises
        ------
        UnknownWebhook
            If there is none, its endpoint was removed, or `tenant_id` is given and is not its tenant.
        ValueError
            If its endpoint is disabled.
        """
        old = self.delivery(delivery_id, tenant_id)
        if self.get(old.endpoint_id).status != "enabled":
            raise ValueError(f"webhook endpoint {old.endpoint_id} is disabled; enable it first")
        newer = replace(
            old,
            status="pending",
            status_reason="",
            attempts=0,
            next_attempt_at=self._now(),
            version=old.version + 1,
        )
        self._database.insert_rows("webhook_deliveries", [asdict(newer)])
        return newer

    def cancel(self, delivery_ids: Collection[str], reason: str) -> None:
        """Take deliveries out of the queue; those that no longer wait stay as they are."""
        for part in in_parts(delivery_ids):
            self._cancel({"delivery_id": part}, reason)

    def _cancel(self, which: Mapping[str, str | Sequence[str] | None], reason: str) -> None:
        where, parameters = condition_of(which)
        self._database.command(
            f"INSERT INTO webhook_deliveries ({_QUEUE_COLUMNS}, body) "
            "SELECT * REPLACE ('cancelled' AS status, {reason:String} AS status_reason, "
            "version + 1 AS version) "
            f"FROM (SELECT {_QUEUE_COLUMNS}, body FROM webhook_deliveries FINAL "
            f"WHERE status = 'pending' AND {where})",
            {**parameters, "reason": reason},
        )

    def deliveries(
        self, tenant_id: str | None = None, endpoint_id: str | None = None, limit: int = 100
    ) -> Sequence[LoggedDelivery]:
        """Return deliveries with their last attempts, newest first, without bodies."""
        where, parameters = condition_within(tenant_id, {"endpoint_id": endpoint_id})
        rows = self._database.query(
            f"SELECT {_QUEUE_COLUMNS} FROM webhook_deliveries FINAL WHERE {where} "
            "ORDER BY created_at DESC, alert_id, revision DESC LIMIT {limit:UInt32}",
            {**parameters, "limit": limit},
        )
        last = {
            row["delivery_id"]: Attempt(**row)
            for part in in_parts(row["delivery_id"] for row in rows)
            for row in self._database.query(
                f"SELECT * FROM webhook_attempts WHERE delivery_id IN {{ids:Array(String)}} AND {where} "
                "ORDER BY attempted_at DESC LIMIT 1 BY delivery_id",
                {**parameters, "ids": part},
            )
        }
        return [LoggedDelivery(Delivery(**row), last.get(row["delivery_id"])) for row in rows]

    def attempts(self, delivery_id: str, tenant_id: str | None = None) -> Sequence[Attempt]:
        """Return every attempt at a delivery, oldest first."""
        where, parameters = condition_within(tenant_id, {"delivery_id": delivery_id})
        rows = self._database.query(
            f"SELECT * FROM webhook_attempts WHERE {where} ORDER BY attempted_at, attempt",
            parameters,
        )
        return [Attempt(**row) for row in rows]


def _checked(severity: Severity) -> Severity:
    if severity not in SEVERITIES:
        raise ValueError(f"min_severity is {severity!r}; it must be one of {', '.join(SEVERITIES)}")
    return severity


def _keys(deliveries: Sequence[Delivery]) -> dict[str, list[str]]:
    """Return what finds deliveries fast: the table's key begins with their tenants and endpoints."""
    return {
        "tenants": sorted({delivery.tenant_id for delivery in deliveries}),
        "endpoints": sorted({delivery.endpoint_id for delivery in deliveries}),
        "deliveries": [delivery.delivery_id for delivery in deliveries],
    }
