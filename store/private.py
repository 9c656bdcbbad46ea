"""Parameters that name people: sent beside a query, because a server writes down what stands in one.

With its parameters a query gets into `system.query_log` and the server's log file, and stays there when the
person is forgotten. What comes as an external table is written nowhere.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from clickhouse_connect.driver.external import ExternalData

from store.row_binary import text_bytes

# Parameters whose names begin so are private; each is an Array(String).
PRIVATE: Final = "private_"
_USED: Final = re.compile(rf"(\bIN )?\{{({PRIVATE}\w+):Array\(String\)\}}")


def taken_apart(sql: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a client is to ask a server: the private parameters are tables beside the query, one each.

    >>> asked = taken_apart("SELECT a IN {private_a:Array(String)}, {b:UInt8}", {"private_a": ["x"], "b": 1})
    >>> asked["query"], asked["parameters"]
    ('SELECT a IN (SELECT value FROM private_a), {b:UInt8}', {'b': 1})
    """
    private = {name: values for name, values in parameters.items() if name.startswith(PRIVATE)}
    if not private:
        return {"query": sql, "parameters": parameters}
    tables = ExternalData()
    for name, values in private.items():
        rows = b"".join(map(text_bytes, values))
        tables.add_file(file_name=name, data=rows, fmt="RowBinary", structure="value String")
    others = {name: value for name, value in parameters.items() if name not in private}
    return {"query": _USED.sub(_selected, sql), "parameters": others, "external_data": tables}


def _selected(used: re.Match[str]) -> str:
    # An array is one value and never a set; where a plan is logged, it is named by its hash.
    values = "value" if used[1] else "groupArray(value)"
    return f"{used[1] or ''}(SELECT {values} FROM {used[2]})"
