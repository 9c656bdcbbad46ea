"""Two sizes of one test: `make test` takes a few cases of each kind, `make test-thorough` all the others."""

import os
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import pytest
from hypothesis import settings

THOROUGH: Final = bool(os.environ.get("THOROUGH"))
T = TypeVar("T")
Test = TypeVar("Test", bound=Callable[..., Any])


def some(values: Iterable[T], kept: Callable[[T], bool]) -> list[Any]:
    """Return a test's parameters, of which all but the kept ones are left to `make test-thorough`."""
    every = [*values]
    assert any(map(kept, every)), "none is kept: `make test` would not know the test"
    return [each if kept(each) else _left(each) for each in every]


def _left(value: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.thorough)


def examples(short: int, *, thorough: int) -> Callable[[Test], Test]:
    """Let hypothesis try `short` examples in `make test`, and `thorough` of them in `make test-thorough`."""

    def sized(test: Test) -> Test:
        chosen: Test = settings(max_examples=thorough if THOROUGH else short, deadline=None)(test)
        return pytest.mark.thorough(chosen) if THOROUGH else chosen

    return sized
