"""Send audit events to tenantwatch: checked here, queued in memory, delivered to Kafka in the background.

>>> from tenantwatch_emitter import Emitter
>>> audit = Emitter("kafka.example.com:9092", service="billing-api")
>>> audit.auth("tenant-a", action="login", outcome="failure", reason="bad_password")  # doctest: +SKIP
'0197f3a0-5c1e-7d3a-9a51-0f6f7c1f2b4d'
"""

from .emitter import Emitter
from .outbox import QueueFull, Stats
from .validation import InvalidEvent

__all__ = ["Emitter", "InvalidEvent", "QueueFull", "Stats"]
