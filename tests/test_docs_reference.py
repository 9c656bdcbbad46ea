"""docs/reference.md says what the code does."""

from tenantwatch.reference import PATH, text


def test_every_setting_and_metric_is_told_as_it_is() -> None:
    """After a change, `make reference` brings it up to date."""
    assert PATH.read_text(encoding="utf-8") == text()
