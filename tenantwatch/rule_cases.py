"""A rule's cases: events, and whether they are to raise an alert. They stand beside it, and test it.

An event is the contract's, written short: ``at`` says how long after the case's start it happens, ``count``
and ``every`` make several of it, in whose texts ``{i}`` is the number of each; what all events of a file have
in common stands under ``common``.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from detectors.custom_rule import CustomRule
from detectors.rules.faults import RuleError
from detectors.rules.fields import field_fault
from detectors.rules.view import ATTRIBUTE
from schemas.alert import Alert, from_ms, rfc3339
from schemas.errors import describe
from schemas.event import KINDS, Kind
from schemas.parse import parse
from schemas.tenant import unknown_tenant
from tenantwatch.rules import RuleFile

START_MS: Final = 1_767_603_600_000  # some Monday, 09:00 UTC
_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"([0-9]{1,6})([smhd])")
_COMMON: Final = {"tenant_id": "tenant-a", "service": "test", "outcome": "success"}


def _milliseconds(text: Any) -> int:
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("not a duration like 90s, 5m, 1h or 2d")
    return int(found[1]) * _UNIT_MS[found[2]]


Duration = Annotated[int, BeforeValidator(_milliseconds)]


class Events(BaseModel):
    """An event, or several of its kind; what is not a field here is one of the contract's."""

    model_config = ConfigDict(extra="allow")

    at: Duration = 0
    every: Duration = 1_000
    count: Annotated[int, Field(ge=1, le=10_000)] = 1
    kind: Kind | None = None


class Case(BaseModel):
    """What happens, and what the rule is to say."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    expect: Literal["alert", "silent"]
    alerts: Annotated[int, Field(ge=1)] | None = Field(None, description="How many; at least one without.")
    events: Annotated[list[Events], Field(min_length=1)]


class Cases(BaseModel):
    """A file of cases."""

    model_config = ConfigDict(extra="forbid")

    common: dict[str, Any] = Field(default_factory=dict)
    cases: Annotated[list[Case], Field(min_length=1)]


class Verdict(NamedTuple):
    """How a case went.

    Parameters
    ----------
    case
        Its name.
    expect
        What was expected: ``alert`` or ``silent``.
    fault
        What is wrong with it; empty: nothing.
    alerts
        What was raised, the last revision of each.
    """

    case: str
    expect: str
    fault: str
    alerts: list[Alert]


def read_cases(path: Path) -> Cases:
    """Return the cases in a file.

    Raises
    ------
    RuleError
        There is no such file, or anything in it is wrong.
    """
    try:
        return Cases.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        fault = f"{path.name} is missing; fix: write a case that alerts and one that does not"
    except ValidationError as error:
        fault = f"{path.name}: {describe(error)}"
    except (OSError, ValueError, yaml.YAMLError) as error:
        fault = f"{path.name}: {' '.join(str(error).split())}"
    raise RuleError([fault])


def judge(file: RuleFile) -> list[Verdict]:
    """Return how the cases of a rule went, and what is missing among them.

    Raises
    ------
    RuleError
        There are none, or they are wrong.
    """
    cases = read_cases(file.cases_path)
    verdicts = [_verdict(file, case, cases.common) for case in cases.cases]
    expected = {case.expect for case in cases.cases}
    if missing := {"alert", "silent"} - expected:
        [word] = missing
        what = "alerts" if word == "alert" else "does not alert"
        verdicts.append(Verdict("", word, f"there is no case that {what}; fix: add one", []))
    return verdicts


def _verdict(file: RuleFile, case: Case, common: Mapping[str, Any]) -> Verdict:
    try:
        alerts = [*_alerts(file, case, common)]
    except RuleError as error:
        return Verdict(case.name, case.expect, str(error), [])
    wanted = 0 if case.expect == "silent" else case.alerts or max(len(alerts), 1)
    fault = ""
    if len(alerts) != wanted:
        told = f": {alerts[0].summary}" if alerts else ""
        at_least = "at least " if case.expect == "alert" and case.alerts is None else ""
        fault = f"expected {at_least}{_counted(wanted)}, got {_counted(len(alerts))}{told}"
    return Verdict(case.name, case.expect, fault, alerts)


def _counted(alerts: int) -> str:
    return f"{alerts or 'no'} alert{'' if alerts == 1 else 's'}"


def _alerts(file: RuleFile, case: Case, common: Mapping[str, Any]) -> Iterator[Alert]:
    """Yield the last revision of each alert that the file's rules raise in a case."""
    kinds = dict.fromkeys(rule.kind for rule in file.rules)
    events = sorted(_expanded(case.events, common, next(iter(kinds))), key=lambda event: event["time"])
    for kind in KINDS:
        own = [event for event in events if event["kind"] == kind]
        if own and kind not in kinds:
            raise RuleError([f"the rule does not look at {kind} events; fix: take them out"])
        yield from _fold(file, kind, own)


def _fold(file: RuleFile, kind: Kind, events: Sequence[Mapping[str, Any]]) -> list[Alert]:
    lines = [json.dumps({"event_id": f"event-{i}", **event}).encode() for i, event in enumerate(events, 1)]
    parsed = parse(kind, lines)
    if bad := parsed.rejections:
        raise RuleError([f"{events[bad[0].record]}: {bad[0].detail}"])
    tenants = (
        unknown_tenant(tenant_id).model_copy(update={"rules": [file.text]})
        for tenant_id in parsed.batch.tenant.values
    )
    detector = CustomRule(kind)
    batch = replace(parsed.batch, tenants=tuple(tenants))
    return [*{alert.alert_id: alert for alert in detector.fold(batch, detector.new_state())}.values()]


def _expanded(lines: Sequence[Events], common: Mapping[str, Any], default: Kind) -> Iterator[dict[str, Any]]:
    """Yield the events of a case as the contract has them."""
    for line in lines:
        fields = {**_COMMON, **common, **(line.model_extra or {})}
        usual = fields.pop("kind", default)
        kind = line.kind or usual
        attributes = fields.pop("attributes", {})
        for name in [*fields]:
            if fault := field_fault(name, kind):
                raise RuleError([fault])
            if name.startswith(ATTRIBUTE):
                attributes = {**attributes, name.removeprefix(ATTRIBUTE): fields.pop(name)}
        if attributes:
            fields["attributes"] = attributes
        for i in range(line.count):
            numbered = {
                name: value.replace("{i}", str(i)) if isinstance(value, str) else value
                for name, value in fields.items()
            }
            yield {"kind": kind, **numbered, "time": rfc3339(from_ms(START_MS + line.at + i * line.every))}
