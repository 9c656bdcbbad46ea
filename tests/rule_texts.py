"""Sigma texts for tests, from short descriptions."""

from typing import Any

import yaml

from schemas.event import Kind
from schemas.tenant import Tenant, unknown_tenant

LOGINS = {"action": "login"}
FAILURES = {**LOGINS, "outcome": "failure"}
SUCCESSES = {**LOGINS, "outcome": "success"}


def plain(selection: Any, kind: Kind = "auth", condition: str = "selection", **about: Any) -> dict[str, Any]:
    """Return a rule with one selection, or, given a mapping of them, with these."""
    detection = selection if "selection" in selection else {"selection": selection}
    return {
        "title": "A rule",
        "logsource": {"product": "tenantwatch", "category": kind},
        "detection": {**detection, "condition": condition},
        **about,
    }


def correlation(correlation_type: str, rules: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    """Return a correlation and the rules that it refers to; `more` are keys of the correlation."""
    named = [{"name": f"rule_{i}", **rule} for i, rule in enumerate(rules)]
    body = {"type": correlation_type, "rules": [rule["name"] for rule in named], "timespan": "60s"}
    # YAML's keys have dashes where Python's have none.
    body |= {key.replace("_", "-"): value for key, value in more.items()}
    return [*named, {"title": f"A {correlation_type}", "name": correlation_type, "correlation": body}]


def text_of(documents: dict[str, Any] | list[dict[str, Any]]) -> str:
    """Return documents as one Sigma text."""
    return yaml.safe_dump_all(documents if isinstance(documents, list) else [documents], sort_keys=False)


def ruled(*texts: Any, tenant_id: str = "tenant-a", **settings: Any) -> Tenant:
    """Return a tenant with rules."""
    rules = [text if isinstance(text, str) else text_of(text) for text in texts]
    return unknown_tenant(tenant_id).model_copy(update={"rules": rules, **settings})
