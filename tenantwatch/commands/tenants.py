"""The tenant directory: showing it, and changing it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantwatch.commands.input import opened
from tenantwatch.commands.output import AsJson, complain, fail, note, print_json, print_table
from tenantwatch.settings import Settings

if TYPE_CHECKING:
    from schemas.tenant import Tenant
    from tenantwatch.control import Control

app = typer.Typer(no_args_is_help=True)
TenantId = Annotated[str, typer.Argument(help="The tenant's id.", metavar="TENANT")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
# Whoever changes only ids and names has what a tenant without them would have. Not `rules`, which would take
# away those of `rules apply`.
TEMPLATE: dict[str, Any] = {
    "tenant_id": "tenant-a",
    "organization_id": "org-a",
    "name": "Tenant A",
    "tier": "free",
    "status": "active",
    "region": "default",
    "roles": {},
    "rate_limit": None,
    "retention_days": 365,
    "detectors": {},
    "planned_tests": [],
    "personal_data": {"user_id": "auto", "attributes": [], "not_personal": []},
    "contacts": [],
}


def read_file(file: str) -> "list[Tenant]":
    """Return a file's tenants.

    Raises
    ------
    typer.Exit
        If anything in it is wrong; all of that has been printed.
    """
    from tenantwatch.tenant_file import TenantFileError, read_tenants

    with opened(file, progress=False) as source:
        content = b"\n".join(source.lines())
    try:
        return read_tenants(content)
    except TenantFileError as error:
        for fault in error.faults:
            complain(f"{source.name}: {fault}")
        raise typer.Exit(1) from None


@app.command()
def apply(
    file: Annotated[
        str,
        typer.Argument(
            help="Tenants as JSON: an array, one object, or one on each line; - is standard input.",
            metavar="FILE",
        ),
    ],
) -> None:
    """Add tenants, or replace their settings. The whole file is checked first: a fault applies none.

    Rules that came by `rules apply` stay where the file does not name `rules`.
    """
    tenants = read_file(file)
    if not tenants:
        raise fail(f"there is no tenant in {file}")
    from streams.producer import Sender
    from tenantwatch.control import kafka_bootstrap
    from tenantwatch.directory import await_directory, with_present_rules

    settings = Settings()
    tenants = with_present_rules(settings, tenants)
    with Sender(kafka_bootstrap(settings)) as sender:
        sender.tenants(tenants)
    note(f"applied {len(tenants):,} {'tenant' if len(tenants) == 1 else 'tenants'}")
    wanted = {tenant.tenant_id: tenant for tenant in tenants}
    # So that events sent next are judged by it.
    warn_unless(await_directory(settings, [*wanted], lambda found: found == wanted))


@app.command()
def remove(tenant_id: TenantId, yes: Yes = False) -> None:
    """Take a tenant out of the directory. Its stored events stay; new ones become dead letters."""
    if not yes:
        typer.confirm(f"Remove {tenant_id}? Its new events will be dead letters.", abort=True, err=True)
    from streams.producer import Sender
    from streams.tenant_log import read_tenant_log
    from tenantwatch.control import kafka_bootstrap
    from tenantwatch.directory import await_directory

    settings = Settings()
    bootstrap = kafka_bootstrap(settings)
    known = read_tenant_log(bootstrap).tenant_ids
    if tenant_id not in known:
        raise fail(f"there is no tenant {tenant_id}; {_nearest(tenant_id, sorted(known))}")
    with Sender(bootstrap) as sender:
        sender.remove_tenant(tenant_id)
    note(f"removed {tenant_id}")
    warn_unless(await_directory(settings, [tenant_id], lambda found: not found))


def change_tenant(tenant_id: str, edit: "Callable[[Tenant], dict[str, Any]]") -> None:
    """Write a tenant anew with some fields changed, and wait until the running worker goes by it.

    Parameters
    ----------
    edit
        Returns the fields that change, from the tenant as it is.
    """
    from schemas.tenant import Tenant
    from streams.producer import Sender
    from tenantwatch.control import Control, kafka_bootstrap
    from tenantwatch.directory import await_directory

    settings = Settings()
    with Control(settings) as control:
        own = Tenant.model_validate(find_tenant(control, tenant_id))
    changed = own.model_copy(update=edit(own))
    with Sender(kafka_bootstrap(settings)) as sender:
        sender.tenants([changed])
    warn_unless(await_directory(settings, [tenant_id], lambda found: found == {tenant_id: changed}))


def warn_unless(holds: bool | None) -> None:
    """Say that the running worker does not go yet by what was sent, if it does not."""
    if holds is False:
        complain(
            "the worker does not go by it yet; `tenantwatch status` shows what it waits for", kind="warning"
        )


@app.command("list")
def list_tenants(as_json: AsJson = False) -> None:
    """List the tenants. What --json prints can be applied again."""
    from tenantwatch.control import Control

    with Control(Settings()) as control:
        tenants = [_without_version(tenant) for tenant in control.get("/tenants")]
    if as_json:
        print_json(tenants)
        return
    columns: dict[str, Callable[[Any], str]] = {
        name: lambda tenant, name=name: tenant[name]  # type: ignore[misc]
        for name in ("tenant_id", "organization_id", "name", "tier", "status", "region")
    }
    print_table(columns, tenants, "no tenants; add them with `tenantwatch tenants apply FILE`")


@app.command()
def show(tenant_id: TenantId) -> None:
    """Show a tenant's settings as JSON, which can be changed and applied again."""
    from tenantwatch.control import Control

    with Control(Settings()) as control:
        print_json(find_tenant(control, tenant_id))


def find_tenant(control: "Control", tenant_id: str) -> dict[str, Any]:
    """Return the settings of a tenant in the directory.

    Raises
    ------
    typer.Exit
        If there is none; the nearest has been named.
    """
    tenants = control.get("/tenants")
    found = [tenant for tenant in tenants if tenant["tenant_id"] == tenant_id]
    if not found:
        raise fail(
            f"there is no tenant {tenant_id}; {_nearest(tenant_id, [t['tenant_id'] for t in tenants])}"
        )
    return _without_version(found[0])


@app.command()
def template() -> None:
    """Print a tenant with every setting at its default, to start a file for `apply` from."""
    print_json(TEMPLATE)


def _without_version(tenant: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tenant.items() if name != "version"}


def _nearest(tenant_id: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(tenant_id, known, 1)
    return f"did you mean {near[0]}?" if near else "`tenantwatch tenants list` shows those there are"
