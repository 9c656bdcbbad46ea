"""How each state is laid out, and the format version that stands for it."""

import dataclasses
from hashlib import blake2b
from types import UnionType
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from detectors.access_anomaly import AccessAnomalyState
from detectors.address_credit import AddressCredit
from detectors.admission import Admission
from detectors.cross_tenant_spray_state import CrossTenantSprayState
from detectors.custom_rule import CustomRuleState
from detectors.failed_login_state import FailedLoginState
from detectors.rate_breach import RateBreachState
from detectors.registry import new_detectors
from detectors.saved import walk
from detectors.service_health import ServiceHealthState

# Class, format version, and the fingerprint of that version's layout.
LAYOUTS: dict[str, tuple[type[Any], int, str]] = {
    "access_anomaly": (AccessAnomalyState, 8, "17373836bf29e3cf"),
    "address_credit": (AddressCredit, 3, "ec604ac071390b1f"),
    "cross_tenant_spray": (CrossTenantSprayState, 1, "f8fc8475f9477919"),
    "admission": (Admission, 2, "9c3bd611cf1e52aa"),
    "custom_rule": (CustomRuleState, 3, "cca98810f3a83d96"),
    "failed_login": (FailedLoginState, 9, "f2547526788a11cc"),
    "rate_breach": (RateBreachState, 6, "0e558650c004039f"),
    "service_health": (ServiceHealthState, 3, "16a8979d207e417b"),
}


def layout_of(state: Any) -> str:
    """Return how a state is laid out: what its format version stands for."""
    lines: list[str] = []
    for node in walk(state):
        lines.append(f"{node.path} {type(node.owner).__qualname__}")
        for name, value in node.values.items():
            if isinstance(value, np.ndarray):
                lines.append(f"{node.at(name)} {value.dtype.str} {value.shape[1:]}")
            else:
                lines.append(f"{node.at(name)} {described(node.declared.get(name, type(value)))}")
        if "teller" in node.saved.unsaved:
            lines.append(f"{node.at('episodes')} facts {described(node.owner.teller.facts)}")
    return "\n".join(lines)


def described(kind: Any) -> str:
    """Return a type with the fields of the classes in it."""
    if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        fields = ", ".join(f"{name}: {described(hint)}" for name, hint in get_type_hints(kind).items())
        return f"{kind.__qualname__}({fields})"
    if isinstance(kind, UnionType):
        return " | ".join(map(described, get_args(kind)))
    if inner := get_args(kind):
        return f"{kind.__origin__.__qualname__}[{', '.join(map(described, inner))}]"
    return kind.__qualname__ if isinstance(kind, type) else str(kind)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_changed_layout_has_a_version_of_its_own(name: str) -> None:
    """Bytes of an earlier version are then not read, and the state is built from the store."""
    kind, version, known = LAYOUTS[name]
    layout = layout_of(kind())
    fingerprint = blake2b(layout.encode(), digest_size=8).hexdigest()
    if fingerprint != known and kind.format_version == version:
        changed = f"the state's layout changed: raise format_version of {kind.__qualname__}"
        pytest.fail(f"{changed}; it is now {fingerprint}:\n{layout}")
    assert (kind.format_version, fingerprint) == (version, known), "name this version's layout in LAYOUTS"


def test_every_state_has_a_known_layout() -> None:
    """A detector that the registry gains is tested here as well."""
    states = {d.name: type(d.new_state()) for detectors in new_detectors().values() for d in detectors}
    others = {
        "address_credit": AddressCredit,
        "admission": Admission,
        "cross_tenant_spray": CrossTenantSprayState,
    }
    assert {**states, **others} == {name: kind for name, (kind, *_) in LAYOUTS.items()}
