"""Failed logins against a simulation that goes event by event."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenarios.streams import START_MS, as_set, numbered, run
from sizes import examples

from detectors.failed_login import FailedLogin
from detectors.parameters import FailedLoginParameters
from detectors.spells import MAX_KNOWN, MAX_RECENT

MINUTE_MS = 60_000
LATE_MS = 15 * MINUTE_MS
P = FailedLoginParameters()
SIZES = (P.burst_failures, P.minute_failures, P.hour_failures, P.strict_failures, P.new_users)
LEAKS_MS = tuple(
    1000 * leak_s
    for leak_s in (P.burst_leak_s, P.minute_leak_s, P.hour_leak_s, P.strict_leak_s, P.new_users_leak_s)
)


class Simulated:
    """One key's buckets and episode, one event at a time, as the documentation tells it."""

    def __init__(self, new_users: bool) -> None:
        self.sizes = SIZES if new_users else (*SIZES[:-1], 0)
        self.episodes: list[dict[str, object]] = []
        self.episode: dict[str, object] | None = None
        self.forget()

    def forget(self) -> None:
        self.empty_ms = [0] * len(SIZES)
        self.last_ms = 0
        self.recent: list[tuple[int, str]] = []
        self.known: set[str] = set()

    def fail(self, time_ms: int, event_id: str, value: str) -> bool:
        """Count a failure; return whether a bucket runs over."""
        time_ms = max(time_ms, self.last_ms)
        if self.episode and time_ms - self.episode["last_ms"] >= 1000 * P.quiet_s:
            self.episode["over"] = True
            self.episode = None
            self.forget()
        if all(empty_ms <= time_ms for empty_ms in self.empty_ms[:-1]):
            self.empty_ms[-1], self.recent, self.known = 0, [], set()
        new = value not in self.known
        if new and len(self.known) < MAX_KNOWN:
            self.known.add(value)
        for i, leak_ms in enumerate(LEAKS_MS):
            if i < len(LEAKS_MS) - 1 or new:
                self.empty_ms[i] = max(time_ms, self.empty_ms[i]) + leak_ms
        self.last_ms = time_ms
        shares = [
            (empty_ms - time_ms) / (size * leak_ms) if size else 0.0
            for empty_ms, size, leak_ms in zip(self.empty_ms, self.sizes, LEAKS_MS, strict=True)
        ]
        self.recent = [*self.recent, (time_ms, event_id)][-MAX_RECENT:]
        if self.episode:
            self.episode["last_ms"] = time_ms
            self.episode["count"] += 1
            if self.episode["count"].bit_count() == 1:
                self.episode["told"] = (time_ms, self.episode["count"])
        elif max(shares) > 1.0:
            fullest = shares.index(max(shares))
            span_ms = self.sizes[fullest] * LEAKS_MS[fullest]
            before = [e for e in self.recent[:-1] if e[0] > time_ms - span_ms]
            self.episode = {
                "first_ms": (before or [(time_ms, event_id)])[0][0],
                "last_ms": time_ms,
                "count": len(before) + 1,
                "detected_ms": time_ms,
                "over": False,
                "told": (time_ms, len(before) + 1),
            }
            self.episodes.append(self.episode)
        return max(shares) > 1.0


def simulate(events: list[dict[str, object]]) -> set[tuple[object, ...]]:
    """Return what the simulation finds: entity, first, detected and last time, count, whether over."""
    addresses: dict[object, Simulated] = {}
    users: dict[object, Simulated] = {}
    watermark_ms = 0
    for event in events:
        time_ms = max(event["time_ms"], watermark_ms - LATE_MS)
        watermark_ms = max(watermark_ms, time_ms)
        user, address = event["user_id"], event["source_ip"]
        full = False
        if address:
            full = addresses.setdefault(address, Simulated(True)).fail(time_ms, event["event_id"], user)
        if not full:
            users.setdefault(user, Simulated(False)).fail(time_ms, event["event_id"], address)
    result: set[tuple[object, ...]] = set()
    for keys in (addresses, users):
        for name, simulated in keys.items():
            for episode in simulated.episodes:
                over = episode["over"] or episode["last_ms"] + 1000 * P.quiet_s <= watermark_ms - LATE_MS
                told = (episode["last_ms"], episode["count"]) if over else episode["told"]
                result.add((name, episode["first_ms"], episode["detected_ms"], *told, over))
    return result


def found(alerts) -> set[tuple[object, ...]]:
    """Return the same of the last revisions, but for what is told of the whole tenant."""
    last = {alert.alert_id: alert for alert in alerts}

    def ms(value) -> int:
        return round(value.timestamp() * 1000)

    return {
        (
            a.entity.value,
            ms(a.first_time),
            ms(a.detected_at),
            ms(a.last_time),
            a.event_count,
            a.status == "resolved",
        )
        for a in last.values()
        if a.entity.type != "tenant_id"
    }


def failures(seed: int, n: int, pace_ms: float) -> list[dict[str, object]]:
    """Return failures of a few users and addresses: bursts and pauses, some out of order."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(pace_ms, n) * rng.choice([0.05, 1, 20], n, p=[0.6, 0.3, 0.1])
    times = START_MS + np.cumsum(gaps).astype(np.int64) - rng.integers(0, 3, n) * rng.integers(0, 60_000, n)
    addresses = [f"192.0.2.{i}" for i in range(4)] + [None]
    return numbered(
        {
            "time_ms": int(time_ms),
            "user_id": f"user-{rng.integers(0, 1 + 12 * (i % 3))}",
            "source_ip": addresses[rng.choice(5, p=[0.5, 0.2, 0.1, 0.1, 0.1])],
            "action": "login",
            "outcome": "failure",
        }
        for i, time_ms in enumerate(times)
    )


@pytest.mark.parametrize("pace_ms", [500, 20_000, 300_000])
@pytest.mark.parametrize("seed", range(5))
def test_episodes_equal_those_of_a_simulation(seed: int, pace_ms: float) -> None:
    """Buckets, spells and episodes agree with a simulation that takes one event after the other."""
    events = failures(seed, 1_000, pace_ms)
    expected = simulate(events)
    assert expected
    assert found(run(FailedLogin(FailedLoginParameters(network_users=0)), events)) == expected


@given(
    st.integers(0, 1_000),
    st.sampled_from([500, 20_000, 300_000]),
    st.lists(st.integers(0, 200), max_size=8),
)
@examples(10, thorough=60)
def test_successes_among_failures_do_not_depend_on_batches(
    seed: int, pace_ms: float, cuts: list[int]
) -> None:
    """Logins in the middle of guessing are found the same however the stream is cut."""
    events = failures(seed, 200, pace_ms)
    for event in events[4::5]:
        event["outcome"] = "success"
    assert as_set(run(FailedLogin(), events, cuts)) == as_set(run(FailedLogin(), events))


def attempt(second: float, user: str | None, address: str | None, **fields: object) -> dict[str, object]:
    """Return a failed login, unless told otherwise."""
    return {
        "time_ms": START_MS + int(1000 * second),
        "user_id": user,
        "source_ip": address,
        "action": "login",
        "outcome": "failure",
        "reason": "bad_password",
        **fields,
    }


def classes(events: list[dict[str, object]]) -> list[tuple[str, str]]:
    """Return class and entity of the alerts of a stream."""
    return [
        (a.classification, a.entity.value) for a in run(FailedLogin(), numbered(events)) if a.revision == 1
    ]


def test_one_attack_by_one_address_is_one_alert() -> None:
    """The user at whom an address hammers raises no alert of their own."""
    events = [attempt(i, "ana", "203.0.113.9") for i in range(100)]
    assert classes(events) == [("brute_force", "203.0.113.9")]


def test_guessing_from_many_addresses_is_an_alert_of_the_user() -> None:
    """No address does enough, together they do."""
    events = [attempt(3 * i, "ana", f"198.51.100.{i}") for i in range(20)]
    assert classes(events) == [("brute_force", "ana")]


def test_a_stray_failure_from_elsewhere_does_not_page_twice() -> None:
    """While one address is in alarm, what it did does not count against the user again."""
    events = [attempt(i, "ana", "203.0.113.9") for i in range(100)] + [attempt(100, "ana", "192.0.2.1")]
    assert classes(events) == [("brute_force", "203.0.113.9")]


def test_the_name_follows_the_episode_and_the_id_stays() -> None:
    """What begins like brute force and goes on over many users is renamed, not raised again."""
    events = [attempt(i, "ana", "203.0.113.9") for i in range(6)]
    events += [attempt(6 + i, f"user-{i}", "203.0.113.9") for i in range(40)]
    alerts = run(FailedLogin(), numbered(events))
    assert len({alert.alert_id for alert in alerts}) == 1
    assert alerts[0].classification == "brute_force"
    assert alerts[-1].classification == "password_spray"


def test_the_first_events_are_those_that_filled_the_bucket() -> None:
    """Evidence begins with what led up to the alarm, and an old failure is no part of it."""
    events = [attempt(0, "ana", "203.0.113.9")] + [attempt(3_000 + i, "ana", "203.0.113.9") for i in range(5)]
    (alert,) = run(FailedLogin(), numbered(events))
    assert alert.evidence.event_ids == [f"e{i}" for i in range(1, 6)]
    assert (alert.event_count, alert.score) == (5, 4.93)


@pytest.mark.parametrize(("known", "alerts"), [(True, 0), (False, 1)])
def test_strangers_are_allowed_less_than_people(known: bool, alerts: int) -> None:
    """Five failures in half a minute are a forgotten password of somebody who logged in before."""
    before = [attempt(0, "ana" if known else "ben", "192.0.2.1", outcome="success")]
    guesses = [attempt(3_600 + 7 * i, "ana", "203.0.113.9") for i in range(5)]
    assert len(classes([*before, *guesses])) == alerts


@pytest.mark.parametrize("address", ["203.0.113.9", None])
def test_five_failures_within_ten_seconds_are_a_scripts(address: str | None) -> None:
    """Whoever's they are: a person needs about five seconds to retype."""
    before = [attempt(0, "ana", "192.0.2.1", outcome="success")]
    assert classes([*before, *(attempt(60 + 2 * i, "ana", address) for i in range(5))]) == [
        ("brute_force", address or "ana")
    ]
    assert classes([*before, *(attempt(60 + 5 * i, "ana", address) for i in range(7))]) == []


def test_resuming_after_quiet_is_another_alert() -> None:
    """After half an hour without a failure the key starts afresh: one failure is just one."""
    burst = [attempt(i, "ana", "203.0.113.9") for i in range(30)]
    later = [attempt(4_000 + i, "ana", "203.0.113.9") for i in range(4)]
    again = [attempt(4_004 + i, "ana", "203.0.113.9") for i in range(5)]
    assert len(classes([*burst, *later])) == 1
    assert len(classes([*burst, *later, *again])) == 2


def test_events_slightly_out_of_order_count_like_those_in_order() -> None:
    """A failure that arrives late fills the bucket as of the latest that was counted."""
    events = [attempt(60, "ana", "203.0.113.9")] + [attempt(55, "ana", "203.0.113.9") for _ in range(5)]
    assert classes(events) == [("brute_force", "203.0.113.9")]


def test_known_pairs_may_log_in_while_guessed_at() -> None:
    """A success from where the user always comes is no sign of a guess that hit."""
    at_home = attempt(0, "ana", "192.0.2.1", outcome="success")
    guesses = [attempt(100 + i, "ana", "192.0.2.1") for i in range(6)]
    success = attempt(107, "ana", "192.0.2.1", outcome="success")
    assert ("success_after_failures", "ana") not in classes([at_home, *guesses, success])
    assert ("success_after_failures", "ana") in classes([*guesses, success])


@pytest.mark.parametrize(("auth_method", "told"), [("password", True), (None, True), ("publickey", False)])
def test_nobody_guesses_a_key(auth_method: str | None, told: bool) -> None:
    """Whose password is guessed at, and who logs in by key from a new place meanwhile, is not taken."""
    guesses = [attempt(5 * i, "root", f"203.0.113.{i % 8}") for i in range(24)]
    login = attempt(130, "root", "192.0.2.77", outcome="success", auth_method=auth_method)
    found = classes([*guesses, login])
    assert ("brute_force", "root") in found
    assert (("success_after_failures", "root") in found) == told


def test_a_guess_that_hit_teaches_nothing() -> None:
    """The address of a suspicious success does not become known by it."""
    guesses = [attempt(i, "ana", "203.0.113.9") for i in range(8)]
    hits = [attempt(9 + i, "ana", "203.0.113.9", outcome="success") for i in range(2)]
    last = [a for a in run(FailedLogin(), numbered([*guesses, *hits])) if "success" in a.classification][-1]
    assert (last.event_count, last.severity) == (2, "critical")


def test_expired_tokens_and_logouts_are_no_guesses() -> None:
    """Only what proves identity counts."""
    events = [attempt(i, "ana", "192.0.2.1", action=action) for i in range(50) for action in ("logout",)]
    assert classes(events + [attempt(60 + i, "ana", None, action="token_refresh") for i in range(50)]) == []


@pytest.mark.parametrize(
    ("reason", "alerts"),
    [("service_unavailable", 0), ("internal_error", 0), ("timeout", 0), ("rate_limited", 1)],
)
def test_what_nobody_judged_is_no_guess(reason: str, alerts: int) -> None:
    """A service that fails says nothing of who tried; a limit on logins is met by whoever guesses."""
    assert len(classes([attempt(i, "ana", "203.0.113.9", reason=reason) for i in range(50)])) == alerts


def test_a_bucket_that_is_off_never_alarms() -> None:
    """With all sizes 0 nothing is raised, whatever happens."""
    off = FailedLoginParameters(
        burst_failures=0, minute_failures=0, hour_failures=0, strict_failures=0, new_users=0, network_users=0
    )
    events = numbered(attempt(i / 10, f"user-{i % 9}", "203.0.113.9") for i in range(300))
    assert run(FailedLogin(off), events) == []


def test_an_address_with_endless_names_keeps_its_memory_small() -> None:
    """Names that an attacker invents are told apart up to a bound, and the alert says so."""
    events = numbered(attempt(i / 10, f"user-{i}", "203.0.113.9") for i in range(5_000))
    last = run(FailedLogin(), events)[-1]
    assert "at least 256 different users" in last.summary
    assert last.classification == "password_spray"


def challenge(
    second: float, outcome: str = "failure", reason: str | None = "mfa_denied"
) -> dict[str, object]:
    """Return ana's answer when her second factor is asked for."""
    return attempt(second, "ana", "192.0.2.1", action="mfa", outcome=outcome, reason=reason)


def test_the_fifth_second_factor_denied_within_ten_minutes_is_fatigue() -> None:
    """Whoever asks knows the password already; slower than that people just mistap."""
    assert classes([challenge(140 * i) for i in range(5)]) == [("mfa_fatigue", "ana")]
    assert classes([challenge(160 * i) for i in range(5)]) == []


def test_a_second_factor_that_failed_for_no_given_reason_was_denied() -> None:
    """The reason is optional: whoever leaves it out is told of the attack all the same."""
    assert classes([challenge(60 * i, reason=None) for i in range(5)]) == [("mfa_fatigue", "ana")]


def test_a_wrong_code_is_a_guess_and_no_fatigue() -> None:
    """Five within ten minutes are a person's; a code a second is a script's, whatever user it names."""
    assert classes([challenge(100 * i, reason="bad_mfa_code") for i in range(5)]) == []
    codes = [challenge(i, reason="bad_mfa_code") for i in range(10)]
    assert classes(codes) == [("brute_force", "192.0.2.1")]


def test_the_approval_that_ends_the_fatigue_is_critical() -> None:
    """Even from an address that is known: pushes come from wherever the attacker is."""
    events = [
        challenge(0, "success"),
        *[challenge(3_600 + 60 * i) for i in range(6)],
        challenge(4_000, "success"),
    ]
    assert classes(events) == [("mfa_fatigue", "ana"), ("mfa_fatigue_success", "ana")]


def test_an_approval_an_hour_later_is_usual() -> None:
    """The bucket has leaked by then."""
    events = [
        challenge(0, "success"),
        *[challenge(3_600 + 60 * i) for i in range(6)],
        challenge(8_000, "success"),
    ]
    assert classes(events) == [("mfa_fatigue", "ana")]


def test_an_office_where_people_get_in_may_fail_more_often() -> None:
    """Behind one address a hundred people log in of a morning, and every fifth of them mistypes first."""
    morning = []
    for i in range(100):
        if i % 5 == 0:
            morning.append(attempt(6 * i, f"user-{i}", "192.0.2.1"))
        morning.append(attempt(6 * i + 3, f"user-{i}", "192.0.2.1", outcome="success"))
    assert classes(morning) == []


def test_a_spray_without_an_address_is_told_of_the_tenant() -> None:
    """Windows' 4776 has none, and everybody logged in without one before: nobody is new, just many."""
    known = [attempt(i, f"user-{i}", None, outcome="success") for i in range(60)]
    spray = [attempt(4_000 + i, f"user-{i}", None) for i in range(60)]
    assert classes([*known, *spray]) == [("password_spray", "tenant-a")]


def test_people_without_an_address_may_mistype_of_a_morning() -> None:
    """Where no log names an address a hundred people log in, and every fifth of them mistypes first."""
    morning = []
    for i in range(100):
        if i % 5 == 0:
            morning.append(attempt(6 * i, f"user-{i}", None))
        morning.append(attempt(6 * i + 3, f"user-{i}", None, outcome="success"))
    assert classes(morning) == []


def test_accounts_of_a_connection_are_nobody() -> None:
    """OpenSSH for Windows has one for each connection: a stranger who fails once, and logs in."""
    connections = [
        attempt(20 * i + j / 10, f"sshd_{4_000 + i}", None, outcome=outcome)
        for i in range(100)
        for j, outcome in enumerate(("failure", "success"))
    ]
    assert classes(connections) == []


def test_logging_in_again_and_again_hides_no_guesses() -> None:
    """A user's logins from an address count once an hour, so that none can be guessed under their cover."""
    events = []
    for i in range(60):
        events.append(attempt(20 * i, "mallory", "192.0.2.1", outcome="success"))
        events.append(attempt(20 * i + 10, f"user-{i}", "192.0.2.1"))
    assert classes(events) == [("password_spray", "192.0.2.1")]


@pytest.mark.parametrize(
    ("address", "network"),
    [("203.0.113.{}", "203.0.113.0/24"), ("2001:db8:0:7::{}", "2001:db8:0:7::/64")],
)
def test_a_network_of_strangers_is_named(address: str, network: str) -> None:
    """Every address tries one user, none of whom ever logged in from there."""
    known = [attempt(i, f"user-{i % 40}", "192.0.2.1", outcome="success") for i in range(4_000)]
    spray = [attempt(5_000 + 5 * i, f"user-{i}", address.format(i)) for i in range(12)]
    assert ("password_spray", network) in classes([*known, *spray])
