"""What commands read: a file of lines, plain or gzip, or standard input; with a progress bar."""

import gzip
import os
import stat
import sys
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Annotated, Final, cast

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tenantwatch.commands.output import err, fail

File = Annotated[
    str, typer.Argument(help="Newline-delimited JSON, plain or gzip; - is standard input.", metavar="FILE")
]
BLOCK_BYTES: Final = 1 << 20
GZIP_MAGIC: Final = b"\x1f\x8b"


@dataclass(frozen=True)
class Source:
    """An open file.

    Parameters
    ----------
    name
        For messages.
    size
        Bytes of the file as it is stored; None for standard input.
    progress
        Whether to show how far reading is.
    """

    name: str
    size: int | None
    progress: bool
    _stored: BufferedReader
    _content: IO[bytes]

    def blocks(self) -> Iterator[list[bytes]]:
        """Yield lines without their ends, as many at a time as are there without waiting for more.

        A slow writer's lines come one by one, a file's a thousand at a time.
        """
        rest = b""
        for chunk in self.chunks():
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            if lines:
                yield lines
        if rest:
            yield [rest]

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces of at most `BLOCK_BYTES`, cut anywhere, each as soon as it is there.

        The mark of order that some editors put before UTF-8 is left out: it would cost the first line.
        """
        pieces = self._pieces()
        begin = b""
        for piece in pieces:
            begin += piece
            if len(begin) >= len(BOM_UTF8) or not BOM_UTF8.startswith(begin):
                break
        if begin := begin.removeprefix(BOM_UTF8):
            yield begin
        yield from pieces

    def _pieces(self) -> Iterator[bytes]:
        # Every reader that `opened` makes has read1, which IO does not promise.
        read1 = cast(gzip.GzipFile, self._content).read1
        with self._bar() as bar:
            while chunk := read1(BLOCK_BYTES):
                yield chunk
                bar.update(bar.task_ids[0], completed=self._stored.tell() if self.size else 0)

    def lines(self) -> Iterator[bytes]:
        """Yield lines without their ends, each as soon as it is there."""
        for block in self.blocks():
            yield from block

    def _bar(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        # Not at the end of a pipe: the program at its beginning knows how far it is.
        shown = self.progress and self.size is not None and err.is_terminal
        bar = Progress(*columns, console=err, transient=True, disable=not shown)
        bar.add_task(self.name, total=self.size)
        return bar


@contextmanager
def opened(file: str, *, progress: bool = True) -> Iterator[Source]:
    """Open a file, plain or gzip, or standard input for ``-``.

    Parameters
    ----------
    progress
        Whether to show how far reading is; not where it would mix with data on the screen.

    Raises
    ------
    typer.Exit
        If it cannot be read; the reason has been printed.
    """
    stored = _stored(file)
    name = "standard input" if file == "-" else file
    kind = os.fstat(stored.fileno())
    size = kind.st_size if file != "-" and stat.S_ISREG(kind.st_mode) else None
    try:
        compressed = stored.peek(2)[:2] == GZIP_MAGIC
        content = cast(IO[bytes], gzip.GzipFile(fileobj=stored)) if compressed else stored
        yield Source(name, size, progress, stored, content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise fail(f"{name} is not a whole gzip file: {error}") from None
    finally:
        if file != "-":
            stored.close()


def _stored(file: str) -> BufferedReader:
    if file == "-":
        return cast(BufferedReader, sys.stdin.buffer)
    try:
        return Path(file).open("rb")
    except FileNotFoundError:
        raise fail(f"there is no file {file}") from None
    except IsADirectoryError:
        raise fail(f"{file} is a directory; name a file") from None
    except PermissionError:
        raise fail(f"{file} cannot be read: permission denied") from None
