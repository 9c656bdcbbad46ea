"""Texts as ClickHouse's binary formats have them: after their length in bytes, in LEB128."""


def length_bytes(value: int) -> bytes:
    """Return a length: seven bits a byte, the lowest first, with the eighth set in all but the last.

    >>> length_bytes(300)
    b'\\xac\\x02'
    """
    septets = bytearray()
    while value >= 0x80:
        septets.append(value & 0x7F | 0x80)
        value >>= 7
    septets.append(value)
    return bytes(septets)


def text_bytes(value: str) -> bytes:
    """Return a text.

    >>> text_bytes("Zoë")
    b'\\x04Zo\\xc3\\xab'
    """
    text = value.encode()
    return length_bytes(len(text)) + text
