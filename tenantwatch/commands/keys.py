"""``tenantwatch keys …``: API keys for the HTTP API; a secret is shown once, when it is made."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from tenantwatch.commands.asking import ask
from tenantwatch.commands.output import AsJson, moment, note, print_json, print_line, print_table

app = typer.Typer(no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(help="As `tenantwatch keys list` shows it.", metavar="KEY")]
Days = Annotated[int, typer.Option(min=1, max=366, help="Days that it holds.")]


def _path(key_id: str, *parts: str) -> str:
    return "/".join(("/keys", quote(key_id, safe=""), *parts))


def _print_secret(key: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(key)
        return
    print_line(key["key"])
    note(f"That is the key {key['key_id']}, until {moment(key['expires_at'])}. It is not shown again.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.", metavar="NAME")],
    tenant: Annotated[str | None, typer.Option(help="Whose key it is.")] = None,
    platform: Annotated[bool, typer.Option("--platform", help="It is the platform's.")] = False,
    role: Annotated[list[str] | None, typer.Option(help="A role; may be repeated.")] = None,
    permission: Annotated[list[str] | None, typer.Option(help="A permission; may be repeated.")] = None,
    days: Days = 90,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it, once. docs/api.md lists roles and permissions."""
    if (tenant is None) != platform:
        raise typer.BadParameter("say whose key it is: --tenant T, or --platform")
    if not role and not permission:
        raise typer.BadParameter("say what it may do: --role or --permission")
    wanted = {
        "tenant_id": tenant or "",
        "name": name,
        "roles": role or [],
        "permissions": permission or [],
        "days": days,
    }
    _print_secret(ask("POST", "/keys", json=wanted), as_json)


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Of this tenant only.")] = None,
    as_json: AsJson = False,
) -> None:
    """List keys with their last use, without their secrets."""
    keys = ask("GET", "/keys", params={"tenant_id": tenant})
    if as_json:
        print_json(keys)
        return
    columns = {
        "key": lambda key: key["key_id"],
        "tenant": lambda key: key["tenant_id"] or "(platform)",
        "status": lambda key: key["status"],
        "expires": lambda key: moment(key["expires_at"]),
        "last used": lambda key: moment(key["last_used_at"]),
        "may": lambda key: ", ".join([*key["roles"], *key["permissions"]]),
        "name": lambda key: key["name"],
    }
    print_table(columns, keys, "no keys; make one with `tenantwatch keys create`")


@app.command()
def rotate(
    key_id: KeyId,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=168, help="So long the old secret holds beside the new one.")
    ] = 24,
    days: Annotated[
        int | None,
        typer.Option(min=1, max=366, help="Days that it holds from now on; else its end stays."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret, and print it, once; its id stays."""
    how = {"overlap_s": round(overlap_hours * 3600), "days": days}
    _print_secret(ask("POST", _path(key_id, "rotate"), json=how), as_json)


@app.command()
def revoke(
    key_id: KeyId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Revoke a key at once and for good, with every token that it was given."""
    if not yes:
        typer.confirm(f"Revoke {key_id}?", abort=True, err=True)
    ask("DELETE", _path(key_id))
    note(f"revoked {key_id}")


@app.command("rotate-signing")
def rotate_signing(as_json: AsJson = False) -> None:
    """Let a new key sign access tokens in five minutes; until then it is published beside the old one."""
    made = ask("POST", "/signing-keys/rotate")
    if as_json:
        print_json(made)
    else:
        note(f"key {made['kid']} signs from {moment(made['active_at'])} on")
