"""CloudEvents 1.0 on Kafka, binary and structured: unwrapped to the event that they carry."""

from collections.abc import Sequence
from typing import Final

from pydantic_core import from_json, to_json

# A Kafka header may have no value.
Headers = Sequence[tuple[str, bytes | None]]

# CloudEvents attributes that can stand in for a field the event itself does not repeat.
_STANDS_FOR: Final = {"id": "event_id", "time": "time", "source": "service"}


def is_cloudevent(headers: Headers) -> bool:
    """Return whether record headers mark a CloudEvent.

    >>> is_cloudevent([("ce_specversion", b"1.0")])
    True
    """
    return any(
        name == "ce_specversion" or (name == "content-type" and b"cloudevents" in (value or b"").lower())
        for name, value in headers
    )


def unwrap(value: bytes, headers: Headers) -> bytes:
    """Return the JSON of the event inside a CloudEvent.

    Parameters
    ----------
    value
        The record's value: the event itself (binary mode), or the envelope (structured mode).
    headers
        The record's headers.

    Raises
    ------
    ValueError
        If the envelope is not JSON, has no ``data``, or a mode that is not supported.
    """
    named = {name: text or b"" for name, text in headers}
    content_type = named.get("content-type", b"").lower()
    if b"cloudevents-batch" in content_type:
        raise ValueError("batched CloudEvents are not defined for Kafka; fix: send one in each message")
    if "ce_specversion" in named:
        attributes: dict[str, object] = {
            name[3:]: text.decode("utf-8", "replace")
            for name, text in named.items()
            if name.startswith("ce_")
        }
        event = _object(value, "the message's value")
    else:
        attributes = _object(value, "the CloudEvent")
        if "data" not in attributes:
            raise ValueError("the CloudEvent has no `data`; fix: put the event there, as a JSON object")
        data = attributes["data"]
        if not isinstance(data, dict):
            raise ValueError("the CloudEvent's `data` is no object; fix: put the event there")
        event = dict(data)
    for attribute, field in _STANDS_FOR.items():
        if field not in event and attribute in attributes:
            event[field] = attributes[attribute]
    return to_json(event)


def _object(value: bytes, what: str) -> dict[str, object]:
    try:
        content = from_json(value)
    except ValueError as error:
        raise ValueError(f"{what} is not JSON: {error}; fix: send a JSON object in UTF-8") from None
    if not isinstance(content, dict):
        raise ValueError(f"{what} is no JSON object; fix: send one")
    return content
