"""The public keys that a command believes: this machine's, and those that are named."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenantwatch.commands.output import fail
from tenantwatch.settings import Settings

if TYPE_CHECKING:
    from store.seals.keys import Trust

Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", help="Public key whose seals are believed besides this machine's; repeatable."),
]


def texts_of(files: list[Path] | None) -> list[str]:
    """Return what is in files of keys."""
    try:
        return [file.read_text() for file in files or []]
    except OSError as error:
        raise fail(f"cannot read the key {error.filename}: {error.strerror}") from error


def believed_keys(settings: Settings, files: list[Path] | None, *, needed: bool = True) -> "Trust":
    """Return the keys of this machine and those in files; at least one, if any is needed."""
    from store.seals.keys import SealKeys, Trust, read_public

    ring = SealKeys.existing(settings.keys_dir, settings.seal_key)
    trust = ring.trust() if ring is not None else Trust([])
    known = list(trust.keys.values())
    given = [read_public(text) for text in texts_of(files)]
    if needed and not known and not given:
        raise fail(
            f"no key is known here: name the public key with --key, or restore {settings.keys_dir} first "
            "(from a backup that has it: `backup restore --passphrase-file`)"
        )
    return Trust([*known, *given], trust.ended)
