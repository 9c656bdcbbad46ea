"""Attacks, event by event: each is a script that opens an episode of one detector's rule."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

Fields = dict[str, Any]
Attack = Callable[[Random, str, str], Iterator[Fields]]

LOGIN: Final[Fields] = {"kind": "auth", "service": "login", "action": "login", "auth_method": "password"}
ACCESS: Final[Fields] = {"kind": "access", "service": "jobs", "resource_type": "job"}
REQUEST: Final[Fields] = {
    "kind": "request",
    "service": "gateway",
    "http_method": "GET",
    "http_route": "/v1/jobs/{id}",
}
WRONG: Final[Fields] = {"outcome": "failure", "reason": "bad_password"}
DENIED: Final[Fields] = {"outcome": "failure", "reason": "missing_permission"}
RIGHT: Final[Fields] = {"outcome": "success"}


def stranger_address(draw: Random) -> str:
    """Return an address that none of a tenant's people uses."""
    return f"203.0.{draw.randrange(114)}.{draw.randrange(1, 250)}"


def guess(draw: Random, user_id: str, other: str) -> Iterator[Fields]:
    """Guess one user's password from one address; now and then succeed."""
    who = {"user_id": user_id, "source_ip": stranger_address(draw)}
    for _ in range(draw.randint(14, 45)):
        yield {**LOGIN, **who, **WRONG}
    if draw.random() < 0.6:
        yield {**LOGIN, **who, **RIGHT}


def guess_from_many(draw: Random, user_id: str, other: str) -> Iterator[Fields]:
    """Guess one user's password, each time from another address."""
    for _ in range(draw.randint(14, 40)):
        yield {**LOGIN, **WRONG, "user_id": user_id, "source_ip": stranger_address(draw)}


def spray(draw: Random, user_id: str, other: str) -> Iterator[Fields]:
    """Try one password on many users."""
    address = stranger_address(draw)
    for i in range(draw.randint(12, 40)):
        reason = "unknown_user" if draw.random() < 0.3 else "bad_password"
        yield {
            **LOGIN,
            "user_id": f"person-{i}",
            "source_ip": address,
            "outcome": "failure",
            "reason": reason,
        }


def overrun(draw: Random, user_id: str, other: str) -> Iterator[Fields]:
    """Make more requests than the tenant's limit allows."""
    for i in range(draw.randint(40, 120)):
        yield {**REQUEST, **RIGHT, "user_id": user_id, "source_ip": "192.0.2.9", "http_path": f"/v1/jobs/{i}"}


def overrun_by_key(draw: Random, user_id: str, other: str) -> Iterator[Fields]:
    """Make too many requests with an api key and without a user."""
    for i in range(draw.randint(40, 90)):
        yield {**REQUEST, **RIGHT, "api_key_id": f"key-of-{user_id}", "http_path": f"/v1/jobs/{i}"}


def reach_across(draw: Random, user_id: str, other: str) -> Iterator[Fields]:
    """Reach into another tenant: denied at first, then allowed."""
    allowed_from = draw.randint(0, 12)
    for i in range(draw.randint(5, 20)):
        yield {
            **ACCESS,
            **(RIGHT if i >= allowed_from else DENIED),
            "user_id": user_id,
            "source_ip": "192.0.2.9",
            "action": "read",
            "permission": "jobs:read",
            "resource_id": f"job-{i}",
            "resource_tenant_id": other,
        }


def probe(draw: Random, user_id: str, other: str) -> Iterator[Fields]:
    """Try permissions that the user does not have."""
    permissions = draw.choice((3, 20))
    for i in range(draw.randint(30, 70)):
        yield {
            **ACCESS,
            **DENIED,
            "user_id": user_id,
            "source_ip": "192.0.2.9",
            "action": "read",
            "permission": f"admin-{i % permissions}:read",
        }


def pose(draw: Random, user_id: str, other: str) -> Iterator[Fields]:
    """Do, as a user with habits, what that user never does, from where they never are."""
    address = stranger_address(draw)
    for i in range(draw.randint(4, 12)):
        yield {
            **ACCESS,
            **RIGHT,
            "user_id": user_id,
            "source_ip": address,
            "user_agent": f"stranger-{draw.randrange(10_000)}/1.0",
            "action": f"export-{i}",
            "permission": f"reports-{i}:export",
            "resource_type": "report",
        }


ATTACKS: Final[tuple[Attack, ...]] = (
    guess,
    guess_from_many,
    spray,
    overrun,
    overrun_by_key,
    reach_across,
    probe,
    pose,
)
