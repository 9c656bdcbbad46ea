"""Events for the tests of `schemas`: the smallest valid one of each kind, and strategies for random ones."""

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from schemas.event import Kind

Json = dict[str, Any]

# Two busy cores make any example slow once in a while; no test here is about time.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

_BASE: Json = {
    "event_id": "e-1",
    "tenant_id": "tenant-a",
    "time": "2026-01-31T09:30:00.123Z",
    "service": "billing-api",
    "outcome": "success",
}
_SMALLEST: dict[Kind, Json] = {
    "auth": _BASE | {"kind": "auth", "action": "login"},
    "access": _BASE | {"kind": "access", "action": "read"},
    "request": _BASE | {"kind": "request"},
}


def event(kind: Kind = "auth", /, **fields: Any) -> Json:
    """Return a valid event with only the required fields, and those given."""
    return _SMALLEST[kind] | fields


def encode(value: Any) -> bytes:
    """Return JSON as a producer sends it; NaN as Python's producers write it."""
    return json.dumps(value).encode()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | TEXTS
    | st.sampled_from(["200", "1.5", "true", "NaN", "", "0x10"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
_OPTIONAL_TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
_TENANT_IDS = st.text("abcXYZ019._-", min_size=1, max_size=64)
_CODES = st.text("abc019_.:-", min_size=1, max_size=64)
_COUNTS = st.none() | st.integers(0, 2**63 - 1)
_COMMON = {
    "user_id": _OPTIONAL_TEXT,
    "source_ip": st.none() | st.ip_addresses().map(str) | st.ip_addresses(v=4).map("::ffff:{}".format),
    "user_agent": _OPTIONAL_TEXT,
    "token_tenant_id": st.none() | _TENANT_IDS,
    "reason": _OPTIONAL_TEXT,
    "attributes": st.none() | st.dictionaries(TEXTS, SCALARS, max_size=5),
    # Fields that the contract does not know, one of them where a renamed one is put.
    "Größe": VALUES,
    "unknown.x": VALUES,
    "x": VALUES,
}
_OF_KIND: dict[Kind, dict[str, st.SearchStrategy[Any]]] = {
    "auth": {"action": _CODES, "auth_method": st.none() | _CODES},
    "access": {"action": _CODES, "resource_tenant_id": st.none() | _TENANT_IDS, "record_count": _COUNTS},
    "request": {
        "http_status": st.none() | st.integers(100, 599) | st.sampled_from(["200", 200.0, " 200"]),
        "duration_ms": st.none() | st.floats(0, 1e12),
        "bytes_in": _COUNTS,
    },
}


@st.composite
def valid_events(draw: st.DrawFn, kind: Kind) -> Json:
    """Draw an event that the pipeline stores."""
    extra = {name: value for name, value in (_COMMON | _OF_KIND[kind]).items() if draw(st.booleans())}
    fields = {name: draw(value) for name, value in extra.items()}
    return event(kind, **fields, event_id=draw(st.uuids().map(str)), tenant_id=draw(_TENANT_IDS))


@st.composite
def any_events(draw: st.DrawFn, kind: Kind) -> Json:
    """Draw an event in which any one field may hold anything, or be missing."""
    drawn = draw(valid_events(kind))
    name = draw(st.sampled_from(sorted(drawn)))
    if draw(st.booleans()):
        return drawn | {name: draw(VALUES)}
    return {key: value for key, value in drawn.items() if key != name}
