"""What ``--map`` says: which field of the contract each column is, and how its values are read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from difflib import get_close_matches
from typing import Any, Final

from schemas.event import MAX_ATTRIBUTES, MODELS, Kind
from tenantwatch.importers.values import NotUnderstood, code_of, source_of, time_of, utc_text
from tenantwatch.importers.words import reason_of

ATTRIBUTES: Final = "attributes."
# What the command line has options for.
FROM_OPTIONS: Final = frozenset({"kind", "tenant_id", "service", "attributes"})
NUMBERS: Final[dict[str, type[int] | type[float]]] = {
    "http_status": int,
    "record_count": int,
    "bytes_in": int,
    "bytes_out": int,
    "duration_ms": float,
}
_SUCCESSES: Final = "success successful succeeded ok okay true yes y 1 allow allowed granted pass passed"
_FAILURES: Final = (
    "failure failed fail failing error false no n 0 deny denied refused rejected blocked invalid unauthorized"
)
OUTCOMES: Final = dict.fromkeys(_SUCCESSES.split(), "success") | dict.fromkeys(_FAILURES.split(), "failure")
# How people write that there is nothing.
ABSENT: Final = frozenset({"", "-", "null", "none", "n/a"})


class MapError(ValueError):
    """A mapping that cannot be; the message says which and what to write instead."""


@dataclass(frozen=True)
class FieldMap:
    """One ``--map``: a field, and the column or the constant it comes from.

    Parameters
    ----------
    field
        Of the contract, or ``attributes.NAME``.
    column
        Name of the column; None for a constant.
    constant
        The value of every row, if there is no column.
    times
        The format of a time, as of ``strptime``; None: as `time_of` reads it.
    words
        A column's words to the contract's; ``*`` stands for all others.
    """

    field: str
    column: str | None
    constant: str | None = None
    times: str | None = None
    words: Mapping[str, str] | None = None


def parse_map(texts: Sequence[str], kind: Kind, header: Sequence[str]) -> list[FieldMap]:
    """Read all ``--map`` of a command.

    Parameters
    ----------
    texts
        ``FIELD=COLUMN``, ``FIELD=COLUMN:FORMAT``, ``FIELD=COLUMN:WORD=WORD,…`` or ``FIELD=:CONSTANT``.
    kind
        Of the events.
    header
        The file's columns.

    Raises
    ------
    MapError
        If a field or a column is unknown, or a required field is missing.

    >>> maps = ["time=When", "outcome=Done:Y=success", "action=:login"]
    >>> [one.words for one in parse_map(maps, "auth", ["When", "Done"])]
    [None, {'Y': 'success'}, None]
    >>> parse_map(["usr_id=Who"], "auth", ["Who"])
    Traceback (most recent call last):
    tenantwatch.importers.csv_map.MapError: usr_id is no field of auth events; did you mean user_id?
    """
    mapped: dict[str, FieldMap] = {}
    for text in texts:
        one = _parse_one(text, kind, header)
        if one.field in mapped:
            raise MapError(f"{one.field} is mapped twice; map it once")
        mapped[one.field] = one
    _check_required(mapped, kind)
    attributes = sum(name.startswith(ATTRIBUTES) for name in mapped)
    if attributes > MAX_ATTRIBUTES:
        raise MapError(f"{attributes} attributes are mapped, an event keeps at most {MAX_ATTRIBUTES}")
    return list(mapped.values())


def _parse_one(text: str, kind: Kind, header: Sequence[str]) -> FieldMap:
    field, equals, rest = text.partition("=")
    field = field.strip()
    if not equals or not rest:
        raise MapError(f"{text!r} is no mapping; write FIELD=COLUMN, such as time=Timestamp")
    _check_field(field, kind)
    if rest.startswith(":"):
        if field == "time":
            raise MapError("time cannot be the same for every row; write time=COLUMN")
        return _checked_constant(FieldMap(field, None, constant=rest[1:]))
    # A column's name may have a colon, so the longest name that is there is taken.
    column, said = rest, ""
    while column not in header and ":" in column:
        column, _, more = column.rpartition(":")
        said = f"{more}:{said}" if said else more
    if column not in header:
        wanted = rest.partition(":")[0]
        raise MapError(f"{text!r}: there is no column {wanted!r}{_meant(wanted, header)}; {_columns(header)}")
    if not said:
        return FieldMap(field, column)
    if field == "time":
        return FieldMap(field, column, times=_checked_format(said))
    return FieldMap(field, column, words=_words(field, said))


def _check_field(field: str, kind: Kind) -> None:
    if field in FROM_OPTIONS:
        option = {"tenant_id": "--tenant or --tenant-from", "attributes": "--map attributes.NAME=COLUMN"}
        raise MapError(f"{field} is not mapped; use {option.get(field, f'--{field}')}")
    known = [name for name in MODELS[kind].model_fields if name not in FROM_OPTIONS]
    if field not in known and not (field.startswith(ATTRIBUTES) and len(field) > len(ATTRIBUTES)):
        meant = _meant(field, known) or f"; its fields are {', '.join(known)}"
        raise MapError(f"{field} is no field of {kind} events{meant}")


def _check_required(mapped: Mapping[str, object], kind: Kind) -> None:
    needed = {"time": "time=COLUMN"}
    if kind != "request" or "http_status" not in mapped:
        needed["outcome"] = "outcome=COLUMN or outcome=:success"
    if kind != "request":
        needed["action"] = "action=COLUMN or action=:login"
    missing = [f"{field} (--map {example})" for field, example in needed.items() if field not in mapped]
    if missing:
        raise MapError(f"missing: {', '.join(missing)}")


def _checked_constant(one: FieldMap) -> FieldMap:
    try:
        value_of(one, one.constant or "")
    except NotUnderstood as error:
        raise MapError(f"{error}; correct the constant") from None
    return one


def _checked_format(said: str) -> str | None:
    if said in ("epoch", "iso"):
        return None
    if "%" not in said:
        raise MapError(f"{said!r} is no format of times; write iso, epoch, or one like %d.%m.%Y %H:%M:%S")
    return said


def _words(field: str, said: str) -> Mapping[str, str]:
    words: dict[str, str] = {}
    for pair in said.split(","):
        word, equals, meaning = pair.rpartition("=")
        if not equals:
            raise MapError(
                f"{pair!r} of {field} is no pair; write WORD=MEANING,WORD=MEANING, and * for all others"
            )
        words[word] = meaning
    return words


def _meant(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name.lower(), {one.lower(): one for one in known}, n=1)
    found = next((one for one in known if close and one.lower() == close[0]), None)
    return f"; did you mean {found}?" if found else ""


def _columns(header: Sequence[str]) -> str:
    return f"the columns are {', '.join(header)}" if header else "the file has no columns"


def value_of(one: FieldMap, text: str, zone: tzinfo = UTC) -> dict[str, Any]:
    """Return what a value says: mostly one field, for a host name that is no address an attribute.

    Raises
    ------
    NotUnderstood
        If it cannot be the field's value.
    """
    field = one.field
    if one.words is not None:
        # What the words leave out is read as if there were none.
        text = one.words.get(text, one.words.get("*", text))
    if text.strip().lower() in ABSENT:
        return {}
    if field == "time":
        return {field: _time(one, text, zone)}
    if field == "outcome":
        return {field: _outcome(text)}
    if field == "source_ip":
        address, attributes = source_of(text.strip())
        return {field: address} | {ATTRIBUTES + name: value for name, value in attributes.items()}
    if field in ("action", "auth_method"):
        return {field: code_of(text)}
    if field == "reason":
        return {field: reason_of(text)}
    if field in NUMBERS:
        return {field: _number(field, text)}
    return {field: text}


def _time(one: FieldMap, text: str, zone: tzinfo) -> str:
    try:
        if one.times is None:
            return time_of(text, zone=zone)
        local = datetime.strptime(text.strip(), one.times)  # noqa: DTZ007 (its zone follows)
    except ValueError:
        expected = one.times or "ISO 8601 or seconds since 1970"
        raise NotUnderstood(
            f"time is {text!r:.60}, which is not {expected}; say how it is written, "
            f"e.g. --map 'time={one.column}:%d.%m.%Y %H:%M:%S'"
        ) from None
    written = utc_text(local if local.tzinfo else local.replace(tzinfo=zone))
    if written is None:
        raise NotUnderstood(f"time is {text!r:.60}, which is not between 1970 and 2199")
    return written


def _outcome(text: str) -> str:
    outcome = OUTCOMES.get(text.strip().lower())
    if outcome is not None:
        return outcome
    raise NotUnderstood(
        f"outcome is {text!r:.60}, which is neither success nor failure here; say what it is, "
        f"e.g. --map 'outcome=COLUMN:{text:.20}=failure'"
    )


def _number(field: str, text: str) -> int | float:
    try:
        return NUMBERS[field](text.strip())
    except ValueError:
        raise NotUnderstood(f"{field} is {text!r:.60}, which is no number") from None
