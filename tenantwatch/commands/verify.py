"""Was the trail touched, or a bundle of it?"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tenantwatch.commands.asking import LONG_S, ask
from tenantwatch.commands.auditing import audit_reading
from tenantwatch.commands.output import AsJson, fail, note, print_json, print_line
from tenantwatch.commands.trust import Keys, believed_keys, texts_of
from tenantwatch.commands.when import From, To, as_time
from tenantwatch.settings import Settings

_STYLES: Final = {True: "bold red", False: "yellow"}

OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant's part of the trail.")]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(verify)


def verify(
    tenant: OfTenant = None,
    since: From = None,
    until: To = None,
    offline: Annotated[
        Path | None,
        typer.Option(help="An evidence bundle, instead of the store: needs nothing but a public key."),
    ] = None,
    key: Keys = None,
    anchors: Annotated[
        list[Path] | None,
        typer.Option(help="Anchors that were kept elsewhere, one a line; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every row against its seal, and every seal against the one before it.

    Tells apart rows that were altered, removed, inserted, reordered or duplicated, and seals that were
    forked, removed or broken, from rows that retention removed and people who were forgotten.
    --from and --to are about when rows were stored. Exit code 1 if anything was tampered with.
    """
    if offline is not None:
        verdict = _offline(offline, texts_of(key))
    else:
        verdict = _online(tenant, since, until, key, anchors or [])
    if as_json:
        print_json(verdict)
    else:
        _print(verdict)
    if not verdict["holds"]:
        raise typer.Exit(1)


def _online(
    tenant: str | None, since: str | None, until: str | None, keys: list[Path] | None, files: list[Path]
) -> dict[str, Any]:
    from store.seals.anchors import read_anchors
    from tenantwatch.trail_audit import access_event

    settings = Settings()
    trust = believed_keys(settings, keys, needed=False)
    try:
        given = [anchor.as_dict() for file in files for anchor in read_anchors(file, trust)]
    except (OSError, ValueError) as error:
        raise fail(f"cannot read anchors: {error}") from error
    asked = {
        "tenant_id": tenant,
        "since": _text(as_time(since)),
        "until": _text(as_time(until)),
        "keys": texts_of(keys),
        "anchors": given,
    }
    verdict: dict[str, Any] = ask("POST", "/trail/verify", json=asked, timeout_s=LONG_S)
    rows = verdict.pop("rows_by_tenant")
    now = datetime.now(UTC)
    events = [access_event(t, "verify", "trail", n, now) for t, n in rows.items()]
    verdict["audited"] = audit_reading(settings, events)
    return verdict


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _offline(path: Path, keys: list[str]) -> dict[str, Any]:
    from store.seals.evidence import Bundle, verify_bundle
    from store.seals.keys import SealKeys, Trust, read_public

    bundle = Bundle(path)
    settings = Settings()
    if keys:
        trust, source = Trust(map(read_public, keys)), "the keys given with --key"
    elif ring := SealKeys.existing(settings.keys_dir, settings.seal_key):
        trust, source = ring.trust(), f"the keys in {settings.keys_dir}"
    else:
        trust, source = bundle.own_keys(), "the keys in the bundle itself"
        note(
            "the bundle is checked with the keys that it brings: compare their ids with those that you were "
            f"given ({', '.join(sorted(trust.keys))}), or name the key with --key",
            "yellow",
        )
    verdict = verify_bundle(bundle, trust)
    manifest = {
        name: bundle.manifest[name] for name in ("tenant_id", "exported_at", "exported_by", "since", "until")
    }
    return {**verdict.as_dict(), "bundle": manifest, "keys": sorted(trust.keys), "keys_from": source}


def _print(verdict: Mapping[str, Any]) -> None:
    for finding in verdict["findings"]:
        whose = finding["tenant_id"] or "the partition"
        where = f", partition {finding['partition']}" if finding["partition"] >= 0 else ""
        style = _STYLES[finding["kind"] not in ("expired", "shredded", "unsealed")]
        print_line(f"{finding['kind']}: {whose}{where}: {finding['detail']}", style)
    looked = (
        f"{verdict['rows']:,} rows in {verdict['seals']:,} seals of {verdict['chains']:,} chains, "
        f"{verdict['tenants']:,} tenants"
    )
    if not verdict["seals"]:
        print_line("nothing has been sealed yet")
    elif verdict["holds"]:
        print_line(f"the trail holds: {looked}; sealed until {verdict['sealed_until']}", "green")
    else:
        print_line(f"the trail was tampered with; looked at {looked}", "bold red")
