"""What the benchmark counts as a detector's memory."""

import pytest

from bench.detection_cost import kept
from detectors import growing

USERS = 1_000


@pytest.mark.thorough
def test_large_columns_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of their own are memory too: of a user, a key, its place and what it asked for."""
    monkeypatch.setattr(growing, "OWN_PAGES_BYTES", 1 << 10)
    found = {detector: held for (_, detector), (held, _) in kept(USERS, seed=1).items()}
    assert found["rate_breach"] > 80 * USERS
    assert found["access_anomaly"] > 200 * USERS
