"""The AsyncAPI 3.1 document: the contract's topics, with keys, payloads and headers."""

from typing import Any, Final

from schemas.event import KINDS, MAX_DEAD_LETTER_BYTES, MAX_EVENTS_PER_MESSAGE, MAX_MESSAGE_BYTES, Kind
from schemas.tuning import TUNING_KEY

Json = dict[str, Any]

# The version of AsyncAPI's own Kafka bindings; every binding object names it.
_BINDING: Final = {"bindingVersion": "0.5.0"}

_DESCRIPTION: Final = """\
Services write audit events; tenantwatch stores them, looks for what is suspicious and writes alerts.

Partitioning is part of the contract. Every message is keyed by `tenant_id`, and its partition is murmur2 of \
the key, as Java's client, kafka-python and aiokafka do by themselves. Clients on librdkafka must set \
`partitioner=murmur2_random`: its default sends most tenants elsewhere. A message in the wrong partition is \
stored, counted and alerted on, but not handed to detectors. The three event topics have the same partition \
count (12 unless configured), so that a tenant's events of every kind sit in the same partition number. \
tenantwatch creates the topics; producers never do.

Values are JSON in UTF-8. On the event topics a CloudEvents 1.0 message is accepted too, in binary mode \
(`ce_` headers) and in structured mode (`application/cloudevents+json`). Compression may be lz4, zstd, \
snappy or gzip."""

_DEAD_LETTER_HEADERS: Final = {
    "reason": "A word to group by, e.g. `invalid_json`, `invalid_event`, `too_large`.",
    "detail": "Which field, what was found, how to fix it.",
    "rejected_indexes": "Positions in its array of the rejected events, from 0, with commas between.",
    "source_topic": "The topic the message came from.",
    "source_topic_id": "Its id, which tells it from an earlier topic of the same name.",
    "source_partition": "Its partition there, in decimal digits.",
    "source_offset": "Its offset there, in decimal digits.",
    "rejected_at": "When it was rejected: RFC 3339, UTC, milliseconds.",
}
_LEFT_OUT_HEADERS: Final = {
    "left_out_bytes": "Only of a message that was too large to be set aside: its size, in decimal digits. "
    "Its value and its own headers are left out; it stays where it came from, as long as Kafka keeps that.",
}
_HEADER_RULES: Final[dict[str, Json]] = {
    "source_partition": {"pattern": "^[0-9]+$"},
    "source_offset": {"pattern": "^[0-9]+$"},
    "left_out_bytes": {"pattern": "^[0-9]+$"},
    "rejected_at": {"format": "date-time"},
}


def document(components: dict[str, Json], version: str) -> Json:
    """Return the AsyncAPI document.

    Parameters
    ----------
    components
        Schemas of the models by class name, referring to each other under ``#/components/schemas``.
    version
        The contract's version.
    """
    pattern = components["Tenant"]["properties"]["tenant_id"]["pattern"]
    key = {"type": "string", "pattern": pattern, "description": "The `tenant_id`, in UTF-8."}
    messages = {f"{kind}-event": _event_message(kind, key) for kind in KINDS} | _other_messages(key)
    channels = {f"audit.{kind}": _event_channel(kind) for kind in KINDS} | _other_channels()
    return {
        "asyncapi": "3.1.0",
        "id": "urn:tenantwatch",
        "info": {"title": "tenantwatch", "version": version, "description": _DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": _operations(channels),
        "components": {
            "messages": messages,
            "schemas": components | {"DeadLetterHeaders": _headers()},
        },
    }


def _ref(*path: str) -> Json:
    return {"$ref": "/".join(("#", *path))}


def _schema(name: str) -> Json:
    return _ref("components", "schemas", name)


def _message(title: str, summary: str, key: Json, payload: Json, **more: Any) -> Json:
    # AsyncAPI's schema takes no reference for the key: it is written out in each message.
    bindings = {"kafka": {"key": key, **_BINDING}}
    return {"title": title, "summary": summary, "payload": payload, "bindings": bindings, **more}


def _event_message(kind: Kind, key: Json) -> Json:
    event = _schema(f"{kind.capitalize()}Event")
    events: Json = {"type": "array", "items": event, "minItems": 1, "maxItems": MAX_EVENTS_PER_MESSAGE}
    return _message(
        f"{kind} event",
        f"One {kind} event, or an array of 1 to {MAX_EVENTS_PER_MESSAGE:,} events of one tenant.",
        key,
        {"oneOf": [event, events]},
    )


def _other_messages(key: Json) -> dict[str, Json]:
    return {
        "tenant": _message("tenant", "A tenant's current record in the directory.", key, _schema("Tenant")),
        "tenant-deleted": _message(
            "tenant deleted", "No value: the tenant leaves the directory.", key, {"type": "null"}
        ),
        "tuning": _message(
            "tuning",
            "The operator's overrides of detector parameters, below those of tenants. No value: none hold.",
            {"const": TUNING_KEY, "description": "No tenant's id."},
            {"oneOf": [_schema("Tuning"), {"type": "null"}]},
        ),
        "alert": _message("alert", "One revision of an alert.", key, _schema("Alert")),
        "dead-letter": _message(
            "dead letter",
            "A message that could not be stored, whole or in part: the original bytes, untouched.",
            {"description": "The original key, untouched: the `tenant_id`, if the producer set it so."},
            {"description": "Any bytes."},
            contentType="application/octet-stream",
            headers=_schema("DeadLetterHeaders"),
        ),
    }


def _headers() -> Json:
    return {
        "type": "object",
        "description": "Text in UTF-8. A header that the message came with is kept as `source_header.` and "
        "its name.",
        "required": sorted(_DEAD_LETTER_HEADERS),
        "properties": {
            name: {"type": "string", **_HEADER_RULES.get(name, {}), "description": text}
            for name, text in (_DEAD_LETTER_HEADERS | _LEFT_OUT_HEADERS).items()
        },
    }


def _channel(topic: str, description: str, messages: tuple[str, ...], **configuration: Any) -> Json:
    binding = {"topicConfiguration": configuration} if configuration else {}
    return {
        "address": topic,
        "description": description,
        "messages": {name: _ref("components", "messages", name) for name in messages},
        "bindings": {"kafka": {**binding, **_BINDING}},
    }


def _event_channel(kind: Kind) -> Json:
    description = f"What services report: {kind} events. Events of another kind are rejected."
    bytes_allowed = {"max.message.bytes": MAX_MESSAGE_BYTES}
    return _channel(f"audit.{kind}", description, (f"{kind}-event",), **bytes_allowed)


def _other_channels() -> dict[str, Json]:
    return {
        "audit.tenants": _channel(
            "audit.tenants",
            "The tenant directory, compacted. Events of a tenant that is not in it are rejected.",
            ("tenant", "tenant-deleted", "tuning"),
            **{"cleanup.policy": ["compact"]},
        ),
        "audit.alerts": _channel(
            "audit.alerts", "Alert revisions, for dashboards, webhooks and other services.", ("alert",)
        ),
        "audit.dead-letters": _channel(
            "audit.dead-letters",
            "What could not be stored, and why.",
            ("dead-letter",),
            **{"max.message.bytes": MAX_DEAD_LETTER_BYTES},
        ),
    }


def _operations(channels: dict[str, Json]) -> Json:
    """Return what tenantwatch does: it receives events and tenants, and sends alerts and dead letters."""
    sent = ("audit.alerts", "audit.dead-letters")
    return {
        f"{'send' if topic in sent else 'receive'}-{topic.removeprefix('audit.')}": {
            "action": "send" if topic in sent else "receive",
            "channel": _ref("channels", topic),
            "messages": [_ref("channels", topic, "messages", name) for name in channel["messages"]],
        }
        for topic, channel in channels.items()
    }
