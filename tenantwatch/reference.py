"""Every setting and every metric as Markdown: `make reference` writes docs/reference.md."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from streams.metrics import described
from tenantwatch.settings import Settings

PATH: Final = Path(__file__).parent.parent / "docs" / "reference.md"
# Made anew wherever they are asked for: a default of one machine says nothing.
_MADE: Final = {"data_dir": "`~/.local/share/tenantwatch`", "worker_id": "(host and process id)"}
_TEXT: Final = """\
# Reference

Written by `make reference` from the code.

## Settings

Environment variables of every `tenantwatch` process. An empty one counts as not set; a wrong one stops the
start and says what is allowed.

{settings}
## Metrics

At `/metrics` on `TENANTWATCH_HTTP_PORT`. A worker exports all of them, a process of `tenantwatch api` only
what says so. None has a tenant or a user as a label: such numbers come from the store. What to watch them
for is in `dashboards/prometheus/alerts.yml`, each rule with its runbook.

{metrics}"""


def text() -> str:
    """Return the document."""
    rows = [("setting", "default", ""), ("---",) * 3]
    rows += [
        (f"`TENANTWATCH_{name.upper()}`", _default(name, field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    told = [("metric", "labels", ""), ("---",) * 3]
    told += [
        (
            f"`{one.name}`",
            ", ".join(f"`{name}`" for name in one.labels),
            one.text + " Also of the API." * one.of_api,
        )
        for one in described()
    ]
    return _TEXT.format(settings=_table(rows), metrics=_table(told))


def _default(name: str, field: FieldInfo) -> str:
    if name in _MADE:
        return _MADE[name]
    value: Any = field.get_default(call_default_factory=True)
    return f"`{value}`" if value not in (None, [], {}) else ""


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
