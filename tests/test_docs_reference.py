"""docs/reference.md says what the code does."""

from dataclasses import fields

from streams.faust_app import StreamConfig
from tenantwatch.reference import PATH, text
from tenantwatch.settings import Settings


def test_every_setting_and_metric_is_told_as_it_is() -> None:
    """After a change, `make reference` brings it up to date."""
    assert PATH.read_text(encoding="utf-8") == text()


def test_a_setting_of_the_streams_has_one_default() -> None:
    """What tests and benchmarks of the streams run with is what `up` and `worker` run with."""
    defaults = {field.name: field.default for field in fields(StreamConfig)}
    for name in ("commit_interval_s", "session_timeout_s"):
        assert Settings.model_fields[name].default == defaults[name]
