"""What is wrong with the settings, told by the names of variables; no password and no key is ever in it."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from tenantwatch.settings import Settings


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong.

    Parameters
    ----------
    variable
        Which one; empty where several do not go together, which the message names.
    found
        What it is, as Python writes it; empty where that may hold a secret.
    message
        What is allowed.
    """

    variable: str
    found: str
    message: str

    def __str__(self) -> str:
        head = f"{self.variable}: " if self.variable else ""
        return f"{head}{self.message}{f', found {self.found}' if self.found else ''}"


def mistakes(error: ValidationError) -> Iterator[Mistake]:
    """Yield what was wrong when `Settings` were read."""
    for detail in error.errors(include_url=False, include_context=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        field = Settings.model_fields.get(name)
        # Without a field of its own the input is all settings, passwords and keys included.
        shown = field is not None and field.repr
        yield Mistake(
            f"TENANTWATCH_{name.upper()}" if name else "",
            repr(detail["input"]) if shown else "",
            detail["msg"].removeprefix("Value error, "),
        )
