"""Kafka behind TLS and SASL: every client of ours gets in, and nobody with wrong credentials."""

import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from conftest import CommandLine, _await_ready, eventually, settings_env
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from pydantic import ValidationError
from schema_examples import event

import streams.broker
from streams.broker import BrokerConfig, EmbeddedKafka
from streams.brokers import Brokers, KafkaSecurity, client_options
from streams.inspection import ClusterView, view_cluster
from streams.topics import CONFIGS, TopicError, ensure_topics
from tenantwatch.settings import Settings
from tests.clickhouse_server import _free_port

USER, PASSWORD = "worker", "not-the-password-of-anything"


def certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1; return it, and a file with key and certificate as Kafka wants it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kafka.example.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    ca, store = directory / "ca.pem", directory / "keystore.pem"
    ca.write_bytes(pem)
    store.write_bytes(private + pem)
    return ca, store


@contextmanager
def secured_kafka(directory: Path) -> Iterator[tuple[str, str, Path]]:
    """Run Kafka with a second listener that wants TLS and SASL; yield both addresses and whom to trust."""
    ca, store = certificate(directory)
    port = _free_port()
    plain_properties = streams.broker._server_properties

    def properties(host: str, plain_port: int, controller_port: int) -> str:
        given = plain_properties(host, plain_port, controller_port)
        for name in ("listeners", "advertised.listeners"):
            given = given.replace(f"\n{name}=", f"\n{name}=SECURE://127.0.0.1:{port},")
        given = given.replace("protocol.map=", "protocol.map=SECURE:SASL_SSL,")
        jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        return given + (
            f"ssl.keystore.type=PEM\nssl.keystore.location={store}\n"
            "listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512\n"
            f"listener.name.secure.scram-sha-512.sasl.jaas.config={jaas}\n"
        )

    broker = EmbeddedKafka(BrokerConfig(directory, port=0, controller_port=0))
    with patch.object(streams.broker, "_server_properties", properties):
        plain = broker.start()
    try:
        admin = KafkaAdminClient(bootstrap_servers=[plain])
        upsert = UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_512, PASSWORD)
        assert admin.alter_user_scram_credentials([upsert]) == {USER: None}
        admin.close()
        yield plain, f"127.0.0.1:{port}", ca
    finally:
        broker.stop()


@pytest.mark.slow
def test_everything_of_ours_gets_in_with_tls_and_sasl(tmp_path: Path) -> None:
    """The worker's consumers and producers, the API's, the command line's; and no other."""
    with secured_kafka(tmp_path) as (_, address, ca):
        env = settings_env(
            tmp_path / "data",
            kafka=address,
            kafka_security="sasl_ssl",
            kafka_user=USER,
            kafka_password=PASSWORD,
            kafka_ca_file=str(ca),
        )
        line, log_path = CommandLine(env), tmp_path / "up.log"
        with log_path.open("wb") as log, line.start("up", stdout=log, stderr=log) as process:
            try:
                _await_ready(tmp_path / "data", process, log_path)
                tenant = {"tenant_id": "tenant-a", "organization_id": "org", "name": "A"}
                done = line.run("tenants", "apply", "-", stdin=json.dumps(tenant))
                assert done.returncode == 0, done.stderr
                events = "".join(
                    json.dumps(event("auth", event_id=f"e{i}", user_id="ana", source_ip="192.0.2.1",
                                     outcome="failure", time=datetime.now(UTC).isoformat())) + "\n"
                    for i in range(8)
                )  # fmt: skip
                done = line.run("replay", "-", stdin=events)
                assert done.returncode == 0, done.stderr
                eventually(
                    lambda: [a["classification"] for a in line.json("alerts", "list")] == ["brute_force"]
                )
                eventually(lambda: line.run("reconcile").returncode == 0)
                shown = log_path.read_text() + line.run("doctor").stdout
                assert PASSWORD not in shown
            finally:
                process.terminate()
                process.wait(30)

        assert enters(env)
        for wrong in ({"PASSWORD": "wrong"}, {"CA_FILE": ""}, {"SECURITY": "ssl"}):
            assert not enters(env | {f"TENANTWATCH_KAFKA_{name}": value for name, value in wrong.items()})


def enters(env: dict[str, str]) -> bool:
    """Whether Kafka lets somebody in; in a process of its own, with which refused connections end."""
    code = (
        "from streams.inspection import view_cluster; from tenantwatch.settings import Settings; "
        "assert view_cluster(Settings().kafka_brokers).partitions"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 or "TopicError" in done.stderr, done.stderr
    return done.returncode == 0


def seen_without_settings(bootstrap: str) -> ClusterView | None:
    """Return what `doctor` sees, once the cluster has the topic of groups' offsets and our ACLs."""
    with suppress(TopicError):
        view = view_cluster(bootstrap)
        return view if view.unreadable else None
    return None


@pytest.mark.slow
def test_a_cluster_whose_settings_we_may_not_read_is_seen(tmp_path: Path) -> None:
    """Many clusters allow clients no more than what they need; the rest of `doctor` is told all the same."""
    plain_properties = streams.broker._server_properties
    broker = EmbeddedKafka(BrokerConfig(tmp_path, port=0, controller_port=0))

    def properties(*ports: Any) -> str:
        return plain_properties(*ports) + (
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
            "allow.everyone.if.no.acl.found=true\n"
        )

    with patch.object(streams.broker, "_server_properties", properties):
        address = broker.start()
    try:
        ensure_topics(address, partitions=1, replication=1)
        admin = KafkaAdminClient(bootstrap_servers=[address])
        everyone = ("User:*", "*")
        every_topic = ResourcePattern(ResourceType.TOPIC, "*")
        admin.create_acls(
            [
                ACL(*everyone, ACLOperation.ALL, ACLPermissionType.ALLOW, every_topic),
                ACL(*everyone, ACLOperation.DESCRIBE_CONFIGS, ACLPermissionType.DENY, every_topic),
            ]
        )
        admin.close()
        view = eventually(lambda: seen_without_settings(address))
        assert view.partitions == dict.fromkeys(CONFIGS, 1)
        assert view.unreadable == sorted(CONFIGS)
        assert (view.max_message_bytes, view.min_in_sync) == ({}, {})
    finally:
        broker.stop()


def test_addresses_are_shown_without_the_password() -> None:
    """However they are printed."""
    brokers = Brokers("kafka-1:9092", KafkaSecurity("sasl_ssl", USER, PASSWORD))
    assert PASSWORD not in f"{brokers} {brokers!r} {brokers.security!r}"
    assert client_options(brokers)["sasl_plain_password"] == PASSWORD


def test_addresses_alone_are_plaintext() -> None:
    """As Kafka's clients have it by default."""
    assert client_options("kafka-1:9092") == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kafka_security": "sasl_ssl"}, "TENANTWATCH_KAFKA_USER"),
        (
            {
                "kafka_security": "sasl_plaintext",
                "kafka_mechanism": "PLAIN",
                "kafka_user": USER,
                "kafka_password": PASSWORD,
            },
            "SCRAM-SHA-512",
        ),
        ({"kafka_ca_file": "/nowhere.pem"}, "kafka_ca_file"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, str], said: str) -> None:
    """With what is missing, and not with the password."""
    with pytest.raises(ValidationError, match=said) as refused:
        Settings(**given)  # type: ignore[arg-type]
    assert PASSWORD not in str(refused.value).split("input_value")[0]
