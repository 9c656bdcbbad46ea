"""Every setting, with its unit and default; from the environment, prefix ``TENANTWATCH_``."""

import os
import socket
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _default_data_dir() -> Path:
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "tenantwatch"


Port = Annotated[int, Field(ge=0, le=65_535)]


class Settings(BaseSettings):
    """What an operator can set; every default runs on one machine without Docker."""

    model_config = SettingsConfigDict(env_prefix="TENANTWATCH_", extra="ignore", env_ignore_empty=True)

    data_dir: Path = Field(
        default_factory=_default_data_dir, description="Kafka's and ClickHouse's data, the socket, locks."
    )
    kafka: str | None = Field(
        None, description="Brokers, host:port[,host:port]; without it Kafka is started here."
    )
    kafka_port: Port = Field(9092, description="Port of the embedded Kafka; 0 chooses a free one.")
    kafka_controller_port: Port = Field(9093, description="Its second port; 0 chooses a free one.")
    kafka_heap_mb: Annotated[int, Field(ge=128)] = Field(300, description="Memory of the embedded Kafka.")
    partitions: Annotated[int, Field(ge=1, le=1_000)] = Field(
        12, description="Of each topic, when it is created."
    )
    replication: Annotated[int, Field(ge=1, le=10)] = Field(
        1, description="Of each topic, when it is created; 3 on a cluster."
    )
    clickhouse: str | None = Field(
        None, description="http[s]://user:password@host:port/database; without it the engine runs here."
    )
    clickhouse_password: str | None = Field(None, description="Instead of a password in the URL.", repr=False)
    http_host: str = Field("127.0.0.1", description="Where /metrics, /healthz and /readyz listen.")
    http_port: Port = Field(8080, description="Their port; 0 chooses a free one.")
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
    commit_interval_s: Annotated[float, Field(gt=0)] = Field(1.0, description="Between commits to Kafka.")
    snapshot_interval_s: Annotated[float, Field(ge=1)] = Field(
        60.0, description="Between two snapshots of a partition's detector state; a restart reads from there."
    )
    session_timeout_s: Annotated[float, Field(ge=6, le=300)] = Field(
        6.0, description="A worker that is silent this long is replaced."
    )
    dead_letter_max_run: Annotated[int, Field(ge=0)] = Field(
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
    anchor_webhook: str | None = Field(None, description="URL that they are posted to as well.")
    anchor_topic: str | None = Field(
        None, description="Topic that they are sent to as well, e.g. audit.seals; created when it is missing."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["json", "console"] = Field("json", description="One JSON object a line, or for eyes.")

    @field_validator("webhook_allow", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )

    @cached_property
    def clickhouse_url(self) -> str | None:
        """The server's URL with the password in it, or None for the embedded engine."""
        if self.clickhouse is None or self.clickhouse_password is None:
            return self.clickhouse
        scheme, rest = self.clickhouse.split("://", 1)
        user, at, host = rest.rpartition("@")
        name = user.split(":", 1)[0] if at else "default"
        from urllib.parse import quote

        return f"{scheme}://{name}:{quote(self.clickhouse_password, safe='')}@{host}"

    @property
    def keys_dir(self) -> Path:
        """Where the signing key of seals is; only its owner can read it."""
        return self.data_dir / "keys"

    @property
    def seals_dir(self) -> Path:
        """Where the newest seals are remembered beside the store."""
        return self.data_dir / "seals"

    @property
    def socket_path(self) -> Path:
        """Where a running `up` or `worker` is reached by the command line."""
        return self.data_dir / "tenantwatch.sock"
