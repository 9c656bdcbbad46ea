"""Check a file of events before they are sent: what the pipeline would reject, and what looks misspelt."""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, Literal

from pydantic_core import from_json

from schemas.event import KINDS, MAX_MESSAGE_BYTES, MODELS, Kind
from schemas.parse import BYTES_PER_CALL, RECORDS_PER_CALL, message_too_large, parse

Severity = Literal["error", "warning"]

_FIELDS: Final = {kind: frozenset(model.model_fields) for kind, model in MODELS.items()}
# How a document begins that spreads over lines, as JSON tools print it for people.
_PRETTY_PRINTED: Final = (b"{", b"[", b"[{")


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something to mend before sending.

    Parameters
    ----------
    line
        Line of the file, from 1.
    severity
        ``error``: the pipeline would reject it. ``warning``: it would be stored, but hardly as meant.
    reason
        A word to group by. An error's is that of the dead letter, but for ``mixed_tenants``: what the
        pipeline would say of that depends on the message's key.
    detail
        Which field, what was found, how to fix it.
    """

    line: int
    severity: Severity
    reason: str
    detail: str


@dataclass(slots=True)
class Summary:
    """What a file holds.

    Parameters
    ----------
    lines
        Lines read, without the empty ones.
    events
        Events that the pipeline would store, by kind.
    errors, warnings
        Problems found.
    """

    lines: int = 0
    events: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    errors: int = 0
    warnings: int = 0


def validate_lines(lines: Iterable[bytes], summary: Summary | None = None) -> Iterator[Problem]:
    """Yield the problems of newline-delimited events, in the order of the lines.

    A line is what a message's value would be: an event, or an array of up to 1,000 events of one tenant.
    Lines are read about 200 at a time: a file of any size needs little memory.

    Parameters
    ----------
    lines
        The file, opened in binary mode.
    summary
        Counted up while the problems are read.

    >>> summary = Summary()
    >>> for problem in validate_lines([b'{"kind": "login"}'], summary):
    ...     print(problem.line, problem.severity, problem.detail)
    1 error kind: 'login' is none; fix: send `auth`, `access` or `request`
    >>> summary.lines, summary.errors
    (1, 1)
    """
    summary = Summary() if summary is None else summary
    pending: list[tuple[int, bytes]] = []
    size = 0
    for number, line in enumerate(lines, 1):
        value = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip()
        if not value:
            continue
        summary.lines += 1
        if summary.lines == 1 and value in _PRETTY_PRINTED:
            yield _counted(_pretty_printed(number), summary)
            return
        pending.append((number, value))
        size += len(value)
        if len(pending) >= RECORDS_PER_CALL or size >= BYTES_PER_CALL:
            yield from _check(pending, summary)
            pending, size = [], 0
    yield from _check(pending, summary)


def _pretty_printed(number: int) -> Problem:
    detail = (
        "one JSON document over several lines; fix: write each event on a line of its own, "
        "e.g. with `jq -c .` (`jq -c '.[]'` for an array)"
    )
    return Problem(number, "error", "invalid_json", detail)


def _counted(problem: Problem, summary: Summary) -> Problem:
    if problem.severity == "error":
        summary.errors += 1
    else:
        summary.warnings += 1
    return problem


def _check(lines: list[tuple[int, bytes]], summary: Summary) -> Iterator[Problem]:
    problems: list[Problem] = []
    of_kind: dict[Kind, list[tuple[int, bytes]]] = {kind: [] for kind in KINDS}
    for number, value in lines:
        kind = _look_at(number, value, problems)
        if kind:
            of_kind[kind].append((number, value))
    refused = {problem.line for problem in problems if problem.severity == "error"}
    for kind, chunk in of_kind.items():
        numbers = [number for number, _ in chunk]
        parsed = parse(kind, [value for _, value in chunk])
        summary.events[kind] += sum(numbers[i] not in refused for i in parsed.batch.offset.tolist())
        problems += [
            Problem(numbers[rejection.record], "error", rejection.reason, rejection.detail)
            for rejection in parsed.rejections
        ]
    for problem in sorted(problems):
        yield _counted(problem, summary)


def _look_at(number: int, value: bytes, problems: list[Problem]) -> Kind | None:
    """Return the kind under which a line is to be parsed; note what parsing itself does not find."""
    if len(value) > MAX_MESSAGE_BYTES:
        rejection = message_too_large(0, len(value))
        problems.append(Problem(number, "error", rejection.reason, rejection.detail))
        return None
    try:
        content = from_json(value)
    except ValueError:
        return "auth"  # rejected in the same words whatever the kind
    single = not isinstance(content, list)
    events = {
        "" if single else f"[{i}].": event
        for i, event in enumerate([content] if single else content)
        if isinstance(event, dict)
    }
    if not events:
        return "auth"
    kind = next((event["kind"] for event in events.values() if event.get("kind") in KINDS), None)
    if kind is None:
        prefix, event = next(iter(events.items()))
        found = f"{event['kind']!r:.60} is none" if "kind" in event else "missing"
        detail = f"{prefix}kind: {found}; fix: send `auth`, `access` or `request`"
        problems.append(Problem(number, "error", "invalid_event", detail))
        return None
    problems += _unknown_fields(number, kind, events)
    problems += _other_tenants(number, events)
    known: Kind = kind
    return known


def _unknown_fields(number: int, kind: Kind, events: dict[str, dict[str, Any]]) -> list[Problem]:
    first_seen: dict[str, str] = {}
    for prefix, event in events.items():
        for name in event.keys() - _FIELDS[kind]:
            first_seen.setdefault(name, prefix)
    return [
        Problem(number, "warning", "unknown_field", f"{prefix}{name:.60}: {_advice(name, kind)}")
        for name, prefix in first_seen.items()
    ]


def _advice(name: str, kind: Kind) -> str:
    kept = "unknown field, kept under `attributes`"
    others = [f"`{other}`" for other in KINDS if name in _FIELDS[other]]
    if others:
        return f"{kept}; it is a field of {' and '.join(others)} events"
    known = sorted(_FIELDS[kind])
    # `ip` is too short to be close to `source_ip`, but it is a word of it.
    near = get_close_matches(name.lower(), known, 1) or [f for f in known if name.lower() in f.split("_")]
    return f"{kept}; did you mean `{near[0]}`?" if near else kept


def _other_tenants(number: int, events: dict[str, dict[str, Any]]) -> list[Problem]:
    # The pipeline compares each event with the message's key; a file has none, but one key fits one tenant.
    tenants = {prefix: event.get("tenant_id") for prefix, event in events.items()}
    first = next(iter(tenants.values()))
    prefix = next((prefix for prefix, tenant in tenants.items() if tenant != first), None)
    if prefix is None:
        return []
    found = f"{tenants[prefix]!r:.60} beside {first!r:.60}"
    detail = f"{prefix}tenant_id: {found}; fix: send each tenant's events in messages of their own"
    return [Problem(number, "error", "mixed_tenants", detail)]
