"""What sshd says: one message in, a login attempt or the kind of a message that is none out.

Messages end in what sshd wrote and begin with what the client chose, so they are parsed from the right: a
user called ``root from 192.0.2.1 port 22 ssh2`` must not choose the address that is blamed.
"""

import re
from enum import Enum, auto
from typing import Final, Literal, NamedTuple


class Teller(Enum):
    """Which part of the login stack wrote a line; the same attempt may be told by several."""

    DAEMON = auto()
    """``Failed`` and ``Accepted``: sshd's own account, with method and port."""
    CONVERSATION = auto()
    """``error: PAM: …``: sshd about a refused keyboard-interactive conversation."""
    ANNOUNCEMENT = auto()
    """``Invalid user``: sshd about a name that it does not know, before the attempt is over."""
    END = auto()
    """``Connection closed by authenticating user``: sshd about a connection that ended without a login."""
    MODULE = auto()
    """``sshd(pam_unix)[pid]: …``: pam_unix under the name that Linux-PAM used until about 2005."""


class Attempt(NamedTuple):
    """A login attempt as one message tells it; `times` is how many it stands for."""

    teller: Teller
    outcome: Literal["success", "failure"]
    user: str
    source: str
    reason: str | None
    auth_method: str | None
    port: int | None = None
    credential: str | None = None
    times: int = 1


class Method(NamedTuple):
    """The contract's word for one of sshd's methods, and the reason when it fails."""

    auth_method: str
    reason: str


KEY_REFUSED: Final = "key_refused"
NO_CREDENTIALS: Final = "no_credentials"
# What a client tries by itself, before anything that somebody has to know: no guess, whoever it is for.
NO_GUESS: Final = frozenset({KEY_REFUSED, NO_CREDENTIALS})
METHODS: Final = {
    "password": Method("password", "bad_password"),
    # How clients ask which methods there are (RFC 4252, 5.2); it would let in a user with an empty password.
    "none": Method("none", NO_CREDENTIALS),
    # A failed key is an event like any other, because the trail is to be whole and scanners do offer keys.
    # But it is no guess: an agent offers one key after the other until one fits, and each refusal is
    # logged at LogLevel VERBOSE. The reason of its own lets readers and detectors leave those out.
    "publickey": Method("publickey", KEY_REFUSED),
    "rsa": Method("publickey", KEY_REFUSED),
    "hostbased": Method("hostbased", KEY_REFUSED),
    # What was asked for need not have been a password: one-time codes come this way too.
    "keyboard-interactive": Method("keyboard_interactive", "bad_response"),
    "challenge-response": Method("keyboard_interactive", "bad_response"),
    "gssapi-with-mic": Method("kerberos", "ticket_refused"),
    "gssapi-keyex": Method("kerberos", "ticket_refused"),
    "gssapi": Method("kerberos", "ticket_refused"),
    "kerberos": Method("kerberos", "ticket_refused"),
    "pam": Method("password", "bad_password"),
}
# Not the client's own word: `auth_method` is a vocabulary, and a client could flood it.
OTHER_METHOD: Final = Method("other", "refused")

MODULE_PROGRAM: Final = re.compile(r"sshd\(pam_\w+\)", re.ASCII)
PROGRAMS: Final = frozenset({"sshd", "sshd-session", "sshd-auth"})

_FLAGS: Final = re.ASCII | re.DOTALL
_USER: Final = r"(?P<invalid>(?:invalid|illegal) user )?(?P<user>.*)"
# Port, protocol and key are there in all but the oldest logs. Where they are missing the rightmost address
# is taken, but only after the whole form was tried: that one can not be forged into the short one.
ATTEMPT: Final = re.compile(
    rf"(?P<verdict>Failed|Accepted) (?P<method>\S+) for {_USER} from (?P<source>\S+) port (?P<port>\d{{1,5}})"
    r"(?: ssh\d?)?(?:: (?P<credential>.*))?",
    _FLAGS,
)
SHORT_ATTEMPT: Final = re.compile(
    rf"(?P<verdict>Failed|Accepted) (?P<method>\S+) for {_USER} from (?P<source>\S+)", _FLAGS
)
# PAM_MAXTRIES is spelt "Have exhausted maximum number of retries for service".
PAM_REFUSAL: Final = re.compile(
    rf"error: PAM: (?P<text>.+?(?: for service)?) for {_USER} from (?P<source>\S+)(?: via \S+)?", _FLAGS
)
ANNOUNCEMENT: Final = re.compile(
    r"(?:Invalid|Illegal) user (?P<user>.*) from (?P<source>\S+)(?: port (?P<port>\d{1,5}))?", _FLAGS
)
# Nothing but this one remark may follow, because others repeat what the client said.
END: Final = re.compile(
    r"(?:Connection (?:closed|reset) by|Disconnected from|Disconnecting)"
    r" (?P<status>invalid|authenticating) user (?P<user>.*) (?P<source>\S+) port (?P<port>\d{1,5})"
    r"(?:: Too many authentication failures)?",
    _FLAGS,
)
MODULE_FAILURE: Final = re.compile(
    r"(?:(?P<more>[1-9]\d{0,4}) more )?authentication failures?;"
    r".*? rhost=(?P<source>\S*)(?:\s+user=(?P<user>.*))?",
    _FLAGS,
)
MODULE_SESSION: Final = re.compile(
    r"session opened for user (?P<user>.*?)(?:\(uid=\d+\))? by \S*\(uid=\d+\)", _FLAGS
)

# Messages about the same attempts, about attempts that were not finished, or about no attempt at all.
# The first kind that matches the beginning of the message is its kind.
KINDS: Final = {
    "invalid_user": r"input_userauth_request: (?:invalid|illegal) user",
    "pam": r"pam_\w+|PAM ",
    "too_many_failures": (
        r"(?:error: )?(?:maximum authentication attempts exceeded|Too many authentication failures)"
        r"|Disconnecting\b.*Too many authentication failures"
    ),
    "not_finished": r"Postponed |Partial ",
    "disconnected": (
        r"(?:error: |fatal: )?(?:Received disconnect from |Disconnect(?:ed|ing)\b"
        r"|Connection (?:closed|reset)\b|Read from socket failed|Read error from |Write failed"
        r"|Timeout before authentication|Timeout, )"
        r"|Close session: |Closing connection to |Transferred: "
    ),
    "connected": (
        r"Connection from |SSH: Server;|refused connect from |(?:error: |debug1: )?"
        r"(?:drop connection |beginning MaxStartups|exited MaxStartups|\S*srclimit|penalty: )"
    ),
    "name_lookup": (
        r"reverse mapping checking |Address .* maps to |Nasty PTR record |warning: .*, line \d+: can't "
    ),
    "not_ssh": (
        r"(?:error: |fatal: )?(?:Did not receive identification|Bad protocol version|banner exchange: "
        r"|kex_\w+: |Unable to negotiate|no matching |ssh_dispatch_run_fatal: |Protocol major versions differ"
        r"|Bad packet length|Bad remote protocol version|Corrupted MAC|Corrupted padding|ssh_packet_\w+: )"
        r"|scanned from |probed from |Client protocol "
    ),
    "user_refused": (
        r"User .* not allowed because |User .* password has expired|Account .* has expired"
        r"|ROOT LOGIN REFUSED|Root login accepted for forced command|Login restricted|Authentication refused"
    ),
    "key": (
        r"Accepted (?:key|certificate) |Found matching |userauth_\w+: |Certificate |Authentication key "
        r"|(?:error: )?AuthorizedKeys|Could not open |Authentication tried for |Authorized to "
        r"|Bad options in "
    ),
    "session": (
        r"Starting session: |User child is on pid |subsystem request |Changed root directory "
        r"|session (?:opened|closed) |Child connection |Set /proc/|lastlog_|Attempt to write login "
        r"|Could not (?:chdir|get shadow)|Setting tty "
    ),
    "daemon": (
        r"Server listening |Received (?:signal|SIGHUP)|Exiting on signal|Restarting |rexec |Generating "
        r"|RSA1 |Missing privilege separation|(?:\S+: )?line \d+: Deprecated|Deprecated |Reload(?:ed|ing) "
        r"|Starting |(?: ?sshd)? ?(?:startup |shutdown |-HUP )?(?:succeeded|failed)"
    ),
    "error": r"(?:error|fatal|warning|WARNING): ",
    "debug": r"debug\d?: ",
}
KIND: Final = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in KINDS.items()), _FLAGS)


def read_message(program: str, message: str) -> Attempt | str | None:
    """Read one message of sshd's.

    Parameters
    ----------
    program
        The program's name in the log: one of `PROGRAMS`, or a `MODULE_PROGRAM`.
    message
        What follows the name, without ``[preauth]`` and trailing blanks.

    Returns
    -------
    Attempt, str or None
        The attempt it tells of, or the kind of a message that tells of none, or None if it is unknown.

    Examples
    --------
    >>> read_message("sshd", "Failed password for invalid user bob from 192.0.2.1 port 4242 ssh2").reason
    'unknown_user'
    >>> read_message("sshd", "Connection closed by 192.0.2.1")
    'disconnected'
    """
    if program not in PROGRAMS:
        return _module_attempt(message) or "pam"
    if message.startswith(("Failed ", "Accepted ")):
        match = ATTEMPT.fullmatch(message) or SHORT_ATTEMPT.fullmatch(message)
        if match is not None:
            return _daemon_attempt(*match.groups())
    if message.startswith("error: PAM: ") and (match := PAM_REFUSAL.fullmatch(message)):
        return _conversation_attempt(match)
    if match := ANNOUNCEMENT.fullmatch(message):
        return _keyless_attempt(Teller.ANNOUNCEMENT, "unknown_user", match)
    if match := END.fullmatch(message):
        reason = "unknown_user" if match["status"] == "invalid" else "refused"
        return _keyless_attempt(Teller.END, reason, match)
    match = KIND.match(message)
    return match and match.lastgroup


def _daemon_attempt(
    verdict: str,
    word: str,
    invalid: str | None,
    user: str,
    source: str,
    port: str | None = None,
    credential: str | None = None,
) -> Attempt:
    # "keyboard-interactive/pam" names the device after the method.
    method = METHODS.get(word) or METHODS.get(word.partition("/")[0], OTHER_METHOD)
    failed = verdict == "Failed"
    # Of an unknown user's, too: else five keys of an agent would be five guesses of a name.
    reason = "unknown_user" if invalid and method.reason not in NO_GUESS else method.reason
    return Attempt(
        Teller.DAEMON,
        "failure" if failed else "success",
        user,
        source,
        reason if failed else None,
        method.auth_method,
        int(port) if port else None,
        credential or None,
    )


def _conversation_attempt(match: re.Match[str]) -> Attempt:
    unknown = match["invalid"] or match["text"].startswith("User not known")
    method = METHODS["keyboard-interactive"]
    return Attempt(
        teller=Teller.CONVERSATION,
        outcome="failure",
        user=match["user"],
        source=match["source"],
        reason="unknown_user" if unknown else method.reason,
        auth_method=method.auth_method,
    )


def _keyless_attempt(teller: Teller, reason: str, match: re.Match[str]) -> Attempt:
    """Return an attempt that no method is told of: where only keys are taken, sshd may write no more."""
    port = match["port"]
    return Attempt(
        teller, "failure", match["user"], match["source"], reason, None, int(port) if port else None
    )


def _module_attempt(message: str) -> Attempt | None:
    if match := MODULE_FAILURE.fullmatch(message):
        # pam_unix leaves out names it does not know: people type their password there.
        user = match["user"] or ""
        return Attempt(
            teller=Teller.MODULE,
            outcome="failure",
            user=user,
            source=match["source"],
            reason="bad_password" if user else "unknown_user",
            auth_method="password",
            # It writes a connection's first failure at once and the number of further ones at its end.
            times=int(match["more"] or 1),
        )
    if match := MODULE_SESSION.fullmatch(message):
        # The only trace of a success; it says neither from where nor how.
        return Attempt(Teller.MODULE, "success", match["user"], "", reason=None, auth_method=None)
    return None
