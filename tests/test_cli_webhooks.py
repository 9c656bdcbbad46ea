"""`webhooks`: an endpoint's life, and its deliveries, through the running worker and a real receiver."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Up, eventually
from standardwebhooks import Webhook
from test_cli_alerts import attack
from test_cli_dead_letters import add_tenant
from webhook_receiver import Answer, Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A web server on this machine."""
    with receiving() as found:
        yield found


def add(up: Up, receiver: Receiver, tenant_id: str) -> dict[str, Any]:
    add_tenant(up, tenant_id)
    return dict(up.json("webhooks", "add", receiver.url(), "--tenant", tenant_id))


def listed(up: Up, tenant_id: str) -> list[dict[str, Any]]:
    return list(up.json("webhooks", "list", "--tenant", tenant_id))


def test_the_secret_is_printed_once(up: Up, receiver: Receiver) -> None:
    """`add` prints id and secret; `list` has neither, nor any secret."""
    add_tenant(up, "hooks-secret")
    done = up.run("webhooks", "add", receiver.url(), "--tenant", "hooks-secret", "--min-severity", "high")
    assert done.returncode == 0
    endpoint_id, secret = done.stdout.split()
    assert secret.startswith("whsec_")
    [endpoint] = listed(up, "hooks-secret")
    assert (endpoint["endpoint_id"], endpoint["min_severity"]) == (endpoint_id, "high")
    assert secret not in up.run("webhooks", "list").stdout + json.dumps(endpoint)


@pytest.mark.parametrize("options", [[], ["--tenant", "tenant-a", "--platform"]])
def test_whose_alerts_an_endpoint_receives_must_be_said(up: Up, options: list[str]) -> None:
    """Nobody gets every tenant's alerts by leaving something out."""
    done = up.run("webhooks", "add", "https://example.com/hook", *options)
    assert done.returncode == 2
    assert "--platform" in done.stderr


def test_an_endpoint_of_a_misspelt_tenant_is_refused(up: Up, receiver: Receiver) -> None:
    """It would never get an alert."""
    done = up.run("webhooks", "add", receiver.url(), "--tenant", "hoosk")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no tenant 'hoosk'" in done.stderr
    assert listed(up, "hoosk") == []


def test_an_address_that_is_not_public_is_refused(up: Up) -> None:
    """Only 127.0.0.1 is allowed in this test; the error says why another is not."""
    add_tenant(up, "hooks-private")
    done = up.run("webhooks", "add", "http://10.0.0.7/hook", "--tenant", "hooks-private")
    assert done.returncode == 1
    assert "10.0.0.7" in done.stderr
    assert listed(up, "hooks-private") == []


def test_a_test_is_sent_at_once_and_signed(up: Up, receiver: Receiver) -> None:
    """`test` exits 0 when it arrived, with a signature of the secret that `add` printed."""
    endpoint = add(up, receiver, "hooks-test")
    assert up.run("webhooks", "test", endpoint["endpoint_id"]).returncode == 0
    [received] = receiver.received
    Webhook(endpoint["secret"]).verify(received.body, received.headers)


def test_a_test_that_does_not_arrive_fails(up: Up, receiver: Receiver) -> None:
    """Any answer but 2xx is exit code 1, and said."""
    receiver.answers = [Answer(500)]
    endpoint = add(up, receiver, "hooks-broken")
    done = up.run("webhooks", "test", endpoint["endpoint_id"])
    assert done.returncode == 1
    assert "500" in done.stderr


def test_no_secret_of_the_worker_is_in_its_log(up: Up, receiver: Receiver) -> None:
    """Neither a webhook's, before and after it signed, nor the master key, nor the key of the seals."""
    add_tenant(up, "hooks-log")
    added = up.run("webhooks", "add", receiver.url(), "--tenant", "hooks-log").stdout.split()
    rotated = up.json("webhooks", "rotate-secret", added[0])["secret"]
    assert up.run("webhooks", "test", added[0]).returncode == 0
    keys = up.data_dir / "keys"
    master = [line for line in (keys / "master.key").read_text().splitlines() if line[:1] not in ("#", "")]
    seal = [line for line in (keys / "seal.pem").read_text().splitlines() if "-----" not in line]
    log = up.log_path.read_text()
    assert len(log) > 1_000
    for secret in (added[1], rotated, *master, *seal):
        assert len(secret) > 20
        assert secret.removeprefix("whsec_") not in log


def test_a_rotated_secret_signs_the_next_delivery(up: Up, receiver: Receiver) -> None:
    """`rotate-secret` prints the new one."""
    endpoint = add(up, receiver, "hooks-rotated")
    rotated = up.json("webhooks", "rotate-secret", endpoint["endpoint_id"])
    assert rotated["secret"] != endpoint["secret"]
    up.run("webhooks", "test", endpoint["endpoint_id"])
    Webhook(rotated["secret"]).verify(receiver.received[0].body, receiver.received[0].headers)


def test_an_endpoint_is_changed_disabled_and_enabled(up: Up, receiver: Receiver) -> None:
    """What is not named stays as it was."""
    endpoint_id = add(up, receiver, "hooks-changed")["endpoint_id"]
    for command, expected in (
        (["update", endpoint_id, "--description", "pager"], ("pager", "enabled")),
        (["disable", endpoint_id], ("pager", "disabled")),
        (["enable", endpoint_id], ("pager", "enabled")),
    ):
        assert up.run("webhooks", *command).returncode == 0
        [endpoint] = listed(up, "hooks-changed")
        assert (endpoint["description"], endpoint["status"]) == expected


def test_a_removed_endpoint_is_gone(up: Up, receiver: Receiver) -> None:
    """`remove` asks first; what is gone is answered with where to look."""
    endpoint_id = add(up, receiver, "hooks-removed")["endpoint_id"]
    assert up.run("webhooks", "remove", endpoint_id, stdin="n\n").returncode == 1
    assert len(listed(up, "hooks-removed")) == 1
    assert up.run("webhooks", "remove", endpoint_id, "--yes").returncode == 0
    assert listed(up, "hooks-removed") == []
    gone = up.run("webhooks", "test", endpoint_id)
    assert gone.returncode == 1
    assert "`tenantwatch webhooks list`" in gone.stderr


def test_an_alert_is_delivered_logged_and_delivered_again(up: Up, receiver: Receiver) -> None:
    """`deliveries` tells what became of each revision; `redeliver` sends one again, with the same id."""
    add(up, receiver, "hooks-alerts")
    assert up.run("replay", "-", stdin=attack("hooks-alerts")).returncode == 0
    eventually(lambda: receiver.received)

    def delivered() -> Any:
        logged = up.json("webhooks", "deliveries", "--tenant", "hooks-alerts")
        return [entry["delivery"] for entry in logged if entry["delivery"]["status"] == "delivered"]

    delivery_id = eventually(delivered)[0]["delivery_id"]
    assert delivery_id in up.run("webhooks", "deliveries", "--tenant", "hooks-alerts").stdout
    assert up.run("webhooks", "redeliver", delivery_id).returncode == 0
    eventually(lambda: [received.id for received in receiver.received].count(delivery_id) == 2)
