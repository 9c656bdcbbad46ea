"""Rules in files: read all of them, and say everything that is wrong with them, before one is used."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from detectors.rules.compiled import Rule
from detectors.rules.faults import RuleError
from detectors.rules.ruleset import compiled
from schemas.errors import describe
from schemas.tenant import RuleTexts

CASES_SUFFIX: Final = ".cases.yml"
_TEXTS: Final[TypeAdapter[list[str]]] = TypeAdapter(RuleTexts)


@dataclass(frozen=True)
class RuleFile:
    """A file with a rule, or with a correlation and the rules that it refers to.

    Parameters
    ----------
    path
        Where it is.
    text
        As it goes into a tenant's ``rules``.
    rules
        Those of it that alert.
    """

    path: Path
    text: str
    rules: tuple[Rule, ...]

    @property
    def cases_path(self) -> Path:
        """Where its cases are, if it has any: ``name.cases.yml`` beside ``name.yml``."""
        return self.path.with_name(self.path.stem + CASES_SUFFIX)


def read_rules(paths: Sequence[Path]) -> list[RuleFile]:
    """Return the rules in files, and in the folders below directories, by path.

    Raises
    ------
    RuleError
        If anything is wrong with any of them, or they are more than a tenant may have.
    """
    files: list[RuleFile] = []
    faults: list[str] = []
    owners: dict[str, Path] = {}
    for path in dict.fromkeys(_found(paths, faults)):
        try:
            text = path.read_text(encoding="utf-8")
            rules = compiled(text)
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{path}: cannot be read: {error}")
        except RuleError as error:
            faults += [f"{path}: {fault}" for fault in error.faults]
        else:
            files.append(RuleFile(path, text, rules))
            for rule in rules:
                if (owner := owners.setdefault(rule.headline.key, path)) != path:
                    faults.append(f"{path}: {rule.headline.title}: the same rule as in {owner}")
    try:
        _TEXTS.validate_python([file.text for file in files])
    except ValidationError as error:
        faults.append(describe(error, "rules"))
    if faults:
        raise RuleError(faults)
    return files


def _found(paths: Sequence[Path], faults: list[str]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*.y*ml") if not p.name.endswith(CASES_SUFFIX))
            if not found:
                faults.append(f"{path}: there is no rule in it; fix: put files named *.yml there")
            yield from found
        elif path.name.endswith(CASES_SUFFIX):
            faults.append(f"{path}: holds cases; fix: name the rule's own file")
        else:
            yield path
