"""What the API is made of: its configuration, and the parts that handlers use."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from api.v1.bodies import DEFAULT_BODIES_BYTES
from api.v1.key_ring import KeyRing
from schemas.tenant import RateLimit
from store.database import Database
from store.privacy import Privacy
from streams.webhooks.address import Network
from streams.webhooks.delivery import WebhookDelivery

if TYPE_CHECKING:
    from api.trail import Seals
    from api.v1.oidc import OidcConfig
    from streams.event_producer import EventProducer

DEFAULT_PLATFORM_LIMIT = RateLimit(requests=10_000, window_s=15 * 60)
DEFAULT_FAILURE_LIMIT = RateLimit(requests=100, window_s=15 * 60)
# A company behind one address signs in 500 times with it, and each is an event in the trail.
DEFAULT_STRANGER_LIMIT = RateLimit(requests=1_000, window_s=15 * 60)


def utc_now() -> datetime:
    """Return the wall clock's time."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class ApiConfig:
    """How the API is set up; `tenantwatch.serving.api_config` says what of it an operator can set.

    Parameters
    ----------
    issuer
        The ``iss`` of access tokens.
    platform_tenant
        Whom the trail of platform callers belongs to; None: they are logged only.
    cors_origins
        Origins whose pages may call; none by default.
    platform_limit
        Requests of each platform caller.
    failure_limit
        Refused credentials of each address; IPv6 by /64.
    stranger_limit
        Requests of each address that nobody known is behind: without credentials, or of no route.
    bodies_bytes
        Of bodies of requests that have not been answered, all together.
    slow_ms
        A request that took longer is logged.
    refresh_lifetime
        Of a refresh token; each use gives a new one.
    family_lifetime
        Of all refresh tokens that follow from one another: then people sign in anew, and their provider is
        asked again who they are and what they may do.
    webhook_allow
        Private networks that a webhook may reach.
    oidc
        Where people sign in; None: they do not.
    """

    issuer: str = "tenantwatch"
    platform_tenant: str | None = None
    cors_origins: tuple[str, ...] = ()
    platform_limit: RateLimit = DEFAULT_PLATFORM_LIMIT
    failure_limit: RateLimit = DEFAULT_FAILURE_LIMIT
    stranger_limit: RateLimit = DEFAULT_STRANGER_LIMIT
    bodies_bytes: int = DEFAULT_BODIES_BYTES
    slow_ms: float = 1_000.0
    refresh_lifetime: timedelta = timedelta(days=7)
    family_lifetime: timedelta = timedelta(days=30)
    webhook_allow: tuple[Network, ...] = ()
    oidc: "OidcConfig | None" = None


@dataclass(frozen=True)
class Parts:
    """What handlers and the gate use.

    Parameters
    ----------
    producer
        Sends events.
    webhooks
        Delivers alerts; only `tenantwatch up` has a running one, elsewhere it serves to change endpoints.
    privacy
        Who is behind pseudonyms; None where there is no master key.
    seals
        Keys and anchors that the trail is verified with.
    clock
        The wall clock, aware.
    monotonic_s
        For durations and limits.
    """

    config: ApiConfig
    database: Database
    ring: KeyRing
    producer: "EventProducer"
    webhooks: WebhookDelivery
    privacy: Privacy | None
    seals: "Seals"
    clock: Callable[[], datetime] = field(default=utc_now)
    monotonic_s: Callable[[], float] = field(default=monotonic)


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsOf = Annotated[Parts, Depends(_parts)]
