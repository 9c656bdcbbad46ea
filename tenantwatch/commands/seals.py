"""The seals of the trail, and the key that signs them."""

from pathlib import Path
from typing import Annotated

import typer

from tenantwatch.commands.asking import ask
from tenantwatch.commands.output import AsJson, fail, moment, print_json, print_line
from tenantwatch.commands.when import as_time, checked_time

app = typer.Typer(no_args_is_help=True)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show how far the trail is sealed, and with which key."""
    found = ask("GET", "/trail/seals")
    if as_json:
        print_json(found)
        return
    print_line(f"{'seals':12} {found['seals']:,} of {found['partitions']:,} partitions")
    print_line(f"{'newest':12} {moment(found['sealed_at']) or 'none'}")
    waiting = f"{found['unsealed']:,} rows, the oldest for {found['unsealed_age_s']:.0f} s"
    print_line(f"{'not sealed':12} {waiting if found['unsealed'] else 'none'}")
    print_line(f"{'key':12} {found['key_id'] or 'none'}")
    if others := sorted(set(found["keys"]) - {found["key_id"]}):
        print_line(f"{'believed too':12} {', '.join(others)}")


@app.command()
def key(
    of: Annotated[
        Path | None,
        typer.Option(
            help="A file with 32 bytes in base64, as TENANTWATCH_SEAL_KEY is to hold them: its public key."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the public key, for whoever is to verify bundles, or of a key that is to sign next."""
    if of is not None:
        key_id, text = _public_of(of)
        _print_key(key_id, text, as_json)
        return
    found = ask("GET", "/trail/seals")
    if found["key_id"] is None:
        raise fail("there is no signing key here: the first `tenantwatch up` makes one")
    _print_key(found["key_id"], found["keys"][found["key_id"]], as_json)


def _public_of(file: Path) -> tuple[str, str]:
    from store.seals.keys import KeyUnusable, Signer, pem

    try:
        signer = Signer.from_text(file.read_text().strip())
    except OSError as error:
        raise fail(f"cannot read {file}: {error.strerror}") from error
    except (KeyUnusable, UnicodeDecodeError):
        raise fail(f"{file} does not hold 32 bytes in base64, e.g. of `openssl rand -base64 32`") from None
    return signer.key_id, pem(signer.public)


def _print_key(key_id: str, public_key: str, as_json: bool) -> None:
    if as_json:
        print_json({"key_id": key_id, "public_key": public_key})
    else:
        for line in public_key.splitlines():  # printed as one, its line breaks would be escaped
            print_line(line)


@app.command()
def rotate(as_json: AsJson = False) -> None:
    """Sign with a new key from now on; the old one states first that the new one is to be believed."""
    done = ask("POST", "/trail/rotate")
    if as_json:
        print_json(done)
        return
    print_line(f"the key {done['key_id']} signs from now on, in place of {done['previous_key_id']}")
    print_line("give the new public key to whoever verifies bundles: `tenantwatch seals key`")


@app.command()
def introduce(
    file: Annotated[Path, typer.Argument(metavar="PUBLIC.pem", help="The public key of the new one.")],
    as_json: AsJson = False,
) -> None:
    """State that seals of another key are to be believed: before TENANTWATCH_SEAL_KEY is changed."""
    try:
        text = file.read_text()
    except OSError as error:
        raise fail(f"cannot read {file}: {error.strerror}") from error
    done = ask("POST", "/trail/introduce", json={"public_key": text})
    if as_json:
        print_json(done)
        return
    print_line(f"the key {done['previous_key_id']} states that the key {done['key_id']} is to be believed")


@app.command()
def retire(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="The id of an earlier key: `seals status`.")],
    stolen_since: Annotated[
        str | None,
        typer.Option(
            help="Somebody else has it since then, e.g. 2026-03-01 or 3d: believe nothing by it.",
            callback=checked_time,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """End an earlier key: what it signs from now on is refused. `seals rotate` does that by itself.

    Of a stolen key nothing counts any more but seals that others follow, and what it stated before it was
    stolen, which the present key states anew: look at `verify` before and afterwards.
    """
    since = as_time(stolen_since)
    asked = {"key_id": key_id, "stolen_since": since.isoformat() if since else None}
    done = ask("POST", "/trail/retire", json=asked)
    if as_json:
        print_json(done)
        return
    print_line(
        f"the key {key_id} has ended; {done['statements_made_anew']:,} of its statements were made anew"
    )
