"""Puts the contract's JSON Schemas into the distribution; they are kept once, in the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAMES = ("auth-event.json", "access-event.json", "request-event.json")
PACKAGED = "tenantwatch_emitter/schemas"


class CopySchemas(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's own parameter is of no use to a hook
    """Copy the schemas from the repository; a source distribution has its copy already."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to what is built."""
        root = Path(self.root)
        repository = root.parent / "schemas" / "json"
        missing = [name for name in NAMES if not (repository / name).is_file()]
        if missing and not (root / "src" / PACKAGED).is_dir():
            raise FileNotFoundError(f"{repository} has no {', '.join(missing)}; run `make schemas` first")
        # An editable install reads the repository's files itself.
        if not missing and version != "editable":
            folder = f"src/{PACKAGED}" if self.target_name == "sdist" else PACKAGED
            build_data["force_include"].update({str(repository / name): f"{folder}/{name}" for name in NAMES})
