"""What callers may do: permissions, and roles as sets of them."""

from collections.abc import Iterable
from typing import Final, Literal, get_args

Permission = Literal[
    "events:read",
    "events:write",
    "events:export",
    "alerts:read",
    "alerts:write",
    "tenants:read",
    "tenants:manage",
    "webhooks:manage",
    "tuning:manage",
    "backtests:run",
    "reports:read",
    "keys:manage",
    "pii:read",
    "privacy:manage",
    "trail:verify",
    "platform:enter",
]
PERMISSIONS: Final[tuple[Permission, ...]] = get_args(Permission)
# What only the platform's own people may have: a tenant could otherwise raise its limits, or leave its walls.
PLATFORM_PERMISSIONS: Final[frozenset[Permission]] = frozenset({"tenants:manage", "platform:enter"})

_VIEWER: Final[frozenset[Permission]] = frozenset(
    {"events:read", "alerts:read", "tenants:read", "reports:read"}
)
_ANALYST: Final[frozenset[Permission]] = _VIEWER | {"events:export", "backtests:run"}
_RESPONDER: Final[frozenset[Permission]] = _VIEWER | {"alerts:write"}

TENANT_ROLES: Final[dict[str, frozenset[Permission]]] = {
    "viewer": _VIEWER,
    "analyst": _ANALYST,
    "responder": _RESPONDER,
    "tenant_admin": frozenset(PERMISSIONS) - PLATFORM_PERMISSIONS,
    "producer": frozenset({"events:write"}),
}
PLATFORM_ROLES: Final[dict[str, frozenset[Permission]]] = {
    "platform_auditor": _VIEWER | {"events:export", "trail:verify", "platform:enter"},
    "platform_operator": frozenset(
        {
            "alerts:read",
            "alerts:write",
            "tenants:read",
            "tenants:manage",
            "webhooks:manage",
            "tuning:manage",
            "backtests:run",
            "reports:read",
            "keys:manage",
            "platform:enter",
        }
    ),
    "platform_admin": frozenset(PERMISSIONS),
}
ROLES: Final[dict[str, frozenset[Permission]]] = TENANT_ROLES | PLATFORM_ROLES


class UnknownGrant(ValueError):
    """A role or a permission that does not exist, or that a tenant cannot have."""


def effective(
    roles: Iterable[str], permissions: Iterable[str], *, platform: bool = False
) -> frozenset[Permission]:
    """Return the permissions that roles and permissions come to; what does not exist comes to nothing.

    Parameters
    ----------
    platform
        Whether they are the platform's; a tenant's come to no permission that only the platform has.

    >>> sorted(effective(["responder"], ["events:export"]))
    ['alerts:read', 'alerts:write', 'events:export', 'events:read', 'reports:read', 'tenants:read']
    >>> effective(["platform_admin"], ["tenants:manage"])
    frozenset()
    """
    known = ROLES if platform else TENANT_ROLES
    given = frozenset(permissions).union(*(known.get(role, frozenset()) for role in roles))
    allowed = frozenset(PERMISSIONS) if platform else frozenset(PERMISSIONS) - PLATFORM_PERMISSIONS
    return frozenset(permission for permission in allowed if permission in given)


def check_grant(roles: Iterable[str], permissions: Iterable[str], *, platform: bool) -> None:
    """Refuse what `effective` would leave out in silence.

    Raises
    ------
    UnknownGrant
        Which one, and which there are.
    """
    known = ROLES if platform else TENANT_ROLES
    whose = "the platform" if platform else "a tenant"
    for role in roles:
        if role not in known:
            raise UnknownGrant(f"{whose} has no role {role!r}; there are {', '.join(known)}")
    allowed = [p for p in PERMISSIONS if platform or p not in PLATFORM_PERMISSIONS]
    for permission in permissions:
        if permission not in allowed:
            raise UnknownGrant(f"{whose} has no permission {permission!r}; there are {', '.join(allowed)}")
