"""What Grafana and its ClickHouse plugin make of a panel's SQL before ClickHouse sees it.

For tests and benchmarks, which run every panel's query without a Grafana.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime


def _arguments(sql: str, opening: int) -> list[str]:
    depth, start, found = 0, opening + 1, []
    for i in range(opening, len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[i], 0)
        if (sql[i] == "," and depth == 1) or depth == 0:
            found.append(sql[start:i])
            start = i + 1
        if depth == 0:
            return found
    raise ValueError(f"unbalanced parentheses: {sql[opening:]}")


def expand(
    sql: str, chosen: Mapping[str, Sequence[str]], start: datetime, end: datetime, interval_s: int = 300
) -> str:
    """Return the SQL that reaches ClickHouse.

    The plugin's front end drops a ``$__conditionalAll`` whose variable is `All` (absent from `chosen`),
    Grafana fills in the variables, and the plugin's backend replaces its macros by plain SQL.

    Parameters
    ----------
    chosen
        Variable to the values chosen.
    start, end
        The dashboard's time range, aware.
    interval_s
        Length of an interval of a graph: Grafana makes it from the range and the panel's width.

    Raises
    ------
    ValueError
        If something is left that only Grafana would understand.

    Examples
    --------
    >>> from datetime import UTC
    >>> moment = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    >>> expand("SELECT 1 WHERE $__conditionalAll(kind IN (${kind:singlequote}), $kind)", {}, moment, moment)
    'SELECT 1 WHERE 1=1'
    """
    macro = "$__conditionalAll"
    while (at := sql.rfind(macro)) != -1:
        arguments = _arguments(sql, at + len(macro))
        condition, variable = arguments
        condition = condition if variable.strip().removeprefix("$") in chosen else "1=1"
        sql = sql[:at] + condition + sql[at + len(macro) + len(",".join(arguments)) + 2 :]
    for name, values in chosen.items():
        quoted = ",".join("'" + value.replace("'", "\\'") + "'" for value in values)
        sql = sql.replace(f"${{{name}:singlequote}}", quoted)
    low, high = (f"toDateTime({int(moment.timestamp())})" for moment in (start, end))
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 >= {low} AND \1 <= {high}", sql)
    sql = re.sub(
        r"\$__timeInterval\((\w+)\)", rf"toStartOfInterval(toDateTime(\1), INTERVAL {interval_s} second)", sql
    )
    sql = sql.replace("$__interval_s", str(interval_s)).replace("$__fromTime", low).replace("$__toTime", high)
    if "$" in sql:
        raise ValueError(f"Grafana would leave this in: {sql[sql.index('$') :][:40]}")
    return sql
