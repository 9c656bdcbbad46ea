"""From a Sigma text to compiled rules.

A text is a file: a rule, or a correlation and the rules that it refers to, as YAML documents. It stands for
itself and refers to no other.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import yaml
from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule, SigmaRuleBase
from sigma.rule.base import SigmaYAMLLoader, check_alias_expansion
from sigma.rule.detection import SigmaDetectionItem

from detectors.rules.compiled import Rule
from detectors.rules.correlating import window_of
from detectors.rules.faults import RuleError
from detectors.rules.headline import headline_of
from detectors.rules.outline import faults_of
from detectors.rules.predicates import AllOf, Among, Predicate
from detectors.rules.selecting import predicate_of
from schemas.event import Kind


class _Document(NamedTuple):
    """A YAML document, and what pySigma makes of it."""

    source: dict[str, Any]
    rule: SigmaRule | SigmaCorrelationRule


def read(text: str, stored: bool = False) -> tuple[Rule, ...]:
    """Return the rules of a text: those that alert, not those that others only refer to.

    Parameters
    ----------
    stored
        As `detectors.rules.ruleset.compiled`.

    Raises
    ------
    RuleError
        With everything that is wrong with it.

    >>> read('''
    ... title: Exports
    ... logsource: {product: tenantwatch, category: access}
    ... detection: {selection: {action: export}, condition: selection}
    ... ''')[0].selections
    (Among(field='action', values=('export',), cased=False),)
    """
    documents = _documents(text)
    try:
        collection = SigmaCollection([document.rule for document in documents])
    except SigmaError as error:
        raise RuleError([f"correlation.rules: {error}; fix: put the rule in the same text"]) from error
    alerting = [*collection.get_output_rules()]
    found: list[Rule] = []
    faults: list[str] = []
    for rule in collection:
        try:
            compiled = _compiled(rule, documents, stored)
        except RuleError as error:
            faults += error.faults
            continue
        if any(rule is other for other in alerting):
            found.append(compiled)
    if faults:
        raise RuleError(dict.fromkeys(faults))
    return tuple(found)


def _documents(text: str) -> list[_Document]:
    try:
        sources = [source for source in yaml.load_all(text, SigmaYAMLLoader) if source is not None]
        check_alias_expansion(sources)
    except (yaml.YAMLError, SigmaError, ValueError, TypeError) as error:
        raise RuleError([f"no YAML: {' '.join(str(error).split())}"]) from error
    if not sources:
        raise RuleError(["there is no rule in it"])
    documents: list[_Document] = []
    faults: list[str] = []
    for number, source in enumerate(sources, 1):
        if not isinstance(source, dict):
            faults.append(f"document {number}: is no mapping; fix: title, logsource, detection")
            continue
        wrong = [*faults_of(source)]
        if not wrong:
            try:
                documents.append(_Document(source, _parsed(source)))
            except RuleError as error:
                wrong = [*error.faults]
        title = str(source.get("title") or "").strip() or f"document {number}"
        faults += [f"{title}: {fault}" for fault in wrong]
    names = [document.rule.name for document in documents if document.rule.name]
    faults += [f"name: {name} is there twice" for name in {*names} if names.count(name) > 1]
    if faults:
        raise RuleError(faults)
    return documents


def _parsed(source: dict[str, Any]) -> SigmaRule | SigmaCorrelationRule:
    of_type = SigmaCorrelationRule if "correlation" in source else SigmaRule
    try:
        return of_type.from_dict(source)
    # The outline is known to be sound; the rest pySigma checks as it uses it.
    except (SigmaError, ValueError, TypeError, AttributeError, LookupError) as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise RuleError([*_located(source.get("detection", {}))] or [told]) from error


def _located(detection: dict[str, Any]) -> Iterator[str]:
    """Yield what pySigma has to say against values of a detection, with their places."""
    for name, definition in detection.items():
        entries = definition if isinstance(definition, list) else [definition]
        for key, value in (
            (key, value) for entry in entries if name != "condition" for key, value in entry.items()
        ):
            try:
                SigmaDetectionItem.from_mapping(key, value)
            except SigmaError as error:
                yield f"detection.{name}.{key}: {error}"


def _compiled(rule: SigmaRuleBase, documents: Sequence[_Document], stored: bool) -> Rule:
    if isinstance(rule, SigmaRule):
        kind, selection = _selection(rule, stored)
        return Rule(kind, headline_of(rule, [], _sources([rule], documents)), (selection,))
    assert isinstance(rule, SigmaCorrelationRule)
    referred = [reference.rule for reference in rule.referenced_rules]
    rules = [other for other in referred if isinstance(other, SigmaRule)]
    where = f"{rule.title}: correlation.rules"
    if len(rules) < len(referred):
        raise RuleError([f"{where}: a correlation of correlations is not supported; fix: name plain rules"])
    kinds, selections = zip(*(_selection(other, stored) for other in rules), strict=True)
    if len({*kinds}) > 1:
        told = " and ".join(sorted({*kinds}))
        raise RuleError([f"{where}: {told} events are not correlated; fix: rules of one category"])
    window = window_of(rule, kinds[0], len(rules))
    headline = headline_of(rule, rules, _sources([*rules, rule], documents))
    return Rule(kinds[0], headline, selections, tuple(rule.group_by or ()), window)


def _sources(
    rules: Sequence[SigmaRule | SigmaCorrelationRule], documents: Sequence[_Document]
) -> list[dict[str, Any]]:
    return [document.source for rule in rules for document in documents if document.rule is rule]


def _selection(rule: SigmaRule, stored: bool) -> tuple[Kind, Predicate]:
    kind = cast(Kind, rule.logsource.category)
    try:
        predicate = predicate_of(rule.detection, kind, stored)
    except RuleError as error:
        raise RuleError(f"{rule.title}: {fault}" for fault in error.faults) from error
    service = rule.logsource.service
    return kind, AllOf((Among("service", (service.lower(),)), predicate)) if service else predicate
