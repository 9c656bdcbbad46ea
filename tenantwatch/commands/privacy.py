"""A person's rights and the operator's duties: export, forget, legal holds, keys, the report."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantwatch.commands.asking import LONG_S, ask
from tenantwatch.commands.auditing import audit_reading
from tenantwatch.commands.output import AsJson, Cell, fail, moment, note, print_json, print_line, print_table
from tenantwatch.commands.trust import Keys, believed_keys
from tenantwatch.commands.when import Since, as_time
from tenantwatch.settings import Settings

app = typer.Typer(no_args_is_help=True)

Tenant = Annotated[str, typer.Option("--tenant", help="Whose.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Of this tenant only.")]
Subjects = Annotated[
    list[str],
    typer.Option("--subject", help="The person: an e-mail address, …, or a pseudonym. May be repeated."),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is noted.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def actor() -> str:
    """Return who is at the terminal, as the system knows them."""
    from tenantwatch.trail_audit import user_name

    return f"{user_name()} (command line)"


@app.command()
def export(
    tenant: Tenant,
    subject: Subjects,
    reason: Reason = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it there; a file that exists is kept.")
    ] = None,
) -> None:
    """Write everything about a person, as JSON lines.

    What is known of them, their events, every revision of their alerts with what people wrote about them, and
    who read them. It is noted, and told to the trail.
    """
    asked = {"tenant_id": tenant, "subjects": subject, "actor": actor(), "reason": reason}
    if out is not None and out.exists():
        raise fail(f"{out} exists and is kept; name another file")
    content: bytes = ask("POST", "/privacy/export", json=asked, timeout_s=LONG_S)
    _audit_export(tenant, content)
    if out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        return
    out.touch(mode=0o600)
    out.write_bytes(content)
    lines = len(content.splitlines())
    note(f"wrote {lines:,} lines to {out}, readable by you only")


def _audit_export(tenant_id: str, content: bytes) -> None:
    from schemas.personal import is_pseudonym
    from tenantwatch.trail_audit import access_event

    head, *rows, _ = content.splitlines()
    people = ",".join(filter(is_pseudonym, json.loads(head)["pseudonyms"]))
    now = datetime.now(UTC)
    audit_reading(
        Settings(), [access_event(tenant_id, "export", people, len(rows), now, "person", "pii:read")]
    )


@app.command()
def forget(
    tenant: Tenant, subject: Subjects, reason: Reason = "", yes: Yes = False, as_json: AsJson = False
) -> None:
    """Forget people: shred their keys and originals. The trail keeps pseudonyms that lead to nobody.

    Prints the certificate, which is kept too. It cannot be undone.
    """
    unmet: list[str] = ask("POST", "/privacy/unmet", json={"tenant_id": tenant, "subjects": subject})
    if unmet:
        note(
            f"nothing of {tenant} speaks of {', '.join(unmet)}: look for a misspelling, or another tenant",
            "yellow",
        )
    if not yes:
        who = "this person" if len(subject) == 1 else f"these {len(subject)} people"
        typer.confirm(f"Forget {who} of {tenant}? It cannot be undone.", abort=True, err=True)
    asked = {"tenant_id": tenant, "subjects": subject, "actor": actor(), "reason": reason}
    _print_certificate(ask("POST", "/privacy/forget", json=asked, timeout_s=LONG_S), as_json)


@app.command()
def certificate(
    certificate_id: Annotated[
        str | None, typer.Argument(help="Without it they are listed.", metavar="CERTIFICATE")
    ] = None,
    tenant: OfTenant = None,
    as_json: AsJson = False,
) -> None:
    """Show the certificate of a forgetting, or list all."""
    params = {"tenant_id": tenant}
    if certificate_id is not None:
        path = f"/privacy/certificates/{certificate_id}"
        _print_certificate(ask("GET", path, params=params), as_json)
        return
    found = ask("GET", "/privacy/certificates", params=params)
    if as_json:
        print_json(found)
        return
    columns: dict[str, Cell] = {
        "certificate": lambda one: one["certificate_id"],
        "forgotten": lambda one: moment(one["forgotten_at"]),
        "tenant": lambda one: one["tenant_id"],
        "people": lambda one: str(len(one["pseudonyms"])),
        "raw copies gone by": lambda one: moment(one["kafka"]["gone_by"]) or "never",
        "by": lambda one: one["requested_by"],
    }
    print_table(columns, found, "nobody was forgotten")


def _print_certificate(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    removed, kept, kafka = told["removed"], told["kept"], told["kafka"]
    rows = ", ".join(f"{count:,} in {table}" for table, count in removed["rows"].items())
    left = ", ".join(f"{count:,} {table}" for table, count in kept["rows"].items())
    facts = {
        "certificate": told["certificate_id"],
        "forgotten": f"{moment(told['forgotten_at'])}, at the wish of {told['requested_by']}",
        "why": told["reason"],
        "tenant": told["tenant_id"],
        "pseudonyms": ", ".join(told["pseudonyms"]),
        "removed": f"{rows}: {removed['what']}",
        "kept": f"{left}: {kept['what']}",
        "raw copies": f"gone by {moment(kafka['gone_by']) or 'no time'}: {kafka['note']}",
        "backups": told["backups"],
        "digest": told["digest"],
        "signed": f"with the key {told['signature']['key_id']}" if told["signature"] else "no",
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        if value:
            print_line(f"{name:{width}}  {value}")


@app.command("verify-certificate")
def verify_certificate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As `certificate ID --json` prints it.")],
    key: Keys = None,
    as_json: AsJson = False,
) -> None:
    """Check that a certificate is what was signed: needs no store, only the public key.

    Exit code 1 if it was changed, is not signed, or is signed by a key that is not known.
    """
    from store.certificates import why_not_proven

    try:
        told = json.loads(file.read_bytes())
    except OSError as error:
        raise fail(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise fail(f"{file} is no certificate: {error}") from error
    if not isinstance(told, dict) or "certificate_id" not in told:
        raise fail(f"{file} is no certificate")
    problem = why_not_proven(told, believed_keys(Settings(), key))
    if as_json:
        print_json({"certificate_id": told["certificate_id"], "holds": problem is None, "problem": problem})
    elif problem is None:
        print_line(f"the certificate holds: signed with the key {told['signature']['key_id']}", "green")
    else:
        print_line(f"the certificate proves nothing: {problem}", "bold red")
    if problem is not None:
        raise typer.Exit(1)


@app.command()
def hold(
    tenant: Tenant,
    reason: Annotated[str, typer.Option("--reason", help="The case; it is noted.")],
    subject: Annotated[
        str | None, typer.Option("--subject", help="The person; without it, all of the tenant.")
    ] = None,
) -> None:
    """Place a legal hold: until it is released, nothing is forgotten and nothing ages out."""
    asked = {"tenant_id": tenant, "subject": subject, "actor": actor(), "reason": reason}
    placed = ask("POST", "/privacy/holds", json=asked)
    print_line(placed["hold_id"])
    note(f"{placed['pseudonym'] or f'all of {tenant}'} is held until this hold is released")


@app.command()
def holds(tenant: OfTenant = None, as_json: AsJson = False) -> None:
    """List the legal holds that are not released."""
    found = ask("GET", "/privacy/holds", params={"tenant_id": tenant})
    if as_json:
        print_json(found)
        return
    columns: dict[str, Cell] = {
        "hold": lambda one: one["hold_id"],
        "tenant": lambda one: one["tenant_id"],
        "on": lambda one: one["pseudonym"] or "all of it",
        "placed": lambda one: moment(one["placed_at"]),
        "by": lambda one: one["placed_by"],
        "why": lambda one: one["reason"],
    }
    print_table(columns, found, "there is no legal hold")


@app.command()
def release(
    tenant: Tenant,
    hold_id: Annotated[list[str], typer.Argument(help="As `holds` lists them.", metavar="HOLD...")],
    reason: Reason = "",
) -> None:
    """Release legal holds: forgetting and retention go on from the next run."""
    asked = {"tenant_id": tenant, "hold_ids": hold_id, "actor": actor(), "reason": reason}
    released = {one["hold_id"] for one in ask("POST", "/privacy/holds/release", json=asked)}
    if missing := [one for one in hold_id if one not in released]:
        raise fail(f"{tenant} has no hold {', '.join(missing)}; `tenantwatch privacy holds` lists them")
    note(f"released {len(released)}")


@app.command()
def reveal(tenant: Tenant, subject: Subjects, reason: Reason = "", as_json: AsJson = False) -> None:
    """Show who is behind pseudonyms. It is noted, and told to the trail."""
    asked = {"tenant_id": tenant, "subjects": subject, "actor": actor(), "reason": reason}
    found = ask("POST", "/privacy/reveal", json=asked)
    if as_json:
        print_json(found)
        return
    columns: dict[str, Cell] = {"pseudonym": lambda one: one[0], "original": lambda one: one[1]}
    print_table(columns, list(found.items()), "the vault knows none of them: forgotten, or never met")


@app.command("rotate-keys")
def rotate_keys(
    tenant: OfTenant = None,
    master: Annotated[
        bool, typer.Option("--master", help="The master key too, where it is in a file on this machine.")
    ] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Change the tenants' keys and wrap people's keys by them. No event and no pseudonym changes."""
    if master and tenant:
        raise typer.BadParameter("it is every tenant's: leave --tenant out", param_hint="--master")
    asked = {"tenant_id": tenant, "master": master, "actor": actor(), "reason": reason}
    done = ask("POST", "/privacy/rotate-keys", json=asked, timeout_s=LONG_S)
    if as_json:
        print_json(done)
        return
    note(
        f"{done['tenant_keys_made']:,} new tenant keys, {done['subject_keys_rewrapped']:,} people's keys "
        f"wrapped by them, {done['keys_rewrapped']:,} keys wrapped by the master key in use, "
        f"{done['tenant_keys_deleted']:,} old keys deleted"
    )
    if master:
        note(f"there is a new master key in {Settings().key_path}: replace the copy that you keep apart")


@app.command()
def report(tenant: OfTenant = None, since: Since = None, as_json: AsJson = False) -> None:
    """Say what was deleted in the last 31 days and why, what is held, and who read what."""
    found = ask("GET", "/privacy/report", params={"tenant_id": tenant, "since": as_time(since)})
    if as_json:
        print_json(found)
        return
    aged: dict[str, Cell] = {
        "when": lambda one: moment(one["run_at"]),
        "tenant": lambda one: one["tenant_id"],
        "kind": lambda one: one["kind"],
        "removed": lambda one: f"{one['rows_removed']:,}",
        "why": lambda one: one["why"],
    }
    _section("aged out", aged, found["aged_out"])
    forgotten: dict[str, Cell] = {
        "when": lambda one: moment(one["at"]),
        "tenant": lambda one: one["tenant_id"],
        "people": lambda one: one["people"],
        "certificate": lambda one: one["certificate_id"],
        "by": lambda one: one["requested_by"],
        "why": lambda one: one["why"],
    }
    _section("forgotten", forgotten, found["forgotten"])
    held: dict[str, Cell] = {
        "since": lambda one: moment(one["placed_at"]),
        "tenant": lambda one: one["tenant_id"],
        "on": lambda one: one["pseudonym"] or "all of it",
        "why": lambda one: one["reason"],
    }
    _section("held", held, found["held"])
    noted: dict[str, Cell] = {
        "when": lambda one: moment(one["at"]),
        "what": lambda one: one["action"],
        "tenant": lambda one: one["tenant_id"],
        "people": lambda one: one["people"],
        "by": lambda one: one["actor"],
        "why": lambda one: one["reason"],
    }
    _section("noted", noted, found["noted"])
    for name in found["cut"]:
        note(f"{name} is cut: these are the latest; name a tenant or a later --since", "yellow")


def _section(name: str, columns: dict[str, Cell], rows: list[Any]) -> None:
    print_line(f"{name}: {len(rows) or 'nothing'}", "bold")
    if rows:
        print_table(columns, rows, "")
        print_line("")
