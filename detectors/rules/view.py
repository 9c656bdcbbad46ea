"""Rows of a batch as predicates see them."""

from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np

from detectors.columns import taken
from detectors.rules.predicates import AllOf, AnyOf, Not, Predicate, Test
from schemas.batch import Bools, Column, EventBatch, Int64s
from schemas.columns import ArrowColumn

ATTRIBUTE: Final = "attributes."


class View:
    """The rows of a batch that some rules look at; what two of them ask is answered once.

    Parameters
    ----------
    batch, rows
        The batch, and ``(n,)`` positions in it, ascending.

    >>> from detectors.rules.predicates import Among
    >>> from schemas.parse import parse
    >>> event = (
    ...     b'{"kind":"auth","event_id":"1","tenant_id":"tenant-a","time":"2026-01-01T00:00:00Z",'
    ...     b'"service":"login","action":"login","outcome":"success","attributes":{"country":"DE"}}'
    ... )
    >>> view = View(parse("auth", [event]).batch, np.arange(1))
    >>> view.holds(Among("attributes.country", ("de", "fr"))).tolist()
    [True]
    """

    def __init__(self, batch: EventBatch, rows: Int64s) -> None:
        self.batch = batch
        self.rows = rows
        self._columns: dict[str, Column] = {}
        self._answers: dict[Test, Bools] = {}

    def column(self, field: str) -> Column:
        """Return ``(n,)`` values of a field, or of an attribute."""
        if field not in self._columns:
            self._columns[field] = (
                [attributes.get(field.removeprefix(ATTRIBUTE)) for attributes in self._attributes]
                if field.startswith(ATTRIBUTE)
                else taken(self.batch, field, self.rows)
            )
        return self._columns[field]

    @cached_property
    def _attributes(self) -> list[dict[str, Any]]:
        nothing: dict[str, Any] = {}
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        return [decode(text) if text else nothing for text in taken(self.batch, "attributes", self.rows)]

    def holds(self, predicate: Predicate) -> Bools:
        """Return ``(n,)`` of which rows a predicate is true."""
        if isinstance(predicate, Not):
            return ~self.holds(predicate.part)
        if isinstance(predicate, AllOf):
            found = np.ones(len(self.rows), np.bool_)
            for part in predicate.parts:
                # Mostly the first part leaves nothing to ask the others about.
                if not found.any():
                    break
                found &= self.holds(part)
            return found
        if isinstance(predicate, AnyOf):
            held: Bools = np.logical_or.reduce([self.holds(part) for part in predicate.parts])
            return held
        if predicate not in self._answers:
            self._answers[predicate] = self._answer(predicate)
        return self._answers[predicate]

    def _answer(self, test: Test) -> Bools:
        column = self.column(test.field)
        if isinstance(column, ArrowColumn):
            return test.accepts(column.distinct)[column.codes]
        return test.accepts(column)
