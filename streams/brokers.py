"""How to get into Kafka: addresses that carry TLS and SASL with them, for every client there is."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from schemas.event import MAX_DEAD_LETTER_BYTES

Protocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True)
class KafkaSecurity:
    """TLS and SASL.

    Parameters
    ----------
    protocol
        Of the brokers' listener, as Kafka names it.
    user, password, mechanism
        For SASL.
    tls
        For TLS: whom to trust, and a certificate of our own where brokers ask for one.
    """

    protocol: Protocol = "plaintext"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    mechanism: Mechanism = "SCRAM-SHA-512"
    tls: ssl.SSLContext | None = None


PLAINTEXT = KafkaSecurity()
# Of every aiokafka producer of ours: what was acknowledged is on the disks of all in sync, once and in order.
PRODUCER: Final[Mapping[str, Any]] = {
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": "lz4",
    "max_request_size": MAX_DEAD_LETTER_BYTES,
}


class Brokers(str):
    """``host:port,host:port``, and how to get in there.

    It is printed, split and compared as the addresses alone, so that no message shows a password.

    >>> Brokers("kafka-1:9092,kafka-2:9092", KafkaSecurity("sasl_plaintext", "worker", "secret"))
    'kafka-1:9092,kafka-2:9092'
    """

    __slots__ = ("security",)
    security: KafkaSecurity

    def __new__(cls, addresses: str, security: KafkaSecurity = PLAINTEXT) -> "Brokers":
        """Return the addresses with their security."""
        brokers = super().__new__(cls, addresses)
        brokers.security = security
        return brokers


def security_of(bootstrap: str) -> KafkaSecurity:
    """Return how to get in; addresses that say nothing are let in by anybody."""
    return bootstrap.security if isinstance(bootstrap, Brokers) else PLAINTEXT


def client_options(bootstrap: str) -> dict[str, Any]:
    """Return the options of a client of aiokafka or kafka-python, which name them alike.

    >>> client_options("127.0.0.1:9092")
    {}
    """
    security = security_of(bootstrap)
    if security.protocol == "plaintext":
        return {}
    options: dict[str, Any] = {"security_protocol": security.protocol.upper(), "ssl_context": security.tls}
    if security.protocol.startswith("sasl"):
        options |= {
            "sasl_mechanism": security.mechanism,
            "sasl_plain_username": security.user,
            "sasl_plain_password": security.password,
        }
    return options


def credentials(bootstrap: str) -> Any:
    """Return Faust's credentials; None where nobody asks for any."""
    security = security_of(bootstrap)
    if security.protocol == "plaintext":
        return None
    import faust  # which takes as long to load as most commands take

    if security.protocol == "ssl":
        return faust.SSLCredentials(context=security.tls)
    return faust.SASLCredentials(
        username=security.user,
        password=security.password,
        mechanism=security.mechanism,
        ssl_context=security.tls,
    )
