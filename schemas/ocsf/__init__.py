"""The Open Cybersecurity Schema Framework, 1.8: stored events and alerts in the words of SIEMs."""

from schemas.ocsf.events import event_to_ocsf
from schemas.ocsf.finding import alert_to_ocsf

__all__ = ["alert_to_ocsf", "event_to_ocsf"]
