"""Where a webhook may not go, in every spelling."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest

from streams.webhooks.address import UrlRefused, check_url, parse_url, public_addresses, refusal
from streams.webhooks.sender import Resolver

PUBLIC = "1.1.1.1"


class FakeResolver:
    """Answers each lookup with the next of its answers, and counts."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = [*answers]
        self.lookups = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.lookups += 1
        return self.answers.pop(0)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
        "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1",
        "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "::7f00:1", "::10.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:0:7f00:1::1", "2001:2::1", "2001:10::1", "2001:db8::1",
        "2002:7f00:1::", "2002:a9fe:a9fe::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254",
        "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    """Private, loopback, link-local, metadata, shared, multicast, reserved, embedded: all are refused."""
    assert refusal(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
     "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255", "223.255.255.255",
     "2001:200::1", "2606:4700:4700::1111", "2a00::1"],
)  # fmt: skip
def test_a_public_address_passes(address: str) -> None:
    """The neighbours of refused networks are not refused with them."""
    assert refusal(ip_address(address)) is None


def test_only_what_the_operator_allows_is_excepted() -> None:
    """An allowed network opens its own addresses, in no other form and no others."""
    allow = [ip_network("127.0.0.1/32")]
    assert refusal(ip_address("127.0.0.1"), allow) is None
    for other in ("127.0.0.2", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"):
        assert refusal(ip_address(other), allow)


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0x7f.1", "127.1", "127.0.1", "0177.0.0.1", "017700000001", "0x7F.0.0.1",
     "127.0.0.1.", "1.2.3.4.5", "256.0.0.1", "127.0.0.0x1", "0", "0x", "999.999.999.999",
     "example.com.", "-a.example", "a_b.example", "%31%32%37.0.0.1", ""],
)  # fmt: skip
def test_an_odd_spelling_of_a_host_is_refused(host: str) -> None:
    """Decimal, octal, hexadecimal, shortened, dotted at the end or escaped: none is taken apart further."""
    with pytest.raises(UrlRefused, match="the host"):
        parse_url(f"https://{host}/hook")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hooks.example.com/", "file:///etc/passwd", "gopher://hooks.example.com:70/_x",
        "//hooks.example.com/", "https://user@hooks.example.com/", "https://user:pass@hooks.example.com/",
        "https://1.1.1.1@127.0.0.1/", "https://hooks.example.com#@127.0.0.1/",
        "https://hooks.example.com/a#b", "https://hooks.example.com\\@127.0.0.1/",
        "https://hooks.example.com/a b", " https://hooks.example.com/",
        "https://hooks.example.com/\r\nHost: x", "https://hooks.example.com\t/",
        "https://\uff11\uff12\uff17.0.0.1/", "https://127\u30020\u30020\u30021/", "https://\u24d4xample.com/",
        "https://hooks.example.com:99999/", "https://hooks.example.com:x/", "https://[::1/",
        "https://[v1.a]/", "https://[127.0.0.1]/", "https://[example.com]/",
        "https://" + "a" * 64 + ".example/", "https://hooks.example.com/" + "a" * 2_048,
    ],
)  # fmt: skip
def test_a_url_that_could_be_read_in_two_ways_is_refused(url: str) -> None:
    """Other schemes, users, fragments, backslashes, spaces, line ends, other scripts: all refused."""
    with pytest.raises(UrlRefused):
        parse_url(url)


@pytest.mark.parametrize("port", [0, 22, 25, 53, 81, 389, 445, 1_023])
def test_a_port_of_another_service_is_refused(port: int) -> None:
    """Below 1024 only the two ports of web servers are open."""
    with pytest.raises(UrlRefused, match="port"):
        parse_url(f"https://hooks.example.com:{port}/")


@pytest.mark.parametrize(
    ("url", "host_header", "path"),
    [
        ("https://hooks.example.com", "hooks.example.com", "/"),
        ("https://HOOKS.Example.com:443/a?b=%2f", "hooks.example.com", "/a?b=%2f"),
        ("http://hooks.example.com:8080/a", "hooks.example.com:8080", "/a"),
        ("http://[2606:4700:4700::1111]:8080/", "[2606:4700:4700::1111]:8080", "/"),
        ("http://xn--bcher-kva.example/?q", "xn--bcher-kva.example", "/?q"),
    ],
)
def test_an_honest_url_is_taken_apart(url: str, host_header: str, path: str) -> None:
    """Host, port, path and query come out as they will be sent."""
    target = parse_url(url)
    assert (target.host_header, target.path) == (host_header, path)


@pytest.mark.parametrize(
    "answer",
    [
        ["10.0.0.1"],
        ["::1"],
        [PUBLIC, "10.0.0.1"],
        ["2606:4700:4700::1111", "fd00:ec2::254"],
        ["::ffff:10.0.0.1"],
    ],
)
async def test_a_name_with_any_private_address_is_refused(answer: list[str]) -> None:
    """One bad address among the answers is enough, and the tenant is not told which."""
    with pytest.raises(UrlRefused, match="not public") as refused:
        await check_url("https://rebind.example.com/", FakeResolver(answer))
    assert not any(address in str(refused.value) for address in answer)


async def test_a_name_that_does_not_resolve_is_refused() -> None:
    """The message says so, and what to check."""

    async def nowhere(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    with pytest.raises(UrlRefused, match="does not resolve"):
        await check_url("https://hooks.example.com/", nowhere)


async def test_a_name_is_resolved_once_and_its_answer_is_what_is_dialled() -> None:
    """The addresses that passed are handed on, so a second answer is never asked for."""
    resolver = FakeResolver([PUBLIC], ["10.0.0.1"])
    found = await public_addresses(parse_url("https://rebind.example.com/"), resolver, ())
    assert found == [ip_address(PUBLIC)]
    assert resolver.lookups == 1


@pytest.mark.parametrize("url", ["http://localhost:8080/", "http://127.0.0.1:8080/", "http://[::1]:8080/"])
async def test_this_machine_is_refused_through_the_real_resolver(url: str) -> None:
    """Without an exception of the operator's, no spelling of localhost passes."""
    resolver = Resolver(threads=1)
    with pytest.raises(UrlRefused, match="loopback"):
        await check_url(url, resolver)
    resolver.close()
