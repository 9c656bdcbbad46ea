"""docs/api.md says what the code does."""

import re

import pytest
from conftest import REPOSITORY

from api.v1.permissions import PERMISSIONS, PLATFORM_ROLES, ROLES
from api.v1.problems import PROBLEMS

TEXT = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    """Return what is between a section's marks."""
    matched = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", TEXT, re.DOTALL)
    assert matched is not None
    return matched[1]


def roles_table() -> str:
    """Return the table of permissions and roles."""
    rows = [["permission", *(f"`{role}`" for role in ROLES)], ["---", *[":-:"] * len(ROLES)]]
    rows += [[f"`{each}`", *("x" if each in ROLES[role] else "" for role in ROLES)] for each in PERMISSIONS]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def problems_table() -> str:
    """Return the table of the problems."""
    rows = [["code", "status", "title"], ["---"] * 3]
    rows += [[f"`{code}`", str(status), title] for code, (status, title) in PROBLEMS.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


@pytest.mark.parametrize(("name", "table"), [("roles", roles_table()), ("problems", problems_table())])
def test_a_table_is_what_the_code_holds(name: str, table: str) -> None:
    """Roles, permissions and codes are the program's; to bring the text up to date, run this file."""
    assert section(name) == table


def test_no_tenant_role_has_what_only_the_platform_may() -> None:
    """A tenant's administrator could otherwise raise its limits, or leave its walls."""
    tenant_roles = ROLES.keys() - PLATFORM_ROLES.keys()
    assert all(not {"tenants:manage", "platform:enter"} & ROLES[role] for role in tenant_roles)


if __name__ == "__main__":
    for name, table in (("roles", roles_table()), ("problems", problems_table())):
        TEXT = (
            TEXT.replace(section(name), table)
            if section(name)
            else TEXT.replace(f"<!-- {name} -->\n", f"<!-- {name} -->\n{table}")
        )
    (REPOSITORY / "docs" / "api.md").write_text(TEXT, encoding="utf-8")
