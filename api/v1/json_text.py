"""Whether a JSON text can be read by everybody alike, told without parsing it."""

import json
import re
from typing import Final

_UTF_8: Final = ("utf-8", "utf-8-sig")
# One escape: a surrogate pair, half of one, or any other. A backslash is read with what follows it, so an
# escaped backslash before "ud800" hides it.
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F])|.)", re.DOTALL
)


def flaw(body: bytes) -> str | None:
    r"""Return why a JSON text is none that we take; None if nothing speaks against it.

    RFC 8259 wants UTF-8, but Python's parser guesses UTF-16 and UTF-32 too, which other readers of the same
    bytes do not see; and half a surrogate pair becomes a text that nothing can write again.

    >>> flaw(b'{"x": "\\ud83d\\ude00 \\\\ud800"}'), flaw('{"x": "€"}'.encode())
    (None, None)
    >>> flaw('{"x": 1}'.encode("utf-16")), flaw(b'"\\ud800"')
    ('it is not UTF-8', 'a text has half a surrogate pair')
    """
    if json.detect_encoding(body) not in _UTF_8:
        return "it is not UTF-8"
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return "it is not UTF-8"
    if (b"\\ud" in body or b"\\uD" in body) and any(each["half"] for each in _ESCAPE.finditer(body)):
        return "a text has half a surrogate pair"
    return None
