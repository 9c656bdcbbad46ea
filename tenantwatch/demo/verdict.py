"""What was planted against what was raised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.alert import Alert, to_ms
from tenantwatch.demo.attacks import Attack
from tenantwatch.demo.probes import Probe


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
