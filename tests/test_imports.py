"""The architecture's arrows, read from the imports of every module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# A package may import itself and those left of it.
PACKAGES = ("schemas", "detectors", "store", "streams", "api", "dashboards", "tenantwatch")
# Third parties that only one place may know: top-level name to package or module.
HOMES = {
    "faust": "streams",
    "mode": "streams",
    "aiokafka": "streams",
    "kafka": "streams",
    "clickhouse_connect": "store",
    "chdb": "store",
    "sigma": "detectors.rules",
    "maxminddb": "streams.geography",
    "prometheus_client": "streams.metrics",
}
LOADERS = ("import_module", "__import__")


def imported(tree: ast.Module, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of everything that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            # One dot is the package that holds the module; a package's own `__init__` is held by itself.
            holders = [*module.split("."), "__init__"] if is_package else module.split(".")
            yield node.lineno, ".".join([*holders[: -node.level], *([node.module] if node.module else [])])
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in LOADERS and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def violations(path: Path, source: str) -> list[str]:
    """Return the broken rules of one module, each with file and line."""
    parts = path.with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    own = parts[0]
    found = []
    for line, name in imported(ast.parse(source), module, is_package):
        top = name.split(".")[0]
        if top in PACKAGES and PACKAGES.index(top) > PACKAGES.index(own):
            rule = f"{own} may not import {top}: imports go {' <- '.join(PACKAGES)}"
        elif top in HOMES and f"{module}.".startswith(f"{HOMES[top]}."):
            continue
        elif top in HOMES:
            rule = f"{top} is imported only in {HOMES[top]}"
        else:
            continue
        found.append(f"{path}:{line}: {rule}")
    return found


def modules() -> list[Path]:
    return [path.relative_to(ROOT) for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


def test_every_package_is_scanned() -> None:
    """A renamed package would otherwise slip out of the check unseen."""
    assert {path.parts[0] for path in modules()} == set(PACKAGES)


def test_no_arrow_turns_round() -> None:
    """Packages import only themselves and those left of them, and third parties only where they live."""
    found = [
        line for path in modules() for line in violations(path, (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert found == [], "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "rule"),
    [
        ("schemas/a.py", "import detectors", "schemas may not import detectors"),
        ("schemas/a.py", "from tenantwatch.cli import main", "schemas may not import tenantwatch"),
        ("store/a.py", "import os, streams.app", "store may not import streams"),
        ("store/deep/a.py", "def f():\n    import api", "store may not import api"),
        ("api/a.py", "if TYPE_CHECKING:\n    from dashboards import x", "api may not import dashboards"),
        ("api/a.py", "importlib.import_module('dashboards.x')", "api may not import dashboards"),
        ("api/a.py", "import faust", "faust is imported only in streams"),
        ("detectors/a.py", "from sigma.rule import X", "sigma is imported only in detectors.rules"),
        ("store/a.py", "from mode import Service", "mode is imported only in streams"),
        ("tenantwatch/a.py", "from aiokafka.admin import X", "aiokafka is imported only in streams"),
        ("tenantwatch/a.py", "import kafka as k", "kafka is imported only in streams"),
        ("streams/a.py", "import clickhouse_connect", "clickhouse_connect is imported only in store"),
        ("api/a.py", "from chdb import session", "chdb is imported only in store"),
        ("streams/a.py", "import prometheus_client", "prometheus_client is imported only in streams.metrics"),
        ("streams/metrics2.py", "import prometheus_client", "prometheus_client is imported only in"),
    ],
)
def test_a_turned_arrow_is_told_with_its_place(path: str, source: str, rule: str) -> None:
    """Each forbidden import is named with file, line and rule, wherever in the module it stands."""
    [told] = violations(Path(path), source)
    assert told.startswith(f"{path}:{source.count(chr(10)) + 1}: {rule}")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("streams/app.py", "import faust, aiokafka, kafka, mode\nfrom store import x\nfrom . import y"),
        ("streams/metrics.py", "from prometheus_client import Counter"),
        ("store/database.py", "import chdb, clickhouse_connect\nfrom schemas.event import Kind"),
        ("tenantwatch/cli.py", "import api, dashboards, streams, store, detectors, schemas, tenantwatch.x"),
        ("schemas/parse.py", "from schemas.event import Kind\nfrom .batch import x\nimport numpy"),
        ("schemas/__init__.py", "from . import event\nfrom .event import Kind"),
    ],
)
def test_what_the_architecture_allows_passes(path: str, source: str) -> None:
    """Imports to the left, within a package, and of third parties at home are no violation."""
    assert violations(Path(path), source) == []


def test_relative_imports_are_followed() -> None:
    """`from ..x` means the package it leads to."""
    tree = ast.parse("from . import a\nfrom .b import c\nfrom ..d import e")
    assert [name for _, name in imported(tree, "store.deep.module", False)] == [
        "store.deep",
        "store.deep.b",
        "store.d",
    ]
    assert [name for _, name in imported(tree, "store.deep", True)] == [
        "store.deep",
        "store.deep.b",
        "store.d",
    ]
