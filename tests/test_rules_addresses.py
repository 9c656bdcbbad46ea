"""Rules of one's own that ask for an address: however it is written, or told that it never is one."""

from typing import Any

import pytest
from rule_texts import plain, ruled, text_of
from scenarios.streams import START_MS, numbered, run

from detectors.custom_rule import CustomRule
from detectors.parameters import CustomRuleParameters
from detectors.rules.ruleset import check_rules


def selects(selection: Any, address: str) -> bool:
    """Return whether a rule selects an event from an address."""
    events = numbered([{"time_ms": START_MS, "source_ip": address}])
    tenant = ruled(plain(selection))
    return bool(run(CustomRule("auth", CustomRuleParameters(60)), events, (), {tenant.tenant_id: tenant}))


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        (["192.0.2.9", "2001:DB8:0:0::1"], "2001:db8::1"),
        ("192.0.2.*", "192.0.2.1"),
    ],
)
@pytest.mark.parametrize("field", ["source_ip", "source_ip|cased"])
def test_an_address_is_found_however_it_is_written(field: str, written: Any, address: str) -> None:
    """Events have each in one spelling."""
    assert selects({field: written}, address)
    assert not selects({field: written}, "198.51.100.7")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("192.0.2.0/24", "never '192.0.2.0/24', the field holds an address; did you mean `|cidr`?"),
        ("192.0.2", "never '192.0.2', the field holds an address; fix: an IPv4 or IPv6 address"),
        ("host.example", "never 'host.example', the field holds an address; fix: an IPv4 or IPv6 address"),
        ("", "never '', the field holds an address; fix: an IPv4 or IPv6 address"),
    ],
)
def test_what_is_no_address_is_refused(written: str, told: str) -> None:
    """The rule would select nothing, and nobody would know."""
    [fault] = check_rules([text_of(plain({"source_ip": written}))])
    assert fault.endswith(f"detection.selection.source_ip: {told}")


@pytest.mark.parametrize("written", ["-", "", "unknown", "192.0.2.0/24", ["192.0.2.1", "localhost"]])
def test_a_stored_rule_with_what_is_no_address_goes_on(written: Any) -> None:
    """It was taken before that was refused; as no event has such an address, it matches nothing."""
    rule = plain(
        {"selection": {"action": "login"}, "filter": {"source_ip": written}},
        condition="selection and not filter",
    )
    assert check_rules([text_of(rule)])
    tenant = ruled(rule)

    def alerts(address: str) -> bool:
        events = numbered([{"time_ms": START_MS, "action": "login", "source_ip": address}])
        return bool(run(CustomRule("auth", CustomRuleParameters(60)), events, (), {tenant.tenant_id: tenant}))

    assert alerts("198.51.100.7")
    assert alerts("192.0.2.1") != isinstance(written, list)
