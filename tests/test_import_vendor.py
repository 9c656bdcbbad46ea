"""Vendors' own examples of events are read, where they are at hand: they are not ours to keep here.

`VENDOR_EVENTS` names the folder; ``../shared/data/vendor``, seen from the repository, is the default. In it
is ``auth_rule_tests.json.gz``: the events by which the rules of a detection product are tested, each with its
rule.
"""

import gzip
import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.importing import run_records

FOLDER = Path(os.environ.get("VENDOR_EVENTS", Path(__file__).resolve().parents[2] / "shared/data/vendor"))
EVENTS = FOLDER / "auth_rule_tests.json.gz"

pytestmark = pytest.mark.skipif(
    not EVENTS.is_file(), reason=f"vendors' events are not at {EVENTS}; VENDOR_EVENTS names another folder"
)


def events_of(rules: str) -> list[Mapping[str, Any]]:
    """Return the events by which a folder of rules is tested."""
    with gzip.open(EVENTS) as file:
        tests = json.load(file)
    return [test["log"] for test in tests if test["rule"].startswith(f"rules/{rules}/") and test["log"]]


# What is not understood: events cut down to what their rule looks at, without a time, and rows that are no
# event but numbers computed of many.
INCOMPLETE = ("eventTime is", "published is", "eventType is missing")


@pytest.mark.parametrize(
    ("rules", "name", "events", "without_event", "not_understood"),
    [
        ("auth0_rules", "auth0", 57, {}, 0),
        ("azure_signin_rules", "entra", 47, {}, 0),
        # Those are of Azure's storage, whose log is none of Entra's.
        ("azure_activity_rules", "entra", 24, {"other_category": 5}, 0),
        ("aws_cloudtrail_rules", "cloudtrail", 71, {}, 6),
        ("okta_rules", "okta", 27, {"other_event_type": 5}, 25),
    ],
)
def test_each_vendors_events_are_understood_or_reported(
    rules: str, name: str, events: int, without_event: dict[str, int], not_understood: int
) -> None:
    """As many as ever, each counted once, and none refused but for what it lacks."""
    read = import_module(f"tenantwatch.importers.{name}").read
    records = events_of(rules)
    made, report = run_records(read, *records)
    assert (report.read, dict(report.without_event)) == (len(records), without_event)
    assert (len(made), report.not_understood) == (events, not_understood)
    reasons = [why for record in records for _, why, _ in run_records(read, record)[1].examples]
    assert [why for why in reasons if not why.startswith(INCOMPLETE)] == []


@pytest.mark.parametrize(
    ("rules", "name"), [("auth0_rules", "auth0"), ("azure_signin_rules", "entra"), ("okta_rules", "okta")]
)
def test_each_vendors_events_say_who_or_whence(rules: str, name: str) -> None:
    """An event of nobody from nowhere would only look as if it had been read."""
    made, _ = run_records(import_module(f"tenantwatch.importers.{name}").read, *events_of(rules))
    assert [event for event in made if not event.get("user_id") and not event.get("source_ip")] == []
