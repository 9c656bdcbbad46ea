"""What was planted against what was raised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.alert import Alert, to_ms
from tenantwatch.demo.attacks import Attack
from tenantwatch.demo.probes import Probe

SEVERITY_ORDER: Final = ("low", "medium", "high", "critical")


@dataclass(frozen=True)
class Finding:
    """An attack, and the alerts about it.

    Parameters
    ----------
    attack
        As planted.
    alert
        The alert that calls it by its name, as it stood at the end; None: there is none.
    others
        Further alerts that it explains.
    """

    attack: Attack
    alert: Alert | None
    others: tuple[Alert, ...]

    @property
    def after_s(self) -> float | None:
        """Event time from the attack's first event to the one that raised the alert, seconds."""
        if self.alert is None:
            return None
        return (to_ms(self.alert.detected_at) - self.attack.times_ms[0]) / 1000

    @property
    def after_events(self) -> int | None:
        """How many of the attack's events it took."""
        if self.alert is None:
            return None
        detected_ms = to_ms(self.alert.detected_at)
        return sum(time_ms <= detected_ms for time_ms in self.attack.times_ms)


@dataclass(frozen=True)
class Verdict:
    """What became of the attacks and the bursts, and which alerts nothing explains."""

    findings: tuple[Finding, ...]
    false_alerts: tuple[Alert, ...]
    latencies_ms: tuple[int, ...]

    @property
    def raised(self) -> int:
        """How many attacks were found."""
        return sum(finding.alert is not None for finding in self.findings)


def judge(
    attacks: Sequence[Attack], probes: Sequence[Probe], revisions: Sequence[Alert], sent_ms: Mapping[str, int]
) -> Verdict:
    """Compare alerts with the truth.

    Parameters
    ----------
    revisions
        Every revision that was published.
    sent_ms
        When the last event of each burst was sent, by the burst's address.
    """
    newest: dict[str, Alert] = {}
    first: dict[str, Alert] = {}
    for alert in sorted(revisions, key=lambda alert: alert.revision):
        first.setdefault(alert.alert_id, alert)
        newest[alert.alert_id] = alert
    by_address = {probe.source_ip: probe for probe in probes}
    findings = tuple(_finding(attack, list(newest.values())) for attack in attacks)
    false_alerts: list[Alert] = []
    latencies_ms: dict[str, int] = {}
    for alert_id, alert in newest.items():
        probe = by_address.get(alert.entity.value)
        if probe is not None and probe.explains(alert):
            published_at = first[alert_id].published_at
            if published_at is not None:
                latencies_ms.setdefault(probe.source_ip, to_ms(published_at) - sent_ms[probe.source_ip])
        elif not any(attack.explains(alert) for attack in attacks):
            false_alerts.append(alert)
    return Verdict(findings, tuple(false_alerts), tuple(sorted(latencies_ms.values())))


def _finding(attack: Attack, alerts: Sequence[Alert]) -> Finding:
    about = sorted(filter(attack.explains, alerts), key=lambda alert: (alert.detected_at, alert.alert_id))
    named = next(filter(attack.is_what_must_be_found, about), None)
    return Finding(attack, named, tuple(alert for alert in about if alert is not named))


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
    delivered: frozenset[str] = field(default_factory=frozenset)

    def problems(self) -> list[str]:
        """Return what is not as it should be, a sentence each; empty: all is well."""
        verdict = self.verdict
        said = [
            f"{finding.attack.name} in {finding.attack.tenant_id} raised no {finding.attack.classification} alert"
            for finding in verdict.findings
            if finding.alert is None
        ]
        checks = (
            (len(verdict.false_alerts), "{} false alerts"),
            (self.events_sent - self.events_stored, "{} events sent and not stored"),
            (self.flagged, "{} events stored and not looked at by the detectors"),
            (self.webhooks_expected - self.webhooks_verified, "{} webhook messages did not arrive"),
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
            "latency_ms": {"p50": percentile(verdict.latencies_ms, 50), "p99": percentile(verdict.latencies_ms, 99)},
            "latency_samples": len(verdict.latencies_ms),
            "latency_at_events_per_s": self.paced_per_s,
            "attacks": [_attack_data(finding, finding_delivered) for finding, finding_delivered in self._delivered()],
            "unexplained": [alert.model_dump(mode="json") for alert in verdict.false_alerts],
            "problems": self.problems(),
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
        }

    def _delivered(self) -> list[tuple[Finding, bool]]:
        return [
            (finding, finding.alert is not None and finding.alert.alert_id in self.delivered)
            for finding in self.verdict.findings
        ]


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
