"""One attempt over a real connection."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
from webhook_receiver import LOCALHOST, Answer, Receiver, receiving

from streams.webhooks.sender import AttemptResult, Sender


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on 127.0.0.1."""
    with receiving() as started:
        yield started


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """A sender that may reach 127.0.0.1 and nothing else that is private."""
    opened = Sender(allow=LOCALHOST)
    yield opened
    await opened.aclose()


async def send_once(url: str, **options: object) -> AttemptResult:
    sender = Sender(**options)  # type: ignore[arg-type]
    try:
        return await sender.send(url, {}, b"{}")
    finally:
        await sender.aclose()


@asynccontextmanager
async def talking(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serve raw bytes; gives the URL, and ends with every connection closed."""
    connections: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.append(task)
        with suppress(ConnectionError):
            await talk(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()
    await asyncio.gather(*connections)
    await server.wait_closed()


class Names:
    """Resolves every name to the next of its answers, the last one for ever; counts lookups."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = [*answers]
        self.lookups = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.lookups += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def test_a_2xx_is_a_success(receiver: Receiver, sender: Sender) -> None:
    """The body arrives as it was given, as JSON, at the path and query of the URL."""
    result = await sender.send(receiver.url("/hook?a=%2F"), {"webhook-id": "msg_1"}, b'{"a":1}')
    assert (result.http_status, result.error, result.delivered) == (204, "", True)
    [request] = receiver.received
    assert (request.path, request.body, request.id) == ("/hook?a=%2F", b'{"a":1}', "msg_1")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize("status", [300, 304, 400, 404, 410, 429, 500, 503])
async def test_anything_else_is_not(receiver: Receiver, sender: Sender, status: int) -> None:
    """Only 2xx succeeds."""
    receiver.answers.append(Answer(status))
    result = await sender.send(receiver.url(), {}, b"{}")
    assert (result.http_status, result.error, result.delivered) == (status, f"HTTP {status}", False)


async def test_a_redirect_is_not_followed(receiver: Receiver, sender: Sender) -> None:
    """The place it points to is never asked."""
    receiver.answers.append(Answer(307, {"Location": receiver.url("/elsewhere")}))
    result = await sender.send(receiver.url(), {}, b"{}")
    assert result.error == "HTTP 307"
    assert [request.path for request in receiver.received] == ["/hook"]


async def test_retry_after_comes_back(receiver: Receiver, sender: Sender) -> None:
    """What the receiver asks for is part of the result."""
    receiver.answers.append(Answer(503, {"Retry-After": "120"}))
    assert (await sender.send(receiver.url(), {}, b"{}")).retry_after_s == 120


async def test_an_address_that_is_not_allowed_is_never_dialled(receiver: Receiver) -> None:
    """The guard stands before every attempt, not only before an endpoint is added."""
    result = await send_once(receiver.url())
    assert result.http_status == 0
    assert result.error.startswith("refused: ")
    assert receiver.received == []


async def test_the_address_that_was_checked_is_the_one_that_is_dialled(receiver: Receiver) -> None:
    """A name that would rebind is asked once an attempt; the receiver still sees its own name."""
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    result = await send_once(receiver.url(host="rebind.example.com"), allow=LOCALHOST, resolve=names)
    assert result.delivered
    assert names.lookups == 1
    assert receiver.received[0].headers["host"] == f"rebind.example.com:{receiver.port}"


async def test_a_name_that_was_rebound_is_refused_at_the_next_attempt(receiver: Receiver) -> None:
    """What passed once is checked again."""
    sender = Sender(allow=LOCALHOST, resolve=Names(["127.0.0.1"], ["127.0.0.2"]))
    url = receiver.url(host="rebind.example.com")
    assert (await sender.send(url, {}, b"{}")).delivered
    assert (await sender.send(url, {}, b"{}")).error.startswith("refused: ")
    assert len(receiver.received) == 1
    await sender.aclose()


async def test_the_next_address_is_tried_when_one_does_not_answer(receiver: Receiver) -> None:
    """A name with a dead address and a live one is delivered to."""
    result = await send_once(
        receiver.url(host="hooks.example.com"),
        allow=[ip_network("127.0.0.0/8")],
        resolve=Names(["127.0.0.2", "127.0.0.1"]),
    )
    assert result.delivered


async def test_a_closed_port_is_an_error_in_words(receiver: Receiver, sender: Sender) -> None:
    """Nobody listens: the result says so."""
    receiver.close()
    result = await sender.send(receiver.url(), {}, b"{}")
    assert (result.http_status, result.error) == (0, "connection refused or unreachable")


async def test_a_receiver_that_does_not_answer_is_given_up(receiver: Receiver) -> None:
    """The time limit ends the attempt."""
    answering = threading.Event()
    receiver.answers.append(Answer(hold=answering))
    result = await send_once(receiver.url(), allow=LOCALHOST, limit_s=0.2)
    answering.set()
    assert (result.http_status, result.error) == (0, "no answer within 0.2 s")


async def test_a_receiver_that_trickles_is_given_up() -> None:
    """The limit is on the whole attempt: bytes that keep coming do not extend it."""

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x-more: x\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with talking(trickle) as url:
        result = await send_once(url, allow=LOCALHOST, limit_s=0.2)
    assert result.error == "no answer within 0.2 s"


async def test_an_endless_body_is_not_read() -> None:
    """The status decides; a body that never ends neither delays nor fills memory."""

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with talking(pour) as url:
        result = await send_once(url, allow=LOCALHOST, limit_s=5)
    assert result.delivered


async def test_what_is_not_http_is_not_quoted() -> None:
    """An answer that is not HTTP is an error that repeats none of it."""

    async def mumble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"220 secret-banner ESMTP\r\n")
        await writer.drain()

    async with talking(mumble) as url:
        result = await send_once(url, allow=LOCALHOST)
    assert (result.http_status, result.error) == (0, "the answer is not HTTP, or none came")


async def test_the_environment_s_proxy_is_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would resolve the name again, behind the guard's back."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert (await send_once(receiver.url(), allow=LOCALHOST)).delivered


async def test_a_receiver_s_cookie_is_not_sent_back(receiver: Receiver, sender: Sender) -> None:
    """Nothing that one receiver says reaches another behind the same address."""
    receiver.answers.append(Answer(headers={"Set-Cookie": "session=secret"}))
    for _ in range(2):
        await sender.send(receiver.url(), {}, b"{}")
    assert [request.headers.get("cookie") for request in receiver.received] == [None, None]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for hooks.example.com and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=hooks.example.com",
         "-addext", "subjectAltName=DNS:hooks.example.com"],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@pytest.fixture
def tls_receiver(certificate: tuple[Path, Path]) -> Iterator[Receiver]:
    """A receiver that proves to be hooks.example.com."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    with receiving(server) as started:
        yield started


async def test_tls_is_verified_for_the_name_though_the_address_is_dialled(
    tls_receiver: Receiver, certificate: tuple[Path, Path]
) -> None:
    """The certificate for the URL's name is accepted at the checked address."""
    result = await send_once(
        tls_receiver.url(host="hooks.example.com", scheme="https"),
        allow=LOCALHOST,
        resolve=Names(["127.0.0.1"]),
        tls=ssl.create_default_context(cafile=certificate[0]),
    )
    assert result.delivered


async def test_a_certificate_for_another_name_is_not_accepted(
    tls_receiver: Receiver, certificate: tuple[Path, Path]
) -> None:
    """Whoever answers at the address must prove to be the name in the URL."""
    result = await send_once(
        tls_receiver.url(host="other.example.com", scheme="https"),
        allow=LOCALHOST,
        resolve=Names(["127.0.0.1"]),
        tls=ssl.create_default_context(cafile=certificate[0]),
    )
    assert result.error.startswith("TLS: Hostname mismatch")
    assert tls_receiver.received == []


async def test_a_connection_is_not_used_for_another_name(
    tls_receiver: Receiver, certificate: tuple[Path, Path]
) -> None:
    """Two names at one address: that the first was verified says nothing about the second."""
    sender = Sender(
        allow=LOCALHOST,
        resolve=Names(["127.0.0.1"]),
        tls=ssl.create_default_context(cafile=certificate[0]),
    )
    first = await sender.send(tls_receiver.url(host="hooks.example.com", scheme="https"), {}, b"{}")
    second = await sender.send(tls_receiver.url(host="other.example.com", scheme="https"), {}, b"{}")
    await sender.aclose()
    assert first.delivered
    assert second.error.startswith("TLS: Hostname mismatch")


async def test_an_unknown_authority_is_not_trusted(tls_receiver: Receiver) -> None:
    """A certificate that nobody we trust has signed is refused."""
    result = await send_once(
        tls_receiver.url(host="hooks.example.com", scheme="https"),
        allow=LOCALHOST,
        resolve=Names(["127.0.0.1"]),
    )
    assert result.error == "TLS: self-signed certificate"


async def test_tls_that_breaks_after_the_handshake_is_told(certificate: tuple[Path, Path]) -> None:
    """So a receiver that wants a certificate of ours says it, in TLS 1.3; that must not end the worker."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    server.load_verify_locations(certificate[0])
    server.verify_mode = ssl.CERT_REQUIRED

    def refuse(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with server.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) as connection:
            with suppress(ssl.SSLError):
                connection.do_handshake()
            with suppress(OSError):  # until the sender has closed, or what was said could be lost
                while os.read(connection.fileno(), 65_536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listener))
        result = await send_once(
            f"https://hooks.example.com:{listener.getsockname()[1]}/",
            allow=LOCALHOST,
            resolve=Names(["127.0.0.1"]),
            tls=ssl.create_default_context(cafile=certificate[0]),
        )
        await refusing
    assert result.http_status == 0
    assert result.error.startswith("TLS: ")
    assert "CERTIFICATE_REQUIRED" in result.error
