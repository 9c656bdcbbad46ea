"""What of a Sigma rule its alerts say."""

import json
import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from sigma.rule import SigmaLevel, SigmaRule, SigmaRuleBase

from detectors.rules.compiled import Headline
from schemas.alert import Severity

_SEVERITY: Final[dict[SigmaLevel, Severity]] = {
    SigmaLevel.INFORMATIONAL: "low",
    SigmaLevel.LOW: "low",
    SigmaLevel.MEDIUM: "medium",
    SigmaLevel.HIGH: "high",
    SigmaLevel.CRITICAL: "critical",
}
_TECHNIQUE: Final = re.compile(r"t\d{4}(\.\d{3})?")
# Of a source, what decides on verdicts.
_DECIDING: Final = ("logsource", "detection", "correlation")


def headline_of(
    rule: SigmaRuleBase, rules: Sequence[SigmaRule], sources: Sequence[dict[str, Any]]
) -> Headline:
    """Return a rule's headline.

    Parameters
    ----------
    rules
        Those that a correlation refers to.
    sources
        The YAML of all of them.
    """
    name = re.sub(r"[^a-z0-9]+", "_", (rule.name or rule.title).lower()).strip("_")[:64]
    tags = [tag for tagged in (rule, *rules) for tag in tagged.tags]
    techniques = [
        tag.name.upper() for tag in tags if tag.namespace == "attack" and _TECHNIQUE.fullmatch(tag.name)
    ]
    return Headline(
        key=_key(rule, sources),
        title=" ".join(rule.title.split()),
        classification=name or "custom_rule",
        severity=_SEVERITY[rule.level] if rule.level else "medium",
        attack=tuple(dict.fromkeys(techniques)),
        runbook=_runbook(rule),
    )


def _key(rule: SigmaRuleBase, sources: Sequence[dict[str, Any]]) -> str:
    """Return what the rule's memory is kept under: a new one when it selects or correlates otherwise."""
    deciding = [{part: source[part] for part in _DECIDING if part in source} for source in sources]
    text = json.dumps([str(rule.id or rule.name or rule.title), deciding], sort_keys=True, default=str)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _runbook(rule: SigmaRuleBase) -> str:
    parts = [(rule.description or "Look at the events that are named in the evidence").strip()]
    if rule.falsepositives:
        parts.append(
            f"No attack, perhaps: {'; '.join(str(cause).strip('. ') for cause in rule.falsepositives)}"
        )
    if rule.author:
        parts.append(f"Rule by {rule.author}")
    return " ".join(f"{' '.join(part.split()).rstrip('.')}." for part in parts)
