"""The benchmarks' numbers in the documents."""

import json
from pathlib import Path

import pytest

from bench import tables

DOCUMENT = """
<!-- numbers: trail-seals -->
as it was
<!-- end -->
<!-- numbers: machine -->
as it was
<!-- end -->
"""


def test_a_file_of_an_older_benchmark_leaves_its_table_and_says_what_makes_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other tables are written all the same."""
    monkeypatch.setattr(tables, "BUILD", tmp_path)
    (tmp_path / "trail_seals.json").write_text(json.dumps({"store": {"verify_s": 1.0}}))
    machine = {"cpus": 2, "cpu_model": "fast", "memory_gb": 8, "kernel": "6", "python": "3.11"}
    (tmp_path / "latency.json").write_text(json.dumps({"machine": machine}))
    filled = tables.filled(DOCUMENT)
    assert filled.count("as it was") == 1
    assert "2 cores (fast)" in filled
    said = capsys.readouterr().out
    assert "build/trail_seals.json has no 'seal_us_per_event'" in said
    assert "`python -m bench.trail_seals --people 100 --pipeline` makes it anew" in said


def test_whatever_a_table_is_made_of_is_made_by_a_command() -> None:
    """None is forgotten."""
    assert {file for file, _ in tables.TABLES.values()} | {"detection"} == set(tables.COMMANDS)
