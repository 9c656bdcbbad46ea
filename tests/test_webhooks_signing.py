"""Signatures, judged by the library that receivers use."""

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from store.webhook_rows import new_secret
from streams.webhooks.signing import headers


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_receiver_verifies_any_body(text: str) -> None:
    """Whatever characters the body has, the receiver's library accepts our signature."""
    secret = new_secret()
    body = text.encode()
    Webhook(secret).verify(body, headers([secret], "msg_1", int(time.time()), body), json_parse=False)


def test_a_changed_body_is_not_verified() -> None:
    """One changed byte is noticed."""
    secret = new_secret()
    signed = headers([secret], "msg_1", int(time.time()), b'{"a":1}')
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(b'{"a":2}', signed)


def test_both_secrets_verify_during_a_rotation() -> None:
    """With two secrets there are two signatures, and a receiver that has either one accepts."""
    old, new = new_secret(), new_secret()
    signed = headers([new, old], "msg_1", int(time.time()), b"{}")
    assert len(signed["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        Webhook(secret).verify(b"{}", signed)


def test_another_endpoint_s_secret_does_not_verify() -> None:
    """A secret that did not sign is refused."""
    signed = headers([new_secret()], "msg_1", int(time.time()), b"{}")
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(b"{}", signed)


def test_a_secret_is_32_random_bytes() -> None:
    """Secrets have the prefix and the length that Standard Webhooks asks for, and no two are alike."""
    first, second = new_secret(), new_secret()
    assert first.startswith("whsec_")
    assert len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) == 32
    assert first != second
