"""The Prometheus rules and the panels' PromQL: known metrics, cases for each rule, promtool's verdict."""

import json
import re
import shutil
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Histogram

from schemas.event import KINDS
from schemas.parse import REASONS
from streams import metrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "dashboards" / "prometheus"
CASES = Path(__file__).with_name("alerts_test.yml")
# The labels that Prometheus adds to every series it scrapes.
SCRAPED = {"job", "instance"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing; it is in the package `prometheus`"
)


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _panel_expressions() -> list[str]:
    boards = (
        json.loads(path.read_text()) for path in sorted((ROOT / "dashboards/grafana/json").glob("*.json"))
    )
    return [
        target["expr"]
        for board in boards
        for panel in board["panels"]
        for target in panel.get("targets", [])
        if "expr" in target
    ]


def _exported() -> dict[str, set[str]]:
    """Return each series name that a worker exports, with its labels."""
    exported: dict[str, set[str]] = {"up": SCRAPED}
    for metric in vars(metrics).values():
        if not hasattr(metric, "_labelnames"):
            continue
        labels = set(metric._labelnames) | SCRAPED
        if isinstance(metric, Histogram):
            exported |= {f"{metric._name}_{part}": labels | {"le"} for part in ("bucket", "sum", "count")}
        else:
            exported[metric._name + ("_total" if isinstance(metric, Counter) else "")] = labels
    # A recorded series has the labels of the expression's outermost aggregation.
    for rule in _rules():
        if "record" in rule:
            outermost = re.match(r"\w+ by \(([^)]*)\)", rule["expr"])
            assert outermost
            exported[rule["record"]] = {label.strip() for label in outermost[1].split(",")}
    return exported


def _run(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("expression", _panel_expressions() + [rule["expr"] for rule in _rules()])
def test_an_expression_uses_metrics_and_labels_that_workers_export(expression: str) -> None:
    """A metric or label that is renamed must be renamed in panels and rules too."""
    exported = _exported()
    used = set(re.findall(r"\bup\b|[\w:]*tenantwatch_[\w:]+", expression))
    assert used
    assert used <= set(exported)
    labels = set(re.findall(r"(\w+)=~?\"", expression))
    for clause in re.findall(r"(?:by|on) \(([^)]*)\)", expression):
        labels |= {label.strip() for label in clause.split(",")}
    assert labels <= set().union(*(exported[name] for name in used))


def test_every_metric_of_a_worker_is_looked_at() -> None:
    """A metric that neither a panel nor a rule uses is either missing from them or not worth exporting."""
    watched = " ".join(_panel_expressions() + [rule["expr"] for rule in _rules()])
    names = {metric._name for metric in vars(metrics).values() if hasattr(metric, "_labelnames")}
    names.remove("tenantwatch_unknown_fields")  # shown from the ledger, which outlives a restart
    assert {name for name in names if name not in watched} == set()


def test_dead_letters_are_counted_from_nothing() -> None:
    """A series that begins with a burst of letters has not increased: the burst would alert nobody."""
    counted = {
        (sample.labels["kind"], sample.labels["reason"])
        for sample in metrics.DEAD_LETTERS.collect()[0].samples
    }
    assert counted >= set(product(KINDS, REASONS))


@pytest.mark.parametrize("rule", [pytest.param(r, id=r["alert"]) for r in _rules() if "alert" in r])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    """Each rule has a severity, a summary, a description and a runbook."""
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert not rule["annotations"]["summary"].endswith(".")


@pytest.mark.parametrize("alert", [rule["alert"] for rule in _rules() if "alert" in rule])
def test_an_alert_has_a_firing_and_a_silent_case(alert: str) -> None:
    """Each rule is seen to fire, and seen not to."""
    expected = {
        case["name"]: [
            sample["labels"] for test in case.get("promql_expr_test", []) for sample in test["exp_samples"]
        ]
        for case in yaml.safe_load(CASES.read_text())["tests"]
        if case["name"].startswith(f"{alert}: ")
    }
    fires = [f'{{alertname="{alert}"}}' in samples for samples in expected.values()]
    assert set(fires) == {True, False}
    assert all((": fires when " in name) == fired for name, fired in zip(expected, fires, strict=True))


@needs_promtool
def test_prometheus_accepts_its_configuration() -> None:
    """The scrape configuration and the rules that it names are valid."""
    assert _run("check", "config", PROMETHEUS / "prometheus.yml") == ""


@needs_promtool
def test_the_rules_fire_when_they_should() -> None:
    """Every case of alerts_test.yml holds."""
    assert _run("test", "rules", CASES) == ""


@needs_promtool
def test_panel_expressions_are_promql(tmp_path: Path) -> None:
    """Prometheus's own parser accepts every panel's expression."""
    rules = [
        {"record": f"panel:{i}", "expr": expression.replace("$__rate_interval", "5m")}
        for i, expression in enumerate(_panel_expressions())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert _run("check", "rules", file) == ""
