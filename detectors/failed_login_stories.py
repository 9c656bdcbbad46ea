"""What failed logins look like: the names of attacks (docs/detection.md, models), in sentences."""

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from detectors.episode import Episode, Story
from detectors.tally import Tally
from detectors.wording import clock_text, duration_text, plural
from schemas.alert import Entity, Severity

# An address with so few users is after them, whatever else the shares say.
BRUTE_FORCE_USERS: Final = 2
# More tries than this for each user is guessing passwords, not spraying one.
SPRAY_TRIES: Final = 5
# One try for almost every user, and most of them unknown here: a list stolen elsewhere. The users of a
# spray at one company are known for the most part; a recorded one had 7 of 8 unknown at first.
STUFFING_TRIED_ONCE: Final = 0.8
STUFFING_UNKNOWN: Final = 0.9
# Of fewer users nine in ten would be all of them, and two passers-by would be a stolen list.
STUFFING_USERS: Final = 10
# So many accounts are named in the sentence; the evidence names all.
NAMED_ACCOUNTS: Final = 5
# From here on somebody should look now, not today.
HIGH_COUNT: Final = 64

ATTACK: Final = {
    "brute_force": ("T1110.001",),
    "password_spray": ("T1110.003",),
    "credential_stuffing": ("T1110.004",),
    "user_enumeration": ("T1589", "T1110"),
    "distributed_guessing": ("T1110.001", "T1110.003"),
}
RUNBOOK: Final = {
    "brute_force": (
        "Block or slow down the source. Check whether one of the users logged in afterwards; if so, revoke "
        "the sessions and reset the password."
    ),
    "password_spray": (
        "Block the address. List the users it tried and look for a success among them; reset those passwords "
        "and require a second factor."
    ),
    "credential_stuffing": (
        "Block the addresses and look for successes from them: those users use a password that leaked "
        "elsewhere. Reset these and require a second factor."
    ),
    "user_enumeration": (
        "Block the address, and let the login answer the same for unknown users and wrong passwords."
    ),
    "distributed_guessing": (
        "No single address is to blame: ask for a second factor or a captcha at the login while it lasts, "
        "and look at the users who got in from new addresses since it began."
    ),
}


def classify(users: int, unknown: int, attempts: int) -> str:
    """Return the name of an attack by one address.

    Parameters
    ----------
    users
        Different users tried.
    unknown
        Those of them that do not exist.
    attempts
        Failures.

    >>> classify(1, 0, 40), classify(9, 7, 9), classify(40, 37, 42), classify(40, 40, 40), classify(3, 0, 90)
    ('brute_force', 'password_spray', 'credential_stuffing', 'user_enumeration', 'brute_force')
    """
    if users <= BRUTE_FORCE_USERS or attempts > SPRAY_TRIES * users:
        return "brute_force"
    if unknown == users:
        return "user_enumeration"
    return "credential_stuffing" if is_stuffing(users, unknown, attempts) else "password_spray"


def is_stuffing(users: int, unknown: int, attempts: int) -> bool:
    """Whether failures are those of a list of names and passwords; parameters as for `classify`.

    >>> is_stuffing(20, 19, 20), is_stuffing(2, 2, 2)
    (True, False)
    """
    tried_once = users >= STUFFING_USERS and users > STUFFING_TRIED_ONCE * attempts
    return tried_once and unknown >= STUFFING_UNKNOWN * users


class AddressTeller:
    """Names what one address does, several of one network, or many users' failures without an address.

    Parameters
    ----------
    rule
        Which of the three.
    """

    detector = "failed_login"
    facts = Tally

    def __init__(self, rule: str = "address") -> None:
        self.rule = rule

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        tally: Tally = episode.facts
        users, unknown = len(tally.values), len(tally.marked)
        classification = classify(users, unknown, tally.events)
        if users == 1:
            whom = f"all of {next(iter(tally.values))}"
        else:
            whom = f"{tally.count_text()} different users" if users else "no user named"
        numbers: dict[str, float | int | str] = {
            "failures": episode.count,
            "users": users,
            "unknown_users": unknown,
        }
        severity: Severity = "high" if episode.count >= HIGH_COUNT or users >= HIGH_COUNT else "medium"
        where = "without an address" if episode.key[1] == "tenant_id" else f"from {episode.key[2]}"
        return Story(
            classification,
            severity,
            f"{_failures(episode)} {where}{_span(episode)}, {whom}; {_last(episode)}",
            numbers,
            ATTACK[classification],
            RUNBOOK[classification],
        )


class UserTeller:
    """Names what is done to one user, by several addresses or by one that is not known."""

    detector = "failed_login"
    rule = "user"
    facts = Tally

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        tally: Tally = episode.facts
        addresses = len(tally.values)
        where = f", from {tally.count_text()} address{'es' if addresses > 1 else ''}" if addresses else ""
        return Story(
            "brute_force",
            "high" if episode.count >= HIGH_COUNT else "medium",
            f"{_failures(episode)} of {episode.key[2]}{_span(episode)}{where}; {_last(episode)}",
            {"failures": episode.count, "addresses": addresses},
            ATTACK["brute_force"],
            RUNBOOK["brute_force"],
        )


@dataclass
class GuessingFacts:
    """What an episode of guessing is told by.

    Parameters
    ----------
    users, addresses
        Those tried, with those that do not exist marked; and from where.
    expected, window_s
        How many failures were expected when the alarm was raised, and in which time.
    """

    users: Tally = field(default_factory=Tally)
    addresses: Tally = field(default_factory=Tally)
    expected: float = 0.0
    window_s: int = 0


class GuessingTeller:
    """Names what is done to a whole tenant, from many addresses."""

    detector = "failed_login"
    rule = "guessing"
    facts = GuessingFacts

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        facts: GuessingFacts = episode.facts
        tally, addresses = facts.users, facts.addresses
        users, unknown = len(tally.values), len(tally.marked)
        stuffing = is_stuffing(users, unknown, tally.events)
        classification = "credential_stuffing" if stuffing else "distributed_guessing"
        whom = (
            f" of {tally.count_text()} users"
            if users > 1
            else "".join(f" of {user}" for user in tally.values)
        )
        where = f"from {addresses.count_text()} addresses" if addresses.values else "without an address"
        return Story(
            classification,
            "high" if episode.count >= HIGH_COUNT else "medium",
            f"{_failures(episode)}{whom} {where}{_span(episode)}, each from where that user had never logged "
            f"in; {_last(episode)}",
            {
                "failures": episode.count,
                "addresses": len(facts.addresses.values),
                "users": users,
                "unknown_users": unknown,
                "expected": facts.expected,
                "window_s": facts.window_s,
            },
            ATTACK[classification],
            RUNBOOK[classification],
        )


class SuccessTeller:
    """Names a success that follows guessing."""

    detector = "failed_login"
    rule = "success_after_failures"
    # Where the login came from.
    facts: Any = str | None

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        where = f" from {episode.facts}" if episode.facts else ""
        again = f", {episode.count} times" if episode.count > 1 else ""
        return Story(
            "success_after_failures",
            "critical",
            f"{episode.key[2]} logged in{where}{again} in the middle of failed logins, and never had from "
            f"there before; {_last(episode)}",
            {"successes": episode.count},
            ("T1110", "T1078"),
            "Treat the account as taken until its owner confirms the login: revoke its sessions and tokens, "
            "reset the password, and read what it did since.",
        )


@dataclass
class TakenFacts:
    """Which accounts somebody got into in the middle of guessing at their tenant.

    Parameters
    ----------
    logins
        User to how many times, in order of the first.
    addresses
        From where.
    """

    logins: dict[str, int] = field(default_factory=dict)
    addresses: Tally = field(default_factory=Tally)

    def add(self, user_id: str, source_ip: str | None) -> None:
        """Count a login."""
        self.logins[user_id] = self.logins.get(user_id, 0) + 1
        self.addresses.add([source_ip], [False])


class TakenTeller:
    """Names successes in the middle of guessing at the whole tenant, the accounts one by one."""

    detector = "failed_login"
    rule = "success_after_guessing"
    facts = TakenFacts

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        facts: TakenFacts = episode.facts
        users, addresses = list(facts.logins), facts.addresses
        tenant_id = episode.key[0]
        more = f" and {len(users) - NAMED_ACCOUNTS} more" if len(users) > NAMED_ACCOUNTS else ""
        who = ", ".join(users[:NAMED_ACCOUNTS]) + more
        where = f" from {addresses.count_text()} address{'es' if len(addresses.values) > 1 else ''}"
        return Story(
            "success_after_failures",
            "critical",
            f"{who} logged in{where if addresses.values else ''} in the middle of guessing at {tenant_id}, "
            f"and never had from there before; {_last(episode)}",
            {
                "successes": episode.count,
                "users": len(users),
                "user_ids": ", ".join(users),
                "addresses": len(addresses.values),
            },
            ("T1110", "T1078"),
            "Treat each account of user_ids as taken until its owner confirms the login: revoke its sessions "
            "and tokens, reset the password, and read what it did since.",
            entity=Entity(type="tenant_id", value=tenant_id),
        )


class ChallengeTeller:
    """Names a user who is asked to approve logins that are not theirs."""

    detector = "failed_login"
    rule = "challenge"
    facts = Tally

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        tally: Tally = episode.facts
        return Story(
            "mfa_fatigue",
            "high",
            f"{episode.key[2]} did not approve {plural(episode.count, 'second factor')}{_span(episode)}; "
            f"{_last(episode)}",
            {"denied": episode.count, "addresses": len(tally.values)},
            ("T1621",),
            "Somebody knows the password: reset it now, and tell the user to approve nothing. Require a "
            "number match instead of a tap.",
        )


class ApprovalTeller:
    """Names a login that a user who had denied so many approved in the end."""

    detector = "failed_login"
    rule = "approval"
    # Where the login came from.
    facts: Any = str | None

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        where = f" from {episode.facts}" if episode.facts else ""
        return Story(
            "mfa_fatigue_success",
            "critical",
            f"{episode.key[2]} logged in{where} after not approving one second factor after the other; "
            f"{_last(episode)}",
            {"successes": episode.count},
            ("T1621", "T1078"),
            "Treat the account as taken until its owner confirms the login in person: revoke its sessions "
            "and tokens, reset the password, and read what it did since.",
        )


class Journey(NamedTuple):
    """From one login to the next.

    Parameters
    ----------
    source_ip
        Where the next one came from.
    distance_km, apart_s, speed_kmh
        How far and how long after the one before that was, and how fast one would have had to travel.
    most_kmh
        How fast people do.
    """

    source_ip: str
    distance_km: int
    apart_s: int
    speed_kmh: int
    most_kmh: int


class JourneyTeller:
    """Names logins too far apart for one person."""

    detector = "failed_login"
    rule = "travel"
    facts: Any = Journey | None

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        journey = Journey(*episode.facts)
        again = f", {episode.count} times" if episode.count > 1 else ""
        apart = duration_text(1000 * journey.apart_s)
        return Story(
            "impossible_travel",
            "high",
            f"{episode.key[2]} logged in from {journey.source_ip}{again}, {journey.distance_km:,} km from "
            f"the login {apart} before, on a network and a device not known to be theirs; {_last(episode)}",
            {
                "successes": episode.count,
                "distance_km": journey.distance_km,
                "apart_s": journey.apart_s,
                "speed_kmh": journey.speed_kmh,
            },
            ("T1078",),
            "Ask the user whether both logins are theirs. If not, revoke the sessions and tokens, reset the "
            "password, and read what the account did since; if a new proxy or provider explains it, there is "
            "nothing to do.",
        )


def _failures(episode: Episode) -> str:
    return plural(episode.count, "failed login")


def _span(episode: Episode) -> str:
    return f" in {duration_text(episode.last_ms - episode.first_ms)}"


def _last(episode: Episode) -> str:
    return f"last at {clock_text(episode.last_ms)}"
