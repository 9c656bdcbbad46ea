"""Auth, access and request events: the contract's field names, types and rules."""

import ipaddress
import re
from functools import lru_cache
from typing import Annotated, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)
from pydantic_core import to_json

Kind = Literal["auth", "access", "request"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

MAX_EVENT_BYTES: Final = 1024 * 1024
MAX_EVENTS_PER_MESSAGE: Final = 1_000
# So wide is a position in a message where it is one number with the offset.
INDEX_BITS: Final = 10
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
# What ``audit.dead-letters`` takes: a rejected message and its headers must fit.
MAX_DEAD_LETTER_BYTES: Final = MAX_MESSAGE_BYTES + 1024 * 1024
MAX_ATTRIBUTES: Final = 32
MAX_ATTRIBUTES_BYTES: Final = 8 * 1024
MAX_INTEGER: Final = 2**63 - 1
_SURELY_SMALL: Final = (MAX_ATTRIBUTES_BYTES - MAX_ATTRIBUTES * len('"":"",')) // 6

# Strict, or `true` would be kept as 1 and 1.0 as 1.
Scalar = Annotated[StrictStr | StrictInt | StrictFloat | StrictBool | None, Field(union_mode="left_to_right")]


_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


def ip_address(value: str) -> str:
    # Nearly all are of this kind, canonical as they stand, and fifteen times quicker without ipaddress.
    return value if _IPV4.fullmatch(value) else _parsed_address(value)


@lru_cache(maxsize=1 << 16)
def _parsed_address(value: str) -> str:
    # Cached because addresses repeat and ipaddress costs more than the rest of an event's validation.
    try:
        # A zone (fe80::1%eth0) means something on the reporting host only; no column of addresses takes it.
        if "%" not in value:
            address = ipaddress.ip_address(value)
            # A dual-stack socket's spelling: else all its clients would be of one network, ::/64.
            return str(getattr(address, "ipv4_mapped", None) or address)
    except ValueError:
        pass
    raise ValueError("not an IPv4 or IPv6 address")


def check_attributes(value: dict[str, Scalar]) -> dict[str, Scalar]:
    if len(value) > MAX_ATTRIBUTES:
        raise ValueError(f"has {len(value)} keys, at most {MAX_ATTRIBUTES} are kept")
    # A character takes at most 6 bytes (\u0000): only objects that could pass the limit are measured.
    if value and sum(len(key) + len(str(item)) for key, item in value.items()) > _SURELY_SMALL:
        size = len(to_json(value, inf_nan_mode="strings"))
        if size > MAX_ATTRIBUTES_BYTES:
            raise ValueError(f"is {size} bytes of JSON, at most {MAX_ATTRIBUTES_BYTES} are kept")
    return value


# The pattern rules out what a zone-less or misspelt time looks like; that the day exists is checked
# when the column is converted (schemas.parse), where it costs a tenth of a datetime per event. [0-9]
# because \d means other digits too in some of the languages that read the JSON Schema.
RFC3339: Final = (
    r"^(19[7-9][0-9]|2[01][0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt ]"
    r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)

Text64 = Annotated[str, Field(min_length=1, max_length=64)]
Text256 = Annotated[str, Field(min_length=1, max_length=256)]
TENANT_ID: Final = r"^[A-Za-z0-9._-]{1,64}$"
TenantId = Annotated[str, Field(pattern=TENANT_ID)]
Code = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9_.:-]+$")]
IpAddress = Annotated[
    str,
    AfterValidator(ip_address),
    Field(json_schema_extra={"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Attributes = Annotated[
    dict[str, Scalar],
    AfterValidator(check_attributes),
    Field(json_schema_extra={"maxProperties": MAX_ATTRIBUTES, "x-max-bytes": MAX_ATTRIBUTES_BYTES}),
]
Time = Annotated[str, Field(pattern=RFC3339, json_schema_extra={"format": "date-time"})]


class EventFields(BaseModel):
    """What every event carries, whatever its kind.

    Unknown fields are accepted and end up under ``attributes``: a newer producer must not be cut off
    by an older pipeline.
    """

    model_config = ConfigDict(extra="allow")

    event_id: Text64 = Field(description="Unique per tenant; UUIDv7 recommended.")
    tenant_id: TenantId = Field(description="The tenant the event belongs to; also the message key.")
    time: Time = Field(description="When it happened, RFC 3339 with a zone.")
    service: Text64 = Field(description="Who reports it, e.g. `billing-api`.")
    user_id: Text256 | None = Field(None, description="Who acted; null when anonymous.")
    source_ip: IpAddress | None = Field(
        None, description="IPv4 or IPv6 address of the caller; `::ffff:192.0.2.7` is kept as `192.0.2.7`."
    )
    user_agent: str | None = Field(None, description="The caller's User-Agent.")
    session_id: str | None = Field(None, description="The session the event belongs to.")
    trace_id: str | None = Field(None, description="W3C trace id, or another correlation id.")
    token_id: str | None = Field(None, description="The token's `jti`.")
    token_tenant_id: TenantId | None = Field(
        None, description="The tenant the caller's token was issued for, if it may differ."
    )
    outcome: Literal["success", "failure"] = Field(description="For access: allowed or denied.")
    reason: Text64 | None = Field(None, description="snake_case code, e.g. `bad_password`, `locked`.")
    attributes: Attributes | None = Field(
        None, description="Anything else worth keeping: at most 32 scalars and 8 KiB."
    )


class AuthEvent(EventFields):
    """Somebody proved, or failed to prove, who they are."""

    kind: Literal["auth"]
    action: Code = Field(
        description="`login`, `logout`, `mfa`, `token_issue`, `token_refresh`, `token_revoke`, "
        "`password_change`, `api_key_use`, or a word of your own."
    )
    auth_method: Code | None = Field(
        None, description="`password`, `mfa`, `sso`, `oauth2`, `api_key`, `kerberos`, `ntlm`, …"
    )


class AccessEvent(EventFields):
    """Somebody touched a resource, or was denied."""

    kind: Literal["access"]
    action: Code = Field(
        description="`read`, `create`, `update`, `delete`, `export`, `grant`, `revoke`, `impersonate`, …"
    )
    permission: str | None = Field(None, description="The permission that was needed, e.g. `jobs:read`.")
    resource_type: str | None = Field(None, description="What kind of thing was touched, e.g. `job`.")
    resource_id: str | None = Field(None, description="Which one.")
    resource_tenant_id: TenantId | None = Field(
        None, description="Owner of the resource; differs from `tenant_id` on a cross-tenant access."
    )
    record_count: Count | None = Field(None, description="How many records were read or changed.")


class RequestEvent(EventFields):
    """A service answered an HTTP request."""

    kind: Literal["request"]
    http_method: Annotated[str, Field(pattern=r"^[A-Za-z]{1,32}$")] | None = Field(
        None, description="`GET`, `POST`, …"
    )
    http_route: str | None = Field(None, description="The template, e.g. `/v1/jobs/{id}`.")
    http_path: str | None = Field(None, description="The path as requested.")
    http_status: Annotated[int, Field(ge=100, le=599)] | None = Field(
        None, description="The status answered."
    )
    duration_ms: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] | None = Field(
        None, description="Time to answer, in milliseconds."
    )
    bytes_in: Count | None = Field(None, description="Size of the request body, in bytes.")
    bytes_out: Count | None = Field(None, description="Size of the response body, in bytes.")
    api_key_id: str | None = Field(None, description="The API key that was used; never the key.")


Event = AuthEvent | AccessEvent | RequestEvent
MODELS: Final[dict[Kind, type[AuthEvent] | type[AccessEvent] | type[RequestEvent]]] = {
    "auth": AuthEvent,
    "access": AccessEvent,
    "request": RequestEvent,
}
