"""Evidence of the trail for auditors."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantwatch.commands.asking import LONG_S, ask
from tenantwatch.commands.auditing import audit_reading
from tenantwatch.commands.output import AsJson, print_json, print_line
from tenantwatch.commands.when import From, To, as_time
from tenantwatch.settings import Settings

app = typer.Typer(no_args_is_help=True)


@app.callback()
def evidence() -> None:
    """Evidence of the trail for auditors."""


@app.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, a ZIP.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose rows.")],
    since: From = None,
    until: To = None,
    as_json: AsJson = False,
) -> None:
    """Write a tenant's rows with their seals, verifiable by `verify --offline` with the public key alone.

    --from and --to are about when rows were stored; whole seals are exported.
    """
    from tenantwatch.trail_audit import access_event, operator

    settings = Settings()
    asked: dict[str, Any] = {
        "tenant_id": tenant,
        "since": at.isoformat() if (at := as_time(since)) else None,
        "until": at.isoformat() if (at := as_time(until)) else None,
        "path": str(out.absolute()),
        "exported_by": operator(),
    }
    manifest = ask("POST", "/trail/evidence", json=asked, timeout_s=LONG_S)
    event = access_event(tenant, "export", out.name, manifest["rows"], datetime.now(UTC))
    manifest["audited"] = audit_reading(settings, [event])
    if as_json:
        print_json(manifest)
        return
    print_line(f"{manifest['rows']:,} rows and {manifest['seals']:,} seals of {tenant} are in {out}")
    print_line(f"signed with the key {manifest['key_id']}; `tenantwatch seals key` shows it")
