"""Words for people: durations, times of day, and names that were perhaps meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def duration_text(duration_ms: int) -> str:
    """Return a duration in its two largest units.

    >>> duration_text(130_000), duration_text(800), duration_text(90_061_000)
    ('2 min 10 s', 'under 1 s', '1 d 1 h')
    """
    seconds = duration_ms // 1000
    if not seconds:
        return "under 1 s"
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, seconds = divmod(seconds, length)
        if amount:
            parts.append(f"{amount} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def clock_text(time_ms: int) -> str:
    """Return the time of day.

    >>> clock_text(38_527_000)
    '10:42:07 UTC'
    """
    # By hand: every revision of an alert has one, and formatting a datetime takes three times as long.
    seconds = time_ms // 1000 % 86_400
    return f"{seconds // 3_600:02}:{seconds // 60 % 60:02}:{seconds % 60:02} UTC"


def plural(count: int, noun: str, ending: str = "s") -> str:
    """Return a count with its noun.

    >>> plural(1, "failed login"), plural(2_000, "failed login"), plural(2, "access", "es")
    ('1 failed login', '2,000 failed logins', '2 accesses')
    """
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def near(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was perhaps meant.

    >>> near("user", ["user_id", "source_ip"]), near("x", ["user_id"])
    ('user_id', None)
    """
    return next(iter(get_close_matches(name, [*known], n=1, cutoff=0.6)), None)


def advice(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of a name that is not known.

    >>> advice("user", ["user_id", "source_ip"])
    'did you mean `user_id`?'
    """
    names = [*known]
    meant = near(name, names)
    return f"did you mean `{meant}`?" if meant else f"known: {', '.join(names)}"
