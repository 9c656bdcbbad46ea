"""How commands ask a running worker, or the store, one thing."""

from typing import Any, Final

from tenantwatch.commands.output import note
from tenantwatch.settings import Settings

# For what reads much of the trail, or waits until ClickHouse has rewritten it: a million rows take seconds,
# and a store may hold a thousand million.
LONG_S: Final = 24 * 3600.0


def ask(
    method: str,
    path: str,
    *,
    params: dict[str, Any] | None = None,
    json: Any = None,
    timeout_s: float | None = None,
) -> Any:
    """Return the control API's answer, and tell the person at the terminal what it says is to be minded.

    Parameters
    ----------
    timeout_s
        None: a little more than a query may take.

    Raises
    ------
    ControlError
        If the answer is an error, or there is nobody to ask.
    """
    # Imported here: help should not wait for the HTTP client.
    from tenantwatch.control import TIMEOUT_S, Control

    with Control(Settings()) as control:
        answer = control.request(method, path, params=params, json=json, timeout_s=timeout_s or TIMEOUT_S)
    for warning in control.warnings:
        note(warning, "yellow")
    return answer
