"""What spraying across tenants looks like to one of them."""

from detectors.episode import Episode, Story
from detectors.tally import MAX_VALUES
from detectors.visits import Cut
from detectors.wording import clock_text, duration_text, plural


class CrossTenantTeller:
    """Tells a tenant of its own part, and that it was not the only one: not who the others were.

    Parameters
    ----------
    tenants, window_ms
        So many must be met within so long.
    """

    detector = "failed_login"
    rule = "spray_across_tenants"
    facts = Cut

    def __init__(self, tenants: int, window_ms: int) -> None:
        self._others, self._window = f"{tenants - 1} or more", duration_text(window_ms)

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about a visit."""
        cut: Cut = episode.facts
        users = f"at least {cut.users}" if cut.users == MAX_VALUES else f"{cut.users}"
        tries = plural(cut.failures, "failed login")
        return Story(
            "cross_tenant_spray",
            "high",
            f"{tries} from {episode.key[2]} here, of {users} user{'' if users == '1' else 's'}, and more at "
            f"{self._others} other tenants within {self._window}; last at {clock_text(cut.last_ms)}",
            {"failures": cut.failures, "users": cut.users, "other_tenants": self._others},
            ("T1110.003",),
            "Block the address: whoever tries several tenants at once is no user who mistyped. Look for a "
            "success from it among the users it tried; reset those passwords and require a second factor.",
        )
