"""Webhooks' secrets are encrypted in the store, under a key that hangs on the master key."""

import base64
from collections.abc import Callable
from typing import Final

from store.master_key import MasterKeyError, seal, unseal

# Before what is encrypted: earlier versions stored secrets as they are, ``whsec_…``.
SEALED: Final = "sealed:"


class SecretsClosed(Exception):
    """A webhook's secret is needed, and this process has no master key; the message says what to do."""


class SecretBox:
    """Seals secrets, and opens what it sealed.

    Parameters
    ----------
    key
        32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, secret: str, endpoint_id: str) -> str:
        """Return a secret as it is stored: it opens at this endpoint only."""
        return SEALED + base64.b64encode(seal(self._key, secret.encode(), endpoint_id.encode())).decode()

    def open(self, stored: str, endpoint_id: str) -> str:
        """Return the secret that was sealed.

        Raises
        ------
        MasterKeyError
            If it was sealed with another key or for another endpoint, or is damaged.
        """
        try:
            sealed = base64.b64decode(stored.removeprefix(SEALED))
        except ValueError as error:
            raise MasterKeyError(f"the secret of {endpoint_id} is damaged: {error}") from error
        return unseal(self._key, sealed, endpoint_id.encode()).decode()


# Opens the vault, perhaps, when the first secret is asked for.
OpenBox = Callable[[], SecretBox]


def as_stored(secret: str, endpoint_id: str, box: OpenBox | None) -> str:
    """Return a secret as it is stored; what is sealed, or empty, is that already.

    Raises
    ------
    SecretsClosed
        If there is nothing to seal it with.
    """
    if not secret or secret.startswith(SEALED):
        return secret
    if box is None:
        raise SecretsClosed(
            "this process has no master key, so it cannot keep a webhook's secret: set "
            "TENANTWATCH_MASTER_KEY here as for the workers"
        )
    return box().seal(secret, endpoint_id)


def as_read(stored: str, endpoint_id: str, box: OpenBox | None) -> str:
    """Return the secret behind what is stored; as it is, where this process cannot open it."""
    if box is None or not stored.startswith(SEALED):
        return stored
    opened = box()
    try:
        return opened.open(stored, endpoint_id)
    except MasterKeyError:
        # So that its endpoint can be listed, disabled, removed, and be given a new secret.
        return stored
