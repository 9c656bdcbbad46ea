"""Attempts to prove who one is: what of `auth` can be a guess, and what a second factor denied is."""

import re
from typing import Final

import numpy as np

from detectors.columns import among, named, values_at
from schemas.batch import Bools, EventBatch

# What proves identity. A token's refresh fails whenever one has expired, a logout or a password change
# needs a session: their failures are no guesses.
ATTEMPTS: Final = frozenset({"login", "token_issue", "api_key_use", "mfa"})
CHALLENGES: Final = frozenset({"mfa"})
# Nor is what a client tries by itself until something fits: an agent offers one key after the other, and
# asks without any credential which methods there are. Nor is what nobody judged, as the service failed: when
# a directory is away, everybody fails at once, and their clients try again. `rate_limited` is not among them:
# what a limit on logins refuses is mostly somebody's next guess. Of a success these reasons say nothing.
NO_GUESS: Final = frozenset(
    {"internal_error", "key_refused", "no_credentials", "service_unavailable", "timeout", "unavailable"}
)
# OpenSSH for Windows makes an account for each connection and hands it a password of its own, which some logs
# tell as a failure without an address: a user nobody ever saw, with every connection.
OF_A_CONNECTION: Final = re.compile(r"sshd_[0-9]+")
# Somebody was asked and did not approve; whoever bombards them with requests is mostly met with silence.
# What says no reason may be a denial and is taken for one. Any other failure is of what somebody typed.
DENIED: Final = frozenset({None, "mfa_denied", "mfa_fraud_reported", "mfa_timeout"})
# Nobody guesses a key, however long they guess passwords.
KEYS: Final = frozenset({"certificate", "hostbased", "passkey", "publickey"})


def are_attempts(batch: EventBatch) -> Bools:
    """Return ``(n,)`` which events prove identity, or fail to, and may have been guesses."""
    no_guess = batch.failed & among(batch.columns["reason"], NO_GUESS)
    attempts = among(batch.columns["action"], ATTEMPTS) & ~no_guess
    unplaced = np.flatnonzero(attempts & batch.failed & ~named(batch.columns["source_ip"]))
    users = values_at(batch.columns["user_id"], unplaced)
    attempts[unplaced] = [user is None or not OF_A_CONNECTION.fullmatch(user) for user in users]
    return attempts


def are_with_key(batch: EventBatch) -> Bools:
    """Return ``(n,)`` which events prove identity, or fail to, by what cannot be guessed."""
    return among(batch.columns["auth_method"], KEYS)


def are_denied(batch: EventBatch) -> Bools:
    """Return ``(n,)`` which events are second factors that their user did not approve."""
    challenges = among(batch.columns["action"], CHALLENGES)
    return batch.failed & challenges & among(batch.columns["reason"], DENIED)
