"""Windows' Security log: what was done, and with what right."""

from typing import Any

import pytest

from tenantwatch.importers.windows import read
from tests.importing import only, picked, run_records


def record(number: int, **data: Any) -> dict[str, Any]:
    """Return an event."""
    return {"EventID": number, "@timestamp": "2026-01-05T08:00:00Z", "Channel": "Security"} | data


@pytest.mark.parametrize(
    ("number", "action", "resource_type"),
    [
        (4720, "create", "user"),
        (4726, "delete", "user"),
        (4732, "grant", "group"),
        (4733, "revoke", "group"),
        (1102, "delete", "audit_log"),
        (4698, "create", "scheduled_task"),
    ],
)
def test_changes_are_accesses_of_the_subject(number: int, action: str, resource_type: str) -> None:
    """The target is what was changed."""
    event = only(run_records(read, record(number, SubjectUserName="admin", TargetUserName="ana")))
    assert picked(event, "kind", "action", "user_id", "resource_type", "resource_id") == (
        "access",
        action,
        "admin",
        resource_type,
        "ana",
    )


@pytest.mark.parametrize(
    ("told", "permission"),
    [
        ("SeTcbPrivilege", "SeTcbPrivilege"),
        ("SeBackupPrivilege\r\n\t\t\tSeRestorePrivilege", "SeBackupPrivilege SeRestorePrivilege"),
        (["SeBackupPrivilege", "SeRestorePrivilege"], "SeBackupPrivilege SeRestorePrivilege"),
        ("-", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("number", [4673, 4674])
def test_a_privilege_that_a_program_lacks_is_no_denial_of_its_user(
    number: int, told: Any, permission: str | None
) -> None:
    """Browsers try one several times a second; which it was is kept."""
    used = record(number, SubjectUserName="ana", PrivilegeList=told, Keywords="Audit Failure")
    assert picked(only(run_records(read, used)), "action", "permission", "outcome", "reason") == (
        "use_privilege",
        permission,
        "failure",
        "privilege_not_held",
    )
