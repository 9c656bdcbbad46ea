"""What the demo found out, as data, and what is wrong with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tenantwatch.demo.verdict import Finding, Verdict


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the smallest value that at least so many per cent do not exceed; None of no values.

    >>> percentile([1, 2, 3, 4], 50), percentile([1, 2, 3, 4], 99), percentile([], 50)
    (2, 4, None)
    """
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


@dataclass(frozen=True)
class Outcome:
    """Everything that the demo found out.

    Parameters
    ----------
    events_per_s
        Events of the fast part by the seconds from the first one sent until all were stored.
    paced_per_s
        Events a second while latency was measured.
    webhooks_expected, webhooks_verified, webhooks_refused
        Messages due by the alerts published, received with a good signature, and with a bad one.
    webhooks_misdirected
        Alerts of other tenants that a tenant's own webhook received.
    flagged
        Events that are stored but were not handed to the detectors.
    delivered
        Ids of the alerts that the platform's webhook received.
    """

    verdict: Verdict
    seed: int
    events_sent: int
    events_stored: int
    events_per_s: int
    paced_per_s: int
    probes: int
    flagged: int
    webhooks_expected: int
    webhooks_verified: int
    webhooks_refused: int
    webhooks_misdirected: int
    seconds: float
    delivered: frozenset[str]

    def problems(self) -> list[str]:
        """Return what is not as it should be, a sentence each; empty: all is well."""
        verdict = self.verdict
        lost = self.events_sent - self.events_stored
        missing = self.webhooks_expected - self.webhooks_verified
        said = [
            f"{attack.name} in {attack.tenant_id} raised no {attack.classification} alert"
            for attack in (finding.attack for finding in verdict.findings if finding.alert is None)
        ]
        checks = (
            (len(verdict.false_alerts), "{} false alerts"),
            (max(0, lost), "{} events sent and not stored"),
            (max(0, -lost), "{} events stored more than once"),
            (self.flagged, "{} events stored and not looked at by the detectors"),
            (max(0, missing), "{} webhook messages did not arrive"),
            (max(0, -missing), "{} webhook messages too many"),
            (self.webhooks_refused, "{} webhook messages with a wrong signature"),
            (self.webhooks_misdirected, "{} alerts delivered to another tenant's webhook"),
            (self.probes - len(verdict.latencies_ms), "{} bursts of the latency measurement raised no alert"),
        )
        return said + [sentence.format(count) for count, sentence in checks if count]

    def data(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        verdict = self.verdict
        return {
            "planted": len(verdict.findings),
            "raised": verdict.raised,
            "false_alerts": len(verdict.false_alerts),
            "webhooks_expected": self.webhooks_expected,
            "webhooks_verified": self.webhooks_verified,
            "events_sent": self.events_sent,
            "events_stored": self.events_stored,
            "events_per_s": self.events_per_s,
            "latency_ms": {
                "p50": percentile(verdict.latencies_ms, 50),
                "p99": percentile(verdict.latencies_ms, 99),
            },
            "latency_samples": len(verdict.latencies_ms),
            "latency_at_events_per_s": self.paced_per_s,
            "attacks": [_attack_data(finding, self.was_delivered(finding)) for finding in verdict.findings],
            "unexplained": [alert.model_dump(mode="json") for alert in verdict.false_alerts],
            "problems": self.problems(),
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
        }

    def was_delivered(self, finding: Finding) -> bool:
        """Say whether the alert of an attack reached the platform's webhook."""
        return finding.alert is not None and finding.alert.alert_id in self.delivered


def _attack_data(finding: Finding, delivered: bool) -> dict[str, Any]:
    attack, alert = finding.attack, finding.alert
    return {
        "name": attack.name,
        "tenant_id": attack.tenant_id,
        "raised": alert is not None,
        "detector": attack.detector,
        "classification": attack.classification,
        "alert_id": alert.alert_id if alert else None,
        "entity": alert.entity.model_dump() if alert else None,
        "severity": alert.severity if alert else None,
        "after_s": finding.after_s,
        "after_events": finding.after_events,
        "webhook_delivered": delivered,
        "further_alerts": [other.alert_id for other in finding.others],
    }
