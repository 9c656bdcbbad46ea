"""What settings may be: a wrong one stops the start with a line that says what is allowed."""

import ssl
from pathlib import Path

import pytest
from conftest import CommandLine, settings_env
from pydantic import ValidationError
from test_kafka_security import certificate

from tenantwatch.mistakes import mistakes
from tenantwatch.settings import Settings


def said(**given: str) -> str:
    """Return what the person at the terminal is told, in one line."""
    with pytest.raises(ValidationError) as refused:
        Settings(**given)  # type: ignore[arg-type]
    [mistake] = mistakes(refused.value)
    return str(mistake)


@pytest.mark.parametrize("setting", ["clickhouse", "clickhouse_reader"])
@pytest.mark.parametrize(
    "url",
    [
        "clickhouse:8123",
        "clickhouse://clickhouse:9000",
        "http://clickhouse:80a",
        "http://clickhouse:80000",
        "http://",
        "http://[::1",
        "http://writer:pass#word@clickhouse:8123",
        "http://writer:12#34@clickhouse:8123",
    ],
)
@pytest.mark.parametrize("password", [{}, {"clickhouse_password": "secret"}])
def test_a_store_is_named_by_a_url(setting: str, url: str, password: dict[str, str]) -> None:
    """With the password apart too; the URL is not shown, for one may be in it."""
    told = said(**{"clickhouse": "http://clickhouse:8123", setting: url}, **password)
    assert told.startswith(f"TENANTWATCH_{setting.upper()}: must be http[s]://user:password@host:port")
    assert url not in told


@pytest.mark.parametrize(
    "url", ["https://clickhouse", "http://u:p%23w@clickhouse:8123/db", "http://[::1]:8123"]
)
def test_a_url_with_less_in_it_will_do(url: str) -> None:
    """The port and the database have defaults; other characters are written as in every URL."""
    assert Settings(clickhouse=url).clickhouse_url == url


@pytest.mark.parametrize(
    "brokers", ["kafka-1:90a", "kafka-1:9092,kafka-2:70000", ":9092", "http://kafka:9092", "a,"]
)
def test_brokers_are_named_by_host_and_port(brokers: str) -> None:
    """Each of them."""
    assert said(kafka=brokers) == f"TENANTWATCH_KAFKA: must be host:port[,host:port], found {brokers!r}"


@pytest.mark.parametrize("brokers", ["kafka-1:9092,kafka-2:9092", "[::1]:9092", "127.0.0.1:9092, kafka:9093"])
def test_brokers_that_are_allowed(brokers: str) -> None:
    """With a blank behind the comma, too."""
    assert Settings(kafka=brokers).kafka == brokers.replace(" ", "")


def test_a_file_of_authorities_is_pem(tmp_path: Path) -> None:
    """Or Kafka's client ends in a traceback, the first command that needs it."""
    wrong = tmp_path / "ca.pem"
    wrong.write_text("no certificate")
    told = said(kafka_ca_file=str(wrong))
    assert told.startswith("TENANTWATCH_KAFKA_CA_FILE: holds no certificate in PEM")
    right, _ = certificate(tmp_path)
    assert Settings(kafka_ca_file=right).kafka_ca_file == right


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    """In the same file or in another; without a passphrase, which a service could not be asked for."""
    alone, both = certificate(tmp_path)
    assert "TENANTWATCH_KAFKA_KEY_FILE" in said(kafka_cert_file=str(alone))
    settings = Settings(kafka="kafka:9092", kafka_security="ssl", kafka_cert_file=both)
    assert settings.kafka_brokers is not None
    assert isinstance(settings.kafka_brokers.security.tls, ssl.SSLContext)


@pytest.mark.parametrize(
    "issuer",
    [
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://idp.example.com",
        "https://",
        "idp",
    ],
)
def test_a_provider_is_named_by_a_url_with_tls(issuer: str) -> None:
    """But on this machine, which no other host's name can pass for."""
    assert said(oidc_issuer=issuer).startswith("TENANTWATCH_OIDC_ISSUER: must be https://")
    for right in ("https://idp.example.com/realm", "http://localhost:8080/realm", "http://[::1]:8080"):
        assert Settings(oidc_issuer=right).oidc_issuer == right


@pytest.mark.parametrize(
    ("given", "what"), [("a=viewerx", "viewerx"), ("a=viewer,b", "'b'"), ("=viewer", "'=viewer'")]
)
def test_a_role_map_names_roles(given: str, what: str) -> None:
    """One that maps to nothing would leave people without any, and nobody would know why."""
    told = said(oidc_role_map=given)
    assert told.startswith("TENANTWATCH_OIDC_ROLE_MAP: ")
    assert what in told
    assert "NAME=ROLE" in told
    assert "tenant_admin" in told


@pytest.mark.parametrize("given", ["foo", "192.0.2.1,proxy.example.com", "10.0.0.1/8", "*,192.0.2.1"])
def test_proxies_are_named_by_address(given: str) -> None:
    """A name would never be that of a connection, so nobody would be believed."""
    assert "must be addresses or networks" in said(api_trusted_proxies=given)


def test_proxies_that_are_allowed() -> None:
    """Addresses, networks, or everybody."""
    for given in ("192.0.2.1", "10.0.0.0/8", "2001:db8::1", "*"):
        assert Settings(api_trusted_proxies=given).api_trusted_proxies == [given]  # type: ignore[arg-type]


def test_doctor_tells_a_wrong_file(tmp_path: Path) -> None:
    """As every other setting, and without a traceback."""
    wrong = tmp_path / "ca.pem"
    wrong.write_text("no certificate")
    env = settings_env(tmp_path, kafka="127.0.0.1:1", kafka_security="ssl", kafka_ca_file=str(wrong))
    done = CommandLine(env).run("doctor")
    assert done.returncode == 1
    assert "TENANTWATCH_KAFKA_CA_FILE" in done.stdout
    assert "Traceback" not in done.stderr
