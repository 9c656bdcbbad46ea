"""A file of addresses' positions, as small as can be: MaxMind's format, version 2.0, IPv4 only."""

import struct
from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

# Types of the format, as they stand in the control byte; those from 8 on take another byte.
STRING, DOUBLE, UINT16, UINT32, MAP, UINT64, ARRAY = 2, 3, 5, 6, 7, 9, 11
MARKER = b"\xab\xcd\xefMaxMind.com"
RECORD_BYTES = 3
SEPARATOR_BYTES = 16


def field(kind: int, size: int) -> bytes:
    """Return a control byte; sizes up to 28 are enough here."""
    return bytes([kind << 5 | size]) if kind < 8 else bytes([size, kind - 7])


def encoded(value: Any, kind: int = UINT32) -> bytes:
    """Return a value of the data section."""
    if isinstance(value, Mapping):
        return field(MAP, len(value)) + b"".join(encoded(k) + encoded(v) for k, v in value.items())
    if isinstance(value, list):
        return field(ARRAY, len(value)) + b"".join(map(encoded, value))
    if isinstance(value, str):
        return field(STRING, len(value)) + value.encode()
    if isinstance(value, float):
        return field(DOUBLE, 8) + struct.pack(">d", value)
    size = {UINT16: 2, UINT32: 4, UINT64: 8}[kind]
    return field(kind, size) + int(value).to_bytes(size, "big")


def write(path: Path, places: Mapping[str, tuple[float, float]]) -> Path:
    """Write networks with their latitude and longitude."""
    nodes: list[list[int | None]] = [[None, None]]
    leaves: list[tuple[int, int, int]] = []
    data = b""
    for network, (latitude, longitude) in places.items():
        parsed = IPv4Network(network)
        bits = [int(parsed.network_address) >> (31 - i) & 1 for i in range(parsed.prefixlen)]
        at = 0
        for bit in bits[:-1]:
            following = nodes[at][bit]
            if following is None:
                following = nodes[at][bit] = len(nodes)
                nodes.append([None, None])
            at = following
        leaves.append((at, bits[-1], len(data)))
        data += encoded({"location": {"latitude": latitude, "longitude": longitude}})
    n = len(nodes)
    for at, bit, offset in leaves:
        nodes[at][bit] = n + SEPARATOR_BYTES + offset
    records = (n if record is None else record for node in nodes for record in node)
    tree = b"".join(record.to_bytes(RECORD_BYTES, "big") for record in records)
    metadata = field(MAP, 9) + b"".join(
        encoded(name) + (encoded(value, kind) if kind else encoded(value))
        for name, value, kind in (
            ("node_count", n, UINT32),
            ("record_size", 8 * RECORD_BYTES, UINT16),
            ("ip_version", 4, UINT16),
            ("database_type", "Test-City", 0),
            ("languages", ["en"], 0),
            ("binary_format_major_version", 2, UINT16),
            ("binary_format_minor_version", 0, UINT16),
            ("build_epoch", 1, UINT64),
            ("description", {"en": "test"}, 0),
        )
    )
    path.write_bytes(tree + bytes(SEPARATOR_BYTES) + data + MARKER + metadata)
    return path
