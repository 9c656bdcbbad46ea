"""What every OCSF object of ours has."""

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final

from schemas.alert import to_ms

OCSF_VERSION: Final = "1.8.0"
OTHER: Final = 99
# Of an attribute that a class requires and an event has no value for.
UNKNOWN: Final = "Unknown"


def milliseconds(time: str | datetime) -> int:
    """Return a time as OCSF's ``timestamp_t``: milliseconds since 1970.

    >>> milliseconds("2026-01-01T00:00:00.250Z")
    1767225600250
    """
    return to_ms(datetime.fromisoformat(time) if isinstance(time, str) else time)


def metadata(uid: str, tenant_id: str, **more: Any) -> dict[str, Any]:
    """Return ``metadata``.

    Parameters
    ----------
    uid
        Of the event, or of the alert.
    more
        Further attributes; those without a value are left out.
    """
    product = {"name": "tenantwatch", "vendor_name": "tenantwatch", "version": version("tenantwatch")}
    return {
        "version": OCSF_VERSION,
        "product": product,
        "uid": uid,
        "tenant_uid": tenant_id,
        **with_values(more),
    }


def with_values(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that have a value.

    >>> with_values({"a": 0, "b": None, "c": "", "d": {}})
    {'a': 0}
    """
    return {name: value for name, value in attributes.items() if value not in (None, "", {}, [])}


def classified(class_uid: int, activity_id: int) -> dict[str, int]:
    """Return the numbers that say what kind of object it is.

    >>> classified(3002, 1)["type_uid"]
    300201
    """
    return {
        "category_uid": class_uid // 1000,
        "class_uid": class_uid,
        "activity_id": activity_id,
        "type_uid": class_uid * 100 + activity_id,
    }
