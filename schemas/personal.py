"""What is personal in a text: found by its form, brought into one form, and shown masked; no keys here."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

# 26 characters of base32 are 130 bits of a keyed hash (`store.vault`).
PSEUDONYM: Final = re.compile(r"(?<![\w-])p_[a-z2-7]{26}(?![\w-])")
# What stands before and after the @, which a URL may have escaped. Possessive, and begun only where such a
# run begins: a text of a million letters takes as many steps, not their square.
_LOCAL: Final = r"[\w.!#$'*+^`{}~-]"
_EMAIL: Final = rf"(?<!{_LOCAL}){_LOCAL}++(?:@|%40)[\w-]++(?:\.[\w-]++)+"
# E.164: a plus and 8 to 15 digits. Without the plus it may as well be any number.
_PHONE: Final = r"(?<![\w+.-])\+[1-9][0-9]{7,14}(?!\w)"
_IDENTIFIER: Final = re.compile(f"{_EMAIL}|{_PHONE}")
# The same to Arrow's engine, which knows no looking behind: what has none of this holds no identifier.
MAYBE_IDENTIFIER: Final = r"@|%40|\+[1-9][0-9]{7}"
# As a whole field that says who acted: there separators are usual, and an address needs no dot.
_WHOLE_EMAIL: Final = re.compile(r"\S+@\S+")
_WHOLE_PHONE: Final = re.compile(r"\s*(?:\+[1-9]|\([0-9]{1,5}\))[0-9 ()./-]{6,24}")
_MIN_PHONE_DIGITS: Final = 7
# What says whence an identifier is: `user:` is the API's, `email|` a provider's, `mailto:` a URL's.
_WHENCE: Final = re.compile(r"^(?:[\w-]++[:|])++(?=[^\s:|]+@|\+[1-9])")

# Words that an attribute's name is, or ends in after a dot, a dash, an underscore or a change of case.
PERSONAL_ATTRIBUTES: Final = (
    "email", "e_mail", "mail", "email_address", "mail_address",
    "phone", "phone_number", "mobile", "mobile_number", "telephone", "msisdn",
    "full_name", "first_name", "last_name", "given_name", "family_name", "surname", "display_name",
    "national_id", "ssn", "social_security_number", "tax_id", "passport", "passport_number", "iban",
    "date_of_birth", "birth_date", "birthday", "dob", "street_address", "postal_address",
)  # fmt: skip
# Only as the whole name: a `host_name` is nobody's.
_PERSONAL_ALONE: Final = ("name",)
_WORD_STARTS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
_ENDINGS: Final = frozenset(name.replace("_", "") for name in PERSONAL_ATTRIBUTES)


@lru_cache(maxsize=4_096)
def is_personal_attribute(name: str) -> bool:
    """Return whether an attribute's name says that its value identifies a person.

    >>> [is_personal_attribute(name) for name in ("email", "actor.PhoneNumber", "name", "host_name")]
    [True, True, True, False]
    """
    words = [word.lower() for word in _WORD_STARTS.split(name) if word]
    return name.lower() in _PERSONAL_ALONE or any("".join(words[i:]) in _ENDINGS for i in range(len(words)))


def is_pseudonym(text: str) -> bool:
    """Return whether a text is a pseudonym.

    >>> is_pseudonym("p_abcdefghijklmnopqrstuvwxyz"), is_pseudonym("p_1")
    (True, False)
    """
    return PSEUDONYM.fullmatch(text) is not None


def pseudonyms_in(texts: Iterable[str]) -> list[str]:
    """Return the pseudonyms that stand in texts, each once, in order."""
    return list(dict.fromkeys(found for text in texts for found in PSEUDONYM.findall(text)))


def is_identifier(user_id: str) -> bool:
    """Return whether a user id identifies a person by itself: an e-mail address or a phone number.

    >>> [is_identifier(text) for text in ("ana@example.com", "+44 20 7946 0000", "ana", "10023456")]
    [True, True, False, False]
    """
    if "@" in user_id or "%40" in user_id:
        return _WHOLE_EMAIL.search(user_id.replace("%40", "@")) is not None
    return _is_phone(user_id)


def _is_phone(text: str) -> bool:
    return (
        _WHOLE_PHONE.fullmatch(text) is not None and sum(map(str.isdigit, text)) >= _MIN_PHONE_DIGITS
    ) or _IDENTIFIER.search(text) is not None


def replaced(text: str, pseudonym_of: Callable[[str], str]) -> str:
    """Return a text with each e-mail address and phone number in it replaced.

    >>> replaced("/users/ana%40example.com/jobs?for=+442079460000", lambda found: f"<{len(found)}>")
    '/users/<17>/jobs?for=<13>'
    """
    return _IDENTIFIER.sub(lambda match: pseudonym_of(match[0]), text)


def normalised(value: str) -> str:
    """Return the one form of all ways to write an identifier: its pseudonym is the pseudonym of this.

    An address is the same in capitals and behind a word that says whence it is, and a phone number with
    spaces: else a person who is to be forgotten would be forgotten by half.

    >>> normalised("Ana%40Example.com"), normalised("+44 (20) 7946-0000"), normalised(" Ana Lima ")
    ('ana@example.com', '+442079460000', 'Ana Lima')
    >>> normalised("user:email|ana@example.com"), normalised("sms|+44 20 7946 0000")
    ('ana@example.com', '+442079460000')
    """
    text = unicodedata.normalize("NFKC", value).strip()
    if "%40" in text:
        text = unquote(text)
    text = _WHENCE.sub("", text)
    if "@" in text:
        return text.casefold()
    if text[:1] in ("+", "(") and _is_phone(text):
        return text[:1].replace("(", "") + "".join(c for c in text if c.isdigit())
    return text


def masked(value: str) -> str:
    """Return an identifier as those see it who may not read it.

    >>> masked("jane@example.com"), masked("+442079461234"), masked("Ana Lima"), masked("4711")
    ('j***@example.com', '****1234', 'A*** L***', '****')
    """
    local, at, domain = value.rpartition("@")
    if at:
        return f"{local[:1]}***@{domain}"
    if any(c.isdigit() for c in value):
        return f"****{value[-4:]}" if len(value) >= 8 else "****"
    return " ".join(f"{word[:1]}***" for word in value.split()) or "****"


_TOKEN: Final = re.compile(r"[^\s'\"<>,;]++")
_NUMBER: Final = re.compile(r"(?<!\w)\+[1-9][0-9 ]{6,20}")
HIDDEN: Final = "[hidden]"


def scrubbed(text: str) -> str:
    """Return a text for people without what could be an e-mail address or a phone number, whole or cut.

    >>> scrubbed("user_id: found 'ana@exam…'; tel:+44 20 7946 0000")
    "user_id: found '[hidden]'; tel:[hidden]"
    """
    if "@" not in text and "+" not in text and "%40" not in text:
        return text
    text = _TOKEN.sub(lambda token: HIDDEN if "@" in token[0] or "%40" in token[0] else token[0], text)
    return _NUMBER.sub(HIDDEN, text)
