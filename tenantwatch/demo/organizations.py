"""Who the demo is about: three tenants, their people, and where these work from."""

from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Final, Literal, NamedTuple

from schemas.tenant import Contact, Tenant, Tier

Role = Literal["viewer", "editor", "admin"]

ENTERPRISE: Final = "demo-enterprise"
STANDARD: Final = "demo-standard"
FREE: Final = "demo-free"

_NAMES: Final = (
    *("ada", "ali", "amy", "ana", "ben", "bob", "cem", "dan", "eli", "eva", "gil", "hal", "ian", "ida"),
    *("ina", "ivo", "jan", "joe", "kai", "kim", "lea", "leo", "lia", "max", "mia", "nia", "noa", "ola"),
    *("oli", "pia", "ray", "rex", "sam", "sue", "tim", "tom", "una", "uri", "vic", "zoe"),
)
_INITIALS: Final = "kmrst"
_WEBKIT: Final = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
DESKTOPS: Final = (
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/143.0 Safari/537.36",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 14_7) {_WEBKIT} Version/18.5 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:146.0) Gecko/20100101 Firefox/146.0",
)
PHONES: Final = (
    f"Mozilla/5.0 (Linux; Android 16) {_WEBKIT} Chrome/143.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {_WEBKIT} Version/18.5 Safari/604.1",
)


class Device(NamedTuple):
    """What somebody works with, and the address that it appears under."""

    source_ip: str
    user_agent: str


class Person(NamedTuple):
    """Somebody with a login.

    Parameters
    ----------
    desk
        Behind the address of an office, or of a home.
    phone
        The program on the phone; its address is a mobile carrier's and changes.
    """

    user_id: str
    role: Role
    desk: Device
    phone: str
    has_mfa: bool


@dataclass(frozen=True)
class Organization:
    """A tenant and its people."""

    tenant: Tenant
    people: tuple[Person, ...]

    @property
    def tenant_id(self) -> str:
        """The tenant's."""
        return self.tenant.tenant_id


class _Sketch(NamedTuple):
    tenant_id: str
    name: str
    tier: Tier
    people: int
    offices: tuple[str, ...]
    homes: int


# Addresses are those set aside for documentation (RFC 5737, RFC 3849).
_SKETCHES: Final = (
    _Sketch(ENTERPRISE, "Demo Enterprise", "enterprise", 180, ("192.0.2.10", "192.0.2.11"), 0xA00),
    _Sketch(STANDARD, "Demo Standard", "standard", 60, ("192.0.2.40",), 0xB00),
    _Sketch(FREE, "Demo Free", "free", 16, ("192.0.2.70",), 0xC00),
)
_ROLES: Final[dict[str, list[str]]] = {
    "viewer": ["jobs:read", "reports:read"],
    "editor": ["jobs:read", "jobs:create", "jobs:update", "reports:read", "reports:export"],
    "admin": ["jobs:*", "reports:*", "users:*"],
}


def organizations(draw: Random) -> tuple[Organization, ...]:
    """Return the three tenants: enterprise, standard, free."""
    return tuple(_organization(sketch, draw) for sketch in _SKETCHES)


def _organization(sketch: _Sketch, draw: Random) -> Organization:
    desk = Contact(name="Security desk", email=f"security@{sketch.tier}.example.com", role="security")
    tenant = Tenant(
        tenant_id=sketch.tenant_id,
        organization_id=f"org-{sketch.tier}",
        name=sketch.name,
        tier=sketch.tier,
        region="eu",
        roles=_ROLES,
        contacts=[desk],
    )
    names = [f"{name}.{initial}" for name, initial in product(_NAMES, _INITIALS)]
    chosen = draw.sample(names, sketch.people)
    return Organization(tenant, tuple(_person(name, i, sketch, draw) for i, name in enumerate(chosen)))


def _person(user_id: str, number: int, sketch: _Sketch, draw: Random) -> Person:
    roles: tuple[Role, ...] = ("viewer", "editor", "admin")
    # Seven in ten sit in an office, behind one address; the others at home, each in a network of their own.
    in_office = draw.random() < 0.7
    address = (
        draw.choice(sketch.offices) if in_office else f"2001:db8:{sketch.homes + number:x}::{number + 16:x}"
    )
    return Person(
        user_id,
        draw.choices(roles, (45, 45, 10))[0],
        Device(address, draw.choice(DESKTOPS)),
        draw.choice(PHONES),
        has_mfa=draw.random() < 0.4,
    )


def carrier_address(draw: Random) -> str:
    """Return one of the addresses that a mobile carrier's customers share."""
    return f"198.51.100.{draw.randint(1, 250)}"
