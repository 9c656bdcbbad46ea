"""Windows' Security log, in JSON, turned into auth and access events.

Read as winlogbeat writes it (``winlog.event_data``, or only ECS), as converters of EVTX files do
(``Event.System``, ``Event.EventData``), flat (NXLog, Azure's SecurityEvent table), and PowerShell's.
"""

from datetime import UTC, tzinfo
from hashlib import blake2b
from typing import Final

from tenantwatch.importers.importer import Fields, Reading
from tenantwatch.importers.record import Record
from tenantwatch.importers.values import NotUnderstood, source_of, time_of
from tenantwatch.importers.windows_events import (
    ACCESS,
    ANONYMOUS_NAME,
    ANONYMOUS_SID,
    AUTH,
    KERBEROS_REASONS,
    LOGON_TYPES,
    MESSAGE_REASONS,
    PACKAGES,
    PRIVILEGE_NOT_HELD,
    PRIVILEGES,
    REASONS,
    Logon,
)
from tenantwatch.importers.windows_powershell import named_fields

# Where the fields of the event itself are, and those about it. The record is the last place to look.
DATA: Final = (
    "winlog.event_data",
    "Event.EventData",
    "event_data",
    "EventData",
    "Event.UserData.LogFileCleared",
)
# An event without any of these has lost its fields.
WHO: Final = (
    *("TargetUserName", "SubjectUserName", "TargetSid", "TargetAccount", "Account", "SubjectAccount"),
    *("AccountName", "IpAddress", "SourceAddress", "ClientAddress", "WorkstationName", "Workstation"),
)
SYSTEM: Final = ("winlog", "Event.System", "System")
CHANNELS: Final = frozenset({"security", "microsoft-windows-security-auditing", "microsoft-windows-eventlog"})
# The bit of an event's keywords that is set when what it tells of was refused (winmeta.xml).
AUDIT_FAILURE: Final = 1 << 52
# A failure that only asks for the password; the attempt that follows has an event of its own.
PREAUTH_REQUIRED: Final = "preauth_required"


def read(record: Record, zone: tzinfo = UTC) -> Reading:
    """Read one event.

    Parameters
    ----------
    record
        The event.
    zone
        Of a time that names none, as NXLog's ``EventTime``.

    Raises
    ------
    NotUnderstood
        If it has no event id or no time, or neither an account nor an address.

    >>> event = read(Record({
    ...     "EventID": 4625, "@timestamp": "2026-01-05T08:00:00Z", "Channel": "Security", "LogonType": 3,
    ...     "TargetUserName": "ana", "IpAddress": "192.0.2.1",
    ...     "Status": "0xc000006d", "SubStatus": "0xc0000064",
    ... }))
    >>> event["action"], event["user_id"], event["outcome"], event["reason"]
    ('login', 'ana', 'failure', 'unknown_user')
    """
    system = _system(record)
    number = _event_id(record, system)
    channel = system.text_of("channel", "Provider.Name", "provider_name") or record.text_of(
        "Channel", "log_name", "SourceName", "LogName"
    )
    if channel is not None and channel.lower() not in CHANNELS:
        return "other_channel"
    if number not in AUTH and number not in ACCESS:
        return "other_event_id"
    data = _data(record, number)
    told = _common(record, system, data, number, zone)
    is_failure = _is_audited_failure(record, system)
    if number in ACCESS:
        fields = _access(told, data, number, is_failure=is_failure)
    else:
        fields = _auth(told, data, AUTH[number], is_failure=is_failure)
    domain, fields["user_id"] = _account(fields["user_id"] or record.text_of("user.name"))
    if domain and not fields["attributes"].get("domain"):
        fields["attributes"]["domain"] = domain
    named = fields["user_id"] or fields["source_ip"] or any(data.find(name) is not None for name in WHO)
    if not named:
        raise NotUnderstood("neither an account nor an address: export the event with its EventData")
    return fields


def written_at(record: Record, zone: tzinfo) -> str:
    """Return the time of a record, whatever else it says.

    Raises
    ------
    NotUnderstood
        If it has none.
    """
    at = _system(record).first(
        "TimeCreated.#attributes.SystemTime", "TimeCreated.@SystemTime", "TimeCreated.SystemTime"
    )
    at = at or record.first("@timestamp", "TimeCreated", "TimeGenerated", "EventTime", "UtcTime")
    return time_of(at, "TimeCreated, @timestamp or EventTime", zone)


def _system(record: Record) -> Record:
    return next((node for name in SYSTEM if (node := record.node(name))), record)


def _event_id(record: Record, system: Record) -> int:
    number = system.text_of("EventID", "EventID.#text", "EventID.Value", "event_id")
    number = number or record.text_of("EventID", "EventId", "event.code", "event_id", "Id")
    if number is None or not number.isdecimal() or len(number) > 5:
        raise NotUnderstood("EventID is missing: is it an event of Windows?")
    return int(number)


def _data(record: Record, number: int) -> Record:
    for name in DATA:
        if node := record.node(name):
            named = {
                key: item.find("#text") if item.find("#text") is not None else item.find("Value")
                for item in node.nodes("Data")
                if (key := item.text_of("@Name", "#attributes.Name", "Name"))
            }
            return Record(named) if named else node
    if any(record.find(name) is not None for name in WHO):
        return record
    return named_fields(record, number) or record


def _auth(fields: Fields, data: Record, logon: Logon, *, is_failure: bool) -> Fields:
    kerberos = logon.auth_method == "kerberos"
    status, reason = _reason(data, kerberos=kerberos)
    failed = logon.outcome == "failure" or (logon.outcome is None and (reason is not None or is_failure))
    action = logon.action
    if failed and reason == PREAUTH_REQUIRED:
        action = "login_interrupted"
    elif action == "login" and not failed and _is_anonymous(data):
        action = "anonymous_login"
    logon_type = data.text_of("LogonType")
    fields["attributes"] |= {
        "domain": _present(data.text_of("TargetDomainName", "TargetDomain")),
        "logon_type": LOGON_TYPES.get(int(logon_type))
        if logon_type and logon_type.isdecimal()
        else logon_type,
        "status": status if failed else None,
        "logon_process": _present((data.text_of("LogonProcessName") or "").strip()),
        "service_name": _present(data.text_of("ServiceName")),
    }
    return fields | {
        "kind": "auth",
        "action": action,
        "auth_method": logon.auth_method or _method(data, action),
        "user_id": _user(data, logon.user),
        "session_id": _present(data.text_of("TargetLogonId", "SubjectLogonId", "LogonID")),
        "outcome": "failure" if failed else "success",
        "reason": (logon.reason or reason or "refused") if failed else None,
    }


def _is_anonymous(data: Record) -> bool:
    """Return whether a login proved nothing of nobody. What failed is a guess, whatever name was given."""
    sid = _present(data.text_of("TargetUserSid"))
    name = _present(data.text_of("TargetUserName", "TargetAccount", "Account")) or ""
    return sid == ANONYMOUS_SID or (sid is None and name.rpartition("\\")[2].lower() == ANONYMOUS_NAME)


def _access(fields: Fields, data: Record, number: int, *, is_failure: bool) -> Fields:
    action, resource_type = ACCESS[number]
    fields["attributes"] |= {
        "member": _present(data.text_of("MemberName")) or _present(data.text_of("MemberSid")),
        "access_mask": _present(data.text_of("AccessMask")),
        "process": _present(data.text_of("ProcessName")),
    }
    named = data.text_of("ObjectName", "ShareName", "TaskName", "ServiceName", "TargetUserName", "ObjectDN")
    if number == 5145:
        named = "\\".join(
            part for name in ("ShareName", "RelativeTargetName") if (part := data.text_of(name))
        )
    refused = PRIVILEGE_NOT_HELD if number in PRIVILEGES else "missing_permission"
    return fields | {
        "kind": "access",
        "action": action,
        "permission": _privileges(data) if number in PRIVILEGES else None,
        "resource_type": (_present(data.text_of("ObjectType")) or resource_type).lower(),
        "resource_id": _present(named),
        "user_id": _user(data, "SubjectUserName"),
        "session_id": _present(data.text_of("SubjectLogonId")),
        "outcome": "failure" if is_failure else "success",
        "reason": refused if is_failure else None,
    }


def _privileges(data: Record) -> str | None:
    """Return the privileges an event names, which Windows writes one a line and some shippers as a list."""
    told = data.find("PrivilegeList")
    text = " ".join(map(str, told)) if isinstance(told, list) else data.text_of("PrivilegeList")
    return _present(" ".join((text or "").split()))


def _is_audited_failure(record: Record, system: Record) -> bool:
    """Return whether the log itself calls the event a failure; as words, or as the bits of its keywords."""
    keywords = _number(system.text_of("Keywords") or record.text_of("Keywords"))
    if keywords is not None:
        return bool(keywords & AUDIT_FAILURE)
    words = [
        system.find("keywords"),
        *(record.find(name) for name in ("Keywords", "EventType", "event.outcome")),
    ]
    return any("failure" in str(word).lower() for word in words)


def _reason(data: Record, *, kerberos: bool) -> tuple[str | None, str | None]:
    """Return the status that says most, and the reason that it is; none if it says success."""
    known = KERBEROS_REASONS if kerberos else REASONS
    for name in ("SubStatus", "Status", "FailureCode", "ErrorCode"):
        text = data.text_of(name)
        number = _number(text)
        if text is not None and number:
            number &= 0xFFFFFFFF  # some converters write it as what it is in C: a signed number
            return text, known.get(number) or REASONS.get(number) or f"status_{number:#x}"
    told = data.text_of("FailureReason") or ""
    return (told, MESSAGE_REASONS[told]) if told in MESSAGE_REASONS else (None, None)


def _number(text: str | None) -> int | None:
    try:
        return int(text or "", 0)
    except ValueError:
        return None


def _method(data: Record, action: str) -> str | None:
    if action != "login":
        return None
    package = (data.text_of("AuthenticationPackageName", "AuthenticationPackage") or "").strip().lower()
    return PACKAGES.get(package, "password")


def _user(data: Record, name: str) -> str | None:
    user = _present(data.text_of(name)) or _present(
        data.text_of("TargetAccount", "Account", "SubjectAccount")
    )
    return user or (
        _present(data.text_of("TargetUserName", "TargetSid")) if name != "TargetUserName" else None
    )


def _account(name: str | None) -> tuple[str, str | None]:
    r"""Return domain and account of a name, in small letters: to Windows ``CORP\ANA`` and ``ana`` are one.

    ``ana@corp.example`` stays what it is: what stands before the @ may be another name than the account's.
    """
    if name is None:
        return "", None
    domain, _, account = name.rpartition("\\")
    return (domain, account.lower()) if account else ("", name.lower())


def _common(record: Record, system: Record, data: Record, number: int, zone: tzinfo) -> Fields:
    source_ip, source_attributes = source_of(
        _present(data.text_of("IpAddress", "SourceAddress", "ClientAddress"))
        or record.text_of("source.ip")
        or ""
    )
    computer = system.text_of("computer_name", "Computer") or record.text_of(
        "Computer", "computer_name", "Hostname", "MachineName", "host.name"
    )
    time = written_at(record, zone)
    row = system.text_of("record_id", "EventRecordID") or record.text_of(
        "EventRecordID", "RecordNumber", "record_number", "RecordId"
    )
    return {
        # A record's number is unique in one log of one computer, until somebody clears it.
        "event_id": _digest(f"{computer}\0{row}\0{number}\0{time}") if row else None,
        "time": time,
        "source_ip": source_ip,
        "attributes": {
            "windows_event_id": number,
            "computer": computer,
            "workstation": _present(data.text_of("WorkstationName", "Workstation")),
            **source_attributes,
        },
    }


def _digest(text: str) -> str:
    return blake2b(text.encode(errors="replace"), digest_size=16).hexdigest()


def _present(text: str | None) -> str | None:
    """Return a value unless it is how Windows writes none."""
    return None if text in (None, "", "-", "NULL SID", "S-1-0-0", "0x0") else text
