"""Every setting, with its unit and default; from the environment, prefix ``TENANTWATCH_``."""

import os
import socket
import ssl
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, FilePath, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tenantwatch.setting_values import (
    authorities,
    brokers,
    check_certificate,
    provider_url,
    proxies,
    role_map,
    server_url,
)

if TYPE_CHECKING:
    from streams.brokers import Brokers


def _default_data_dir() -> Path:
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "tenantwatch"


def _with_password(url: str | None, password: str | None) -> str | None:
    """Return a URL with a password in it, in place of the one that may be there."""
    if url is None or password is None:
        return url
    scheme, rest = url.split("://", 1)
    user, at, host = rest.rpartition("@")
    name = user.split(":", 1)[0] if at else "default"
    from urllib.parse import quote

    return f"{scheme}://{name}:{quote(password, safe='')}@{host}"


ServerUrl = Annotated[str, AfterValidator(server_url)]
Port = Annotated[int, Field(ge=0, le=65_535)]


class Settings(BaseSettings):
    """What an operator can set; every default runs on one machine without Docker."""

    # A traceback with an error about one setting would show the others, passwords and keys included.
    model_config = SettingsConfigDict(
        env_prefix="TENANTWATCH_", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(
        default_factory=_default_data_dir, description="Kafka's and ClickHouse's data, the socket, locks."
    )
    kafka: Annotated[str, AfterValidator(brokers)] | None = Field(
        None, description="Brokers, host:port[,host:port]; without it `up` starts Kafka."
    )
    kafka_security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        "plaintext", description="How the brokers' listener is secured."
    )
    kafka_user: str | None = Field(None, description="For SASL.")
    kafka_password: str | None = Field(None, description="For SASL.", repr=False)
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="Of SASL; PLAIN sends the password as it is, so only inside TLS."
    )
    kafka_ca_file: Annotated[FilePath, AfterValidator(authorities)] | None = Field(
        None, description="PEM file of whom to trust for TLS; the system's authorities without it."
    )
    kafka_cert_file: FilePath | None = Field(
        None, description="PEM file with a certificate of our own, where brokers ask for one."
    )
    kafka_key_file: FilePath | None = Field(None, description="PEM file with its key, if it is not in it.")
    kafka_port: Port = Field(9092, description="Port of the embedded Kafka; 0 chooses a free one.")
    kafka_controller_port: Port = Field(9093, description="Its second port; 0 chooses a free one.")
    kafka_heap_mb: Annotated[int, Field(ge=128)] = Field(300, description="Memory of the embedded Kafka.")
    partitions: Annotated[int, Field(ge=1, le=1_000)] = Field(
        12, description="Of each topic, when it is created."
    )
    replication: Annotated[int, Field(ge=1, le=10)] = Field(
        1,
        description="Of each topic, when it is created; 3 on a cluster. Of 3 or more, two must have a "
        "message before it is acknowledged.",
    )
    clickhouse: ServerUrl | None = Field(
        None,
        description="http[s]://user:password@host:port/database; without it `up` runs the engine here, "
        "and `worker` and `api` refuse to start.",
        repr=False,
    )
    clickhouse_password: str | None = Field(None, description="Instead of a password in the URL.", repr=False)
    master_key: str | None = Field(
        None,
        description="Wraps all keys of the vault: 32 bytes in base64; earlier ones after commas.",
        repr=False,
    )
    master_key_file: Path | None = Field(
        None,
        description="The same in a file; without either it is keys/master.key in the data directory, "
        "made at the first start.",
    )
    kms: str | None = Field(
        None,
        description="package.module:function that returns a `store.master_key.MasterKey`, instead of both.",
    )
    clickhouse_reader: ServerUrl | None = Field(
        None,
        description="The same server as a user whose row policies go by the tenant asked for "
        "(deploy/clickhouse/users.d/reader.xml); gets every query that is bound to a tenant. None without.",
        repr=False,
    )
    clickhouse_reader_password: str | None = Field(
        None, description="Instead of a password in that URL.", repr=False
    )
    http_host: str = Field("127.0.0.1", description="Where /metrics, /healthz and /readyz listen.")
    http_port: Port = Field(8080, description="Their port; 0 chooses a free one.")
    api_host: str = Field("127.0.0.1", description="Where the HTTP API, /v1, listens.")
    api_port: Port = Field(8081, description="Its port; 0 chooses a free one.")
    api_issuer: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        "tenantwatch", description="The `iss` of access tokens; the same for all API processes."
    )
    api_keys_file: Path | None = Field(
        None,
        description="The API's own keys, mode 0600; the same file for all API processes. "
        "Without it `api-keys.json` in the data directory, made when it is missing.",
    )
    api_cors_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="Origins whose pages may call the API, URL[,URL]; none by default."
    )
    api_trusted_proxies: Annotated[list[str], NoDecode, AfterValidator(proxies)] = Field(
        default_factory=list,
        description="Proxies whose X-Forwarded-For is believed, ADDRESS[,ADDRESS], or networks (10.0.0.0/8); "
        "none by default.",
    )
    api_sign_in_days: Annotated[int, Field(ge=1, le=366)] = Field(
        30,
        description="Refresh tokens of one sign-in end so many days after it, however often they are used.",
    )
    # No less than the largest body that a route takes.
    api_bodies_mb: Annotated[int, Field(ge=8, le=65_536)] = Field(
        64,
        description="Bodies that a process holds of requests it has not answered, in MiB; beyond that 503.",
    )
    oidc_issuer: Annotated[str, AfterValidator(provider_url)] | None = Field(
        None, description="URL of the OIDC provider where people sign in to the API; none without."
    )
    oidc_client_id: str = Field("tenantwatch", description="Our client there.")
    oidc_client_secret: str | None = Field(
        None, description="Its secret; none for a public client.", repr=False
    )
    oidc_redirect_url: str = Field(
        "http://127.0.0.1:8081/v1/auth/callback", description="The API's callback as browsers reach it."
    )
    oidc_tenant_claim: str = Field(
        "tenant_id", description="The claim with a person's tenant or tenants; without it, the platform's."
    )
    oidc_roles_claim: str = Field(
        "tenantwatch_roles", description="The claim with a person's roles; a dot leads into an object."
    )
    oidc_role_map: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict,
        description="Names in that claim to roles, NAME=ROLE[,NAME=ROLE]; without it they are the same.",
    )
    # The pattern is that of schemas.event, whose models each command would wait for.
    platform_tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = Field(
        None,
        description="The tenant whose trail holds what platform callers and unknown ones do at the API, and "
        "what is done with backups; without it the first is logged only, and the second is not in any trail.",
    )
    worker_id: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        description="Names this worker in the ledger.",
    )
    insert_rows: Annotated[int, Field(ge=1_000, le=1_000_000)] = Field(
        50_000, description="A group of this many rows is inserted at once."
    )
    insert_wait_ms: Annotated[int, Field(ge=1, le=60_000)] = Field(
        1_000, description="A group is inserted this many milliseconds after its first chunk."
    )
    commit_interval_s: Annotated[float, Field(gt=0)] = Field(0.5, description="Between commits to Kafka.")
    snapshot_interval_s: Annotated[float, Field(ge=1)] = Field(
        60.0, description="Between two snapshots of a partition's detector state; a restart reads from there."
    )
    session_timeout_s: Annotated[float, Field(ge=6, le=300)] = Field(
        6.0, description="A worker that is silent this long is replaced."
    )
    # So many are remembered of each partition, to say since when it was flooded and by whom: some 20 MB.
    dead_letter_max_run: Annotated[int, Field(ge=0, le=100_000)] = Field(
        1_000,
        description="So many messages of a partition rejected in a row stop it until "
        "`tenantwatch dead-letters resume`; 0 switches it off.",
    )
    dead_letter_max_ratio: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="As does a larger share of its last 1,000 messages; 1.0 switches it off."
    )
    webhook_allow: Annotated[list[IPv4Network | IPv6Network], NoDecode] = Field(
        default_factory=list,
        description="Private networks that webhooks may reach, CIDR[,CIDR]; none by default.",
    )
    seal_key: str | None = Field(
        None,
        repr=False,
        description="The key that signs seals, 32 bytes in base64: the same on every worker of a cluster. "
        "Without it keys/seal.pem in the data directory, made at the first start.",
    )
    seal_interval_s: Annotated[float, Field(ge=1)] = Field(
        60.0, description="A row is sealed when it is this old, or sooner."
    )
    seal_rows: Annotated[int, Field(ge=1)] = Field(
        10_000, description="As soon as a tenant has so many rows that are not sealed, they are."
    )
    anchor_interval_s: Annotated[float, Field(ge=1)] = Field(
        600.0, description="Between two times that the newest seals are kept outside the store."
    )
    anchor_file: Path | None = Field(
        None, description="Where they are appended; seals/anchors.ndjson in the data directory by default."
    )
    anchor_webhook: str | None = Field(None, description="URL that they are posted to as well.", repr=False)
    anchor_topic: str | None = Field(
        None, description="Topic that they are sent to as well, e.g. audit.seals; created when it is missing."
    )
    geoip_file: Path | None = Field(
        None,
        description="MMDB file of where addresses are, for impossible travel; without it there is none.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["json", "console"] = Field("json", description="One JSON object a line, or for eyes.")

    @field_validator("webhook_allow", "api_cors_origins", "api_trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )

    @field_validator("oidc_role_map", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        return role_map(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _reader_needs_a_server(self) -> "Settings":
        if self.clickhouse_reader is not None and self.clickhouse is None:
            raise ValueError(
                "TENANTWATCH_CLICKHOUSE_READER needs TENANTWATCH_CLICKHOUSE: "
                "the engine in the process has no users"
            )
        return self

    @model_validator(mode="after")
    def _check_kafka(self) -> Self:
        if self.kafka_security.startswith("sasl") and not (self.kafka_user and self.kafka_password):
            raise ValueError(
                f"TENANTWATCH_KAFKA_SECURITY={self.kafka_security} needs TENANTWATCH_KAFKA_USER and "
                "TENANTWATCH_KAFKA_PASSWORD"
            )
        if self.kafka_security == "sasl_plaintext" and self.kafka_mechanism == "PLAIN":
            raise ValueError(
                "TENANTWATCH_KAFKA_MECHANISM=PLAIN would send the password readable to everybody on the way; "
                "fix: sasl_ssl, or SCRAM-SHA-512"
            )
        if self.kafka_cert_file is not None:
            check_certificate(self.kafka_cert_file, self.kafka_key_file)
        return self

    @cached_property
    def kafka_brokers(self) -> "Brokers | None":
        """The brokers with what it takes to get in, or None for the embedded Kafka."""
        from streams.brokers import Brokers, KafkaSecurity

        if self.kafka is None:
            return None
        tls = None
        if self.kafka_security.endswith("ssl"):
            tls = ssl.create_default_context(cafile=self.kafka_ca_file)
            if self.kafka_cert_file is not None:
                tls.load_cert_chain(self.kafka_cert_file, self.kafka_key_file)
        security = KafkaSecurity(
            self.kafka_security, self.kafka_user, self.kafka_password, self.kafka_mechanism, tls
        )
        return Brokers(self.kafka, security)

    @cached_property
    def clickhouse_url(self) -> str | None:
        """The server's URL with the password in it, or None for the embedded engine."""
        return _with_password(self.clickhouse, self.clickhouse_password)

    @cached_property
    def clickhouse_reader_url(self) -> str | None:
        """The reader's URL with the password in it, or None where there is none."""
        return _with_password(self.clickhouse_reader, self.clickhouse_reader_password)

    @property
    def keys_dir(self) -> Path:
        """Where the signing key of seals is; only its owner can read it."""
        return self.data_dir / "keys"

    @property
    def seals_dir(self) -> Path:
        """Where the newest seals are remembered beside the store."""
        return self.data_dir / "seals"

    @property
    def key_path(self) -> Path:
        """Where the master key's file is, if there is one."""
        return self.master_key_file or self.data_dir / "keys" / "master.key"

    def keys_elsewhere(self, packed: bool) -> dict[str, str]:
        """Return which keys a backup has not, and where they are.

        Parameters
        ----------
        packed
            Whether the files of `keys_dir` are in it.
        """
        master: Path | str = self.key_path
        if self.kms or self.master_key:
            master = f"the KMS {self.kms}" if self.kms else "the setting TENANTWATCH_MASTER_KEY"
        seal = "the setting TENANTWATCH_SEAL_KEY" if self.seal_key else self.keys_dir / "seal.pem"
        places = {"master key": master, "seal key": seal, "API's key": self.api_keys_path}
        inside = self.keys_dir.resolve()
        return {
            name: str(place)
            for name, place in places.items()
            if isinstance(place, str)
            or (place.exists() and not (packed and place.resolve().is_relative_to(inside)))
        }

    @property
    def api_keys_path(self) -> Path:
        """Where the API's own keys are."""
        return self.api_keys_file or self.data_dir / "api-keys.json"

    @property
    def socket_path(self) -> Path:
        """Where a running `up` or `worker` is reached by the command line."""
        return self.data_dir / "tenantwatch.sock"
