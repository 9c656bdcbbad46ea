"""Tables in Markdown."""

from collections.abc import Iterable


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table in Markdown.

    >>> print(table(["rate", "p50"], [[5000, 12.25]]), end="")
    | rate | p50 |
    |---|---|
    | 5,000 | 12.25 |
    """
    lines = [list(head)]
    lines += [[f"{v:,}" if isinstance(v, (int, float)) else str(v) for v in row] for row in rows]
    first, *rest = ("| " + " | ".join(line) + " |\n" for line in lines)
    return first + "|" + "---|" * len(lines[0]) + "\n" + "".join(rest)
