"""Waiting for the workers' directory: what is sent to ``audit.tenants`` holds a moment later."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from schemas.tenant import Tenant, as_tenant
from schemas.tuning import Tuning
from tenantwatch.control import Control, running
from tenantwatch.settings import Settings

WAIT_S: Final = 15.0
POLL_S: Final = 0.05


def await_directory(
    settings: Settings,
    tenant_ids: Sequence[str],
    done: Callable[[dict[str, Tenant]], bool],
) -> bool | None:
    """Wait until the directory holds what was sent, going by the table that follows it.

    Parameters
    ----------
    tenant_ids
        Whom to look up.
    done
        Told which of them are there, with their settings.

    Returns
    -------
    bool or None
        Whether it does; None if no worker can be seen from here. One that starts reads the directory to
        its end before the first event, so there is nothing to wait for then.
    """

    def look(control: Control) -> bool:
        rows = control.request("POST", "/tenants/lookup", json=[*tenant_ids])
        return done({tenant.tenant_id: tenant for tenant in map(as_tenant, rows)})

    return _await(settings, look)


def await_tuning(settings: Settings, wanted: Tuning) -> bool | None:
    """Wait until the operator's overrides hold that were sent; otherwise as `await_directory`."""
    return _await(settings, lambda control: current_tuning(control) == wanted)


def current_tuning(control: Control) -> Tuning:
    """Return the operator's overrides by which the workers go."""
    *_, newest = control.get("/tuning").values()
    return Tuning.model_validate(newest)


def _await(settings: Settings, look: Callable[[Control], bool]) -> bool | None:
    if settings.clickhouse is None and not running(settings):
        return None
    deadline = time.monotonic() + WAIT_S
    with Control(settings) as control:
        while not (found := look(control)) and time.monotonic() <= deadline:
            time.sleep(POLL_S)
    return found


def with_present_rules(settings: Settings, tenants: Sequence[Tenant]) -> list[Tenant]:
    """Return tenants with the rules that the directory has for those that name none.

    A file of tenants and a folder of rules are kept by different people: applying one is not to undo the
    other. Where no worker can be seen from here, tenants are as they were given.
    """
    silent = [tenant.tenant_id for tenant in tenants if "rules" not in tenant.model_fields_set]
    if not silent or (settings.clickhouse is None and not running(settings)):
        return [*tenants]
    with Control(settings) as control:
        rows = control.request("POST", "/tenants/lookup", json=silent)
    present = {row["tenant_id"]: {"rules": row["rules"]} for row in rows if row.get("rules")}
    return [tenant.model_copy(update=present.get(tenant.tenant_id, {})) for tenant in tenants]
