"""JSON records out of bytes, whatever holds them together: lines, arrays, envelopes, pretty printing.

Exports of one vendor come one record a line, as an array, as ``{"Records": [...]}`` on a line without end,
printed for people, or several such files in a row. All are sequences of objects with little between them,
so they are read as that, each record as soon as it is whole.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from tenantwatch.importers.importer import Line, Reading
from tenantwatch.importers.record import Record
from tenantwatch.importers.values import NotUnderstood

# An event may be 1 MiB; what is longer is no record but something that was never closed.
LARGEST_RECORD_CHARACTERS: Final = 4 << 20
# An error this close to the end may be only that the rest has not come yet: `tru`, `\ud8`, `1`.
UNFINISHED_CHARACTERS: Final = 12

# What may stand between records: blanks, commas, and the brackets and colons of what holds them; and the
# names and values that an envelope has beside its records.
BETWEEN: Final = re.compile(
    r'(?:[\s,:\[\]}\ufeff\x1e]+|"(?:[^"\\\n]|\\.)*"'
    r"|(?:(?<=[:,\[])|(?<=[:,\[] ))(?:-?\d[\d.eE+-]*|true|false|null)(?=[\s,\]}]))*"
)
# What vendors call the array in an object that only holds records: CloudTrail's and Azure's files, Microsoft
# Graph's pages, the AWS command line's, CloudWatch's and Elasticsearch's answers. The last have it in an
# object of the same name.
LISTS: Final = frozenset({"Records", "records", "value", "Events", "events", "logEvents", "logs", "hits"})
NAME: Final = re.compile(r'\s*"([^"\\]*)"\s*:\s*')
OF_RECORDS: Final = re.compile(r"\[(?=\s*[{\]])")
AND_MORE: Final = re.compile(r"\s*,")
# Elasticsearch's exports, Filebeat's modules, CloudWatch and Docker.
WRAPPED: Final = ("_source", "event.original", "message")
ENCODINGS: Final = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_json(
    blocks: Iterable[bytes], is_line: Callable[[str], object] = lambda before: False
) -> Iterator[Record | Line]:
    """Yield the records of JSON text, and the lines in which there is none.

    Needs no more memory than a block and a record. A line that breaks off, or is no JSON at all, costs itself
    only: reading goes on with the next. What stands before a record on its line (a syslog header, a time) is
    passed over.

    Parameters
    ----------
    blocks
        The bytes, cut anywhere; UTF-8, or UTF-16 with its mark at the beginning.
    is_line
        Whether what stands before a brace on its line makes the line one of text, and the brace part of it.

    >>> [item.text for item in read_json([b'{"Records":[{"a":1},', b'{"a":2}]}{"a":3}'])]
    ['{"a":1}', '{"a":2}', '{"a":3}']
    >>> [type(item).__name__ for item in read_json([b'{"a": broken}\\n{"a": 1}'])]
    ['Line', 'Record']
    """
    reader = _JsonReader(is_line)
    for text in _texts(blocks):
        yield from reader.read(text, last=False)
    yield from reader.read("", last=True)


def unwrapped(item: Record | Line) -> Record | Line:
    """Return the record that a collector wrapped as text or as a document, or the item itself.

    >>> unwrapped(Record({"message": '{"a": 1}'})).find("a")
    1
    """
    if isinstance(item, Record):
        for name in WRAPPED:
            if inner := item.node(name):
                inner.text = item.text
                return inner
    return item


def of_records(read: Callable[[Record], Reading]) -> Callable[[Record | Line], Reading]:
    """Return a reader of records that refuses lines without one."""

    def read_item(item: Record | Line) -> Reading:
        if isinstance(item, Line):
            raise NotUnderstood("no JSON object")
        return read(item)

    return read_item


def _texts(blocks: Iterable[bytes]) -> Iterator[str]:
    decoder: codecs.IncrementalDecoder | None = None
    for block in blocks:
        if decoder is None:
            decoder = codecs.getincrementaldecoder(ENCODINGS.get(block[:2], "utf-8"))("replace")
        yield decoder.decode(block)


class _JsonReader:
    def __init__(self, is_line: Callable[[str], object]) -> None:
        self._is_line = is_line
        self._decode = json.JSONDecoder().raw_decode
        self._rest = ""
        self._passing_over = False

    def read(self, text: str, *, last: bool) -> Iterator[Record | Line]:
        """Yield what is whole with `text`; at the end, what is not either."""
        text = self._rest + text
        done = 0
        while True:
            if self._passing_over:
                end = text.find("\n", done)
                if end < 0:
                    done = len(text)
                    break
                done, self._passing_over = end, False
            at = _after_between(text, done)
            done = max(done, text.rfind("\n", done, at) + 1)
            if at == len(text):
                break
            # On its line, behind what a shipper may have put before it.
            end = text.find("\n", at)
            start = text.find("{", at, end if end >= 0 else len(text))
            if start >= 0 and not self._is_line(text[done:start]):
                found = self._record(text, start)
                holds = found == "unfinished" or (isinstance(found, tuple) and _holds_records(found[0]))
                if holds and (opened := self._opened(text, start)):
                    done = opened
                    continue
                if isinstance(found, tuple):
                    record, done = found
                    yield record
                    continue
                may_follow = found == "unfinished"
            else:
                may_follow = end < 0
            if may_follow and not last and len(text) - done < LARGEST_RECORD_CHARACTERS:
                break
            yield Line(text[done : end if end >= 0 else len(text)].rstrip("\r"))
            self._passing_over = True
        self._rest = text[done:]

    def _opened(self, text: str, start: int) -> int | None:
        """Return where the records of an envelope that starts there begin; None: it is none, or not yet."""
        at = start + 1
        while match := NAME.match(text, at):
            name, at = match[1], match.end()
            if name in LISTS:
                if array := OF_RECORDS.match(text, at):
                    return array.end()
                if name == "hits" and text.startswith("{", at):
                    at += 1
                    continue
            try:
                at = self._decode(text, at)[1]
            except (ValueError, RecursionError):
                return None
            if not (more := AND_MORE.match(text, at)):
                return None
            at = more.end()
        return None

    def _record(self, text: str, start: int) -> tuple[Record, int] | str:
        """Return the record that starts there and its end, or what is wrong with it."""
        try:
            values, end = self._decode(text, start)
        except json.JSONDecodeError as error:
            near_end = error.pos > len(text) - UNFINISHED_CHARACTERS
            return "unfinished" if near_end or error.msg.startswith("Unterminated string") else "broken"
        except (ValueError, RecursionError):
            # A number of thousands of digits, or a depth of thousands.
            return "broken"
        return Record(values, text[start:end]), end


def _holds_records(record: Record) -> bool:
    hits = record.node("hits")
    return any(isinstance(node.find(name), list) for node in (record, hits) if node for name in LISTS)


def _after_between(text: str, at: int) -> int:
    """Return where the next thing starts that is not between records."""
    match = BETWEEN.match(text, at)
    return match.end() if match else at
