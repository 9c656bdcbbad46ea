"""Detector parameters as a person types them: ``failed_login.burst_failures=3``."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from detectors.tuning import Overrides
    from schemas.tenant import ParameterValue

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="DETECTOR.PARAMETER=VALUE",
        help="Try a value instead of the one that holds; as often as there are values.",
    ),
]


def split_name(text: str) -> tuple[str, str]:
    """Return detector and parameter of ``detector.parameter``.

    Raises
    ------
    typer.BadParameter
        If it is not written so.
    """
    detector, dot, name = text.partition(".")
    if not (detector and dot and name):
        raise typer.BadParameter(f"{text!r}: write detector.parameter, such as failed_login.burst_failures")
    return detector, name


def read_overrides(settings: Sequence[str]) -> "Overrides":
    """Return what ``detector.parameter=value`` texts say; the last one wins.

    Raises
    ------
    typer.BadParameter
        If there is no such parameter, or it cannot have the value: every fault is named.

    >>> read_overrides(["failed_login.burst_failures=3", "failed_login.success_share=0.4"])
    {'failed_login': {'burst_failures': 3, 'success_share': 0.4}}
    """
    from detectors.parameters import check_overrides

    overrides: dict[str, dict[str, ParameterValue]] = {}
    for setting in settings:
        place, equals, text = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"{setting!r}: write detector.parameter=value")
        detector, name = split_name(place.strip())
        overrides.setdefault(detector, {})[name] = _value(text.strip())
    if faults := check_overrides(overrides):
        raise typer.BadParameter("; ".join(faults))
    return overrides


def _value(text: str) -> "ParameterValue":
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    # What is no number `check_overrides` faults, and says what was found.
    found: ParameterValue = value
    return found


def written(overrides: "Overrides") -> str:
    """Return overrides as they are typed.

    >>> written({"failed_login": {"burst_failures": 3, "quiet_s": 60}})
    'failed_login.burst_failures=3 failed_login.quiet_s=60'
    """
    return " ".join(
        f"{detector}.{name}={value}"
        for detector, values in overrides.items()
        for name, value in values.items()
    )
