"""Windows events as PowerShell makes them JSON: ``Get-WinEvent … | ConvertTo-Json``.

Their fields have no names there. They are known by their places, which Microsoft's security auditing
reference gives for each event, or by what the message calls them, if it is in English.
"""

import re
from typing import Final

from tenantwatch.importers.record import Record
from tenantwatch.importers.windows_events import AUTH

_SUBJECT: Final = "SubjectUserSid SubjectUserName SubjectDomainName SubjectLogonId"
_ACCOUNT: Final = f"TargetUserName TargetDomainName TargetSid {_SUBJECT}"
_MEMBER: Final = f"MemberName MemberSid {_ACCOUNT}"
_LOGOFF: Final = "TargetUserSid TargetUserName TargetDomainName TargetLogonId LogonType"
_PROCESS_AND_PEER: Final = "ProcessId ProcessName IpAddress IpPort"
# Newer versions of an event have more fields behind these.
_PLACES: Final = {
    1102: _SUBJECT,
    4624: f"{_SUBJECT} TargetUserSid TargetUserName TargetDomainName TargetLogonId LogonType "
    "LogonProcessName AuthenticationPackageName WorkstationName LogonGuid TransmittedServices LmPackageName "
    f"KeyLength {_PROCESS_AND_PEER}",
    4625: f"{_SUBJECT} TargetUserSid TargetUserName TargetDomainName Status FailureReason SubStatus "
    "LogonType LogonProcessName AuthenticationPackageName WorkstationName TransmittedServices LmPackageName "
    f"KeyLength {_PROCESS_AND_PEER}",
    4634: _LOGOFF,
    4647: _LOGOFF,
    4648: f"{_SUBJECT} LogonGuid TargetUserName TargetDomainName TargetLogonGuid TargetServerName TargetInfo "
    f"{_PROCESS_AND_PEER}",
    4672: f"{_SUBJECT} PrivilegeList",
    4768: "TargetUserName TargetDomainName TargetSid ServiceName ServiceSid TicketOptions Status "
    "TicketEncryptionType PreAuthType IpAddress IpPort",
    4769: "TargetUserName TargetDomainName ServiceName ServiceSid TicketOptions TicketEncryptionType "
    "IpAddress IpPort Status",
    4771: "TargetUserName TargetSid ServiceName TicketOptions Status PreAuthType IpAddress IpPort",
    4776: "PackageName TargetUserName Workstation Status",
    **dict.fromkeys((4720, 4722, 4723, 4724, 4725, 4726, 4740, 4767), _ACCOUNT),
    **dict.fromkeys((4728, 4729, 4732, 4733, 4756, 4757), _MEMBER),
}
PLACES: Final = {number: names.split() for number, names in _PLACES.items()}

# A heading, or an indented name with its value.
LABEL: Final = re.compile(r"^([ \t]*)([A-Z][A-Za-z ]{1,60}):[ \t]*(.*?)\r?$", re.ASCII | re.MULTILINE)
# What the message calls a field, to its name; under some headings it is another's.
NAMES: Final = {
    "Account Name": "TargetUserName",
    "Account Domain": "TargetDomainName",
    "Supplied Realm Name": "TargetDomainName",
    "Group Name": "TargetUserName",
    "Logon Account": "TargetUserName",
    "Logon ID": "TargetLogonId",
    "Logon Type": "LogonType",
    "Logon Process": "LogonProcessName",
    "Authentication Package": "AuthenticationPackageName",
    "Status": "Status",
    "Sub Status": "SubStatus",
    "Error Code": "Status",
    "Result Code": "Status",
    "Failure Code": "Status",
    "Workstation Name": "WorkstationName",
    "Source Workstation": "Workstation",
    "Source Network Address": "IpAddress",
    "Network Address": "IpAddress",
    "Client Address": "IpAddress",
    "Source Address": "IpAddress",
    "Service Name": "ServiceName",
    "Object Name": "ObjectName",
    "Object Type": "ObjectType",
    "Access Mask": "AccessMask",
    "Privileges": "PrivilegeList",
    "Share Name": "ShareName",
    "Relative Target Name": "RelativeTargetName",
    "Task Name": "TaskName",
}
UNDER: Final = {
    ("Subject", "Account Name"): "SubjectUserName",
    ("Subject", "Account Domain"): "SubjectDomainName",
    ("Subject", "Logon ID"): "SubjectLogonId",
    ("Member", "Account Name"): "MemberName",
}


def named_fields(record: Record, number: int) -> Record:
    """Return an event's fields by their names; an empty record if they cannot be told.

    >>> values = ["NTLM", "ana", "PC-1", 0]
    >>> record = Record({"Properties": [{"Value": value} for value in values]})
    >>> named_fields(record, 4776).text_of("TargetUserName")
    'ana'
    """
    names = PLACES.get(number)
    properties = record.nodes("Properties")
    if names and len(properties) > 1:
        return Record({name: _value(name, one) for name, one in zip(names, properties, strict=False)})
    return _of_message(record.text_of("Message") or "", number)


def _value(name: str, one: Record) -> object:
    """Return a value as the event's XML has it: there, these numbers are hexadecimal."""
    value = one.find("Value")
    if isinstance(value, int) and name.endswith(("LogonId", "Status")):
        return hex(value if value >= 0 else value + (1 << 32))
    # An account's identifier is an object.
    return one.text_of("Value", "Value.Value")


def _of_message(message: str, number: int) -> Record:
    heading = ""
    fields: dict[str, object] = {}
    for indent, label, value in LABEL.findall(message):
        if not indent and not value:
            heading = label
        elif name := UNDER.get((heading, label)) or NAMES.get(label):
            # The last counts: the address stands behind all that a client can choose.
            fields[name] = value
    if number in AUTH and "TargetUserName" not in fields and "SubjectUserName" in fields:
        # Of the end of a session, the message calls whose it was the subject.
        fields["TargetUserName"] = fields["SubjectUserName"]
    return Record(fields)
