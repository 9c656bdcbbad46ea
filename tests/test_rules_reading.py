"""Sigma texts: what is read, and what is refused, by name and place."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rule_texts import FAILURES, LOGINS, correlation, plain, text_of

from detectors.rules.compiled import Rule, Window
from detectors.rules.faults import RuleError
from detectors.rules.predicates import AllOf, Among, AnyOf, Matches, Not
from detectors.rules.ruleset import check_rules, compiled, rules_for
from schemas.batch import FIELDS
from schemas.event import KINDS
from tests.sizes import examples

FIELD = "user_id"
DIFFERENT = "fix: different names, or ids, of rules in the same text"
TYPES = "event_count, value_count, temporal, temporal_ordered"


def one(documents: Any) -> Rule:
    """Return the one rule of documents."""
    [rule] = compiled(text_of(documents))
    return rule


def faults(documents: Any) -> list[str]:
    """Return what is wrong with documents, less the title of the rule."""
    with pytest.raises(RuleError) as raised:
        compiled(documents if isinstance(documents, str) else text_of(documents))
    return [fault.removeprefix("A rule: ") for fault in raised.value.faults]


def test_a_selection_is_all_of_its_fields() -> None:
    """Each field is a test of its own; a list is one test of several values."""
    rule = one(plain({"action": "login", "user_id": ["Ana", "ben"], "reason": ["x*", "locked"]}))
    assert rule.selections == (
        AllOf(
            (
                Among("action", ("login",)),
                Among("user_id", ("ana", "ben")),
                AnyOf((Matches("reason", "(?s)^x.*$", lowered=True), Among("reason", ("locked",)))),
            )
        ),
    )


def test_a_condition_is_a_tree_of_selections() -> None:
    """Not binds closer than and, and closer than or."""
    rule = one(plain({"selection": {FIELD: "a"}, "b": {FIELD: "b"}}, condition="not selection and b or b"))
    a, b = Among(FIELD, ("a",)), Among(FIELD, ("b",))
    assert rule.selections == (AnyOf((AllOf((Not(a), b)), b)),)


def test_a_correlation_is_a_window_over_selections() -> None:
    """What it refers to is selected, and does not alert by itself."""
    rule = one(correlation("event_count", [plain(LOGINS)], group_by="user_id", condition={"gt": 4}))
    assert rule.selections == (Among("action", ("login",)),)
    assert rule.group_by == ("user_id",)
    assert rule.window == Window("event_count", 60_000, 5)


@pytest.mark.parametrize(
    ("level", "severity"), [("informational", "low"), ("critical", "critical"), (None, "medium")]
)
def test_the_level_is_the_severity(level: str | None, severity: str) -> None:
    """A rule without one is of medium severity."""
    assert one(plain(LOGINS, **({"level": level} if level else {}))).headline.severity == severity


def test_every_field_of_the_contract_can_be_named() -> None:
    """But for what is said elsewhere: the kind, the time, and attributes as a whole."""
    for kind in KINDS:
        for field in {*FIELDS[kind]} - {"attributes"}:
            assert one(plain({f"{field}|exists": True}, kind)).kind == kind


def test_the_key_follows_what_decides_on_verdicts() -> None:
    """It is the same in every process, since what a window holds is saved under it."""
    rule = plain(LOGINS)
    key = one(rule).headline.key
    assert key == "55a4487a53162532"
    assert one({**rule, "level": "high", "description": "x"}).headline.key == key
    assert one(plain({"action": "logout"})).headline.key != key
    assert one({**rule, "title": "Another"}).headline.key != key
    with_id = {**rule, "id": "4f6f6b4e-3c5f-4f7e-9a55-0d8a4a8f0c11"}
    assert one(with_id).headline.key == one({**with_id, "title": "Another"}).headline.key


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"title": " "}, "document 1: title: missing; fix: say in a line what the rule finds"),
        ({"levle": "high"}, "levle: no such key; did you mean `level`?"),
        ({"level": "hihg"}, "'hihg' is not a valid Sigma rule level"),
        (
            {"taxonomy": "ecs"},
            "taxonomy: 'ecs' is not supported; fix: leave it out, and use the contract's fields",
        ),
        ({"action": "global"}, "action: collections (`action`) are not supported; fix: write each rule out"),
        ({"filter": {}}, "filter: filters are not supported; fix: put `and not` into the rule's condition"),
        ({"generate": True}, "generate: `generate` belongs under `correlation`"),
        ({"logsource": None}, "logsource: missing; fix: {product: tenantwatch, category: auth}"),
        (
            {"logsource": {"product": "windows", "category": "auth"}},
            "logsource.product: 'windows' is not supported; fix: product: tenantwatch",
        ),
        (
            {"logsource": {"product": "tenantwatch", "category": "login"}},
            "logsource.category: 'login' is no kind of event; fix: one of auth, access, request",
        ),
        (
            {"logsource": {"product": "tenantwatch", "category": "auth", "servcie": "x"}},
            "logsource.servcie: no such key; did you mean `service`?",
        ),
        ({"detection": None}, "detection: missing; fix: a selection, and `condition: selection`"),
        ({"detection": {"selection": LOGINS}}, "detection.condition: missing; fix: condition: selection"),
        ({"id": "7"}, "Sigma rule identifier must be an UUID"),
    ],
)
def test_what_is_wrong_with_a_rule_is_told(change: dict[str, Any], told: str) -> None:
    """With its key, and how to mend it."""
    assert faults({**plain(LOGINS), **change}) == [told]


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        ({"user": "ana"}, "user: auth events have no field `user`; did you mean `user_id`?"),
        (
            {"cntry": "x"},
            "cntry: auth events have no field `cntry`; if it is an attribute, write `attributes.cntry`",
        ),
        (
            {"http_status": 500},
            "http_status: `http_status` is a field of request events, and the rule is about auth events",
        ),
        ({"kind": "auth"}, "kind: `kind` cannot be used; the kind is `logsource.category`"),
        (
            {"attributes": "x"},
            "attributes: `attributes` cannot be used; name one of them: `attributes.country`",
        ),
        ({"user_id|near": "x"}, "user_id|near: the modifier `near` is not supported; known: "),
        (
            {"user_id|contians": "x"},
            "user_id|contians: the modifier `contians` is not supported; did you mean `contains`?",
        ),
        ({"user_id|base64": "x"}, "user_id|base64: the modifier `base64` is not supported; known: "),
        ({"user_id|windash": "x"}, "user_id|windash: the modifier `windash` is not supported; known: "),
        ({"user_id|expand": "x"}, "user_id|expand: the modifier `expand` is not supported; known: "),
        ({"user_id|fieldref": "x"}, "user_id|fieldref: the modifier `fieldref` is not supported; known: "),
        ({"time|hour": 3}, "time|hour: the modifier `hour` is not supported; known: "),
        ({"user_id": 7}, "user_id: found a number, the field holds text; fix: put it in quotes"),
        ({"user_id": True}, "user_id: found True, the field holds a string; fix: put it in quotes"),
        ({"user_id|gt": 7}, "user_id|gt: found a number, the field holds text; fix: put it in quotes"),
        ({"user_id|contains": 7}, "user_id|contains: found 7, needs a text; fix: put it in quotes"),
        (
            {"user_id|re|contains": "x"},
            "user_id|re|contains: `re` with `contains` is not supported; fix: anchor ",
        ),
        (
            {"user_id|re": "(?=x)"},
            "user_id|re: Invalid regular expression: invalid perl operator: (?=; fix: RE2 has neither",
        ),
        (
            {"user_id|re": r"(a)\1"},
            "user_id|re: Invalid regular expression: invalid escape sequence: \\1; fix: RE2 has neither",
        ),
        (
            {"source_ip|cidr": "192.0.2.7/24"},
            "source_ip|cidr: Invalid CIDR expression: 192.0.2.7/24 has host bits set",
        ),
        ({"user_id|exists": "yes"}, "user_id|exists: found 'yes'; fix: true or false"),
        ({"user_id": []}, "user_id: no values; fix: give at least one"),
        (
            {"user_id": {"a": "b"}},
            "user_id: a dict is no value; fix: give texts, numbers, true, false or null",
        ),
        ({"outcome": "failed"}, "outcome: never 'failed'; did you mean `failure`?"),
        (
            {"|contains": "x"},
            "|contains: keywords without a field are not supported; fix: name the field before the |",
        ),
    ],
)
def test_what_is_wrong_with_a_selection_is_told(selection: dict[str, Any], told: str) -> None:
    """With its place in the text."""
    [fault] = faults(plain(selection))
    assert fault.startswith(f"detection.selection.{told}")


@pytest.mark.parametrize("selection", ["ana", ["ana", "ben"], {}, [], [{"user_id": "ana"}, "ben"]])
def test_keywords_are_refused(selection: Any) -> None:
    """A text that is looked for in the whole event: ours has no such text."""
    [fault] = faults(plain({"selection": selection}))
    assert (
        fault
        == "detection.selection: keywords without a field are not supported; fix: name a field for each value"
    )


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("selection | near other", "`| near` is not supported; fix: a `correlation` of the type temporal"),
        (
            "selection | count() by user_id > 5",
            "`| count` is not supported; fix: a `correlation` of the type event_count or value_count",
        ),
        (["selection", "selection"], "list is not supported; fix: one condition, as text"),
        ("selection and other", "nothing is called `other`; known: selection"),
        ("selektion", "nothing is called `selektion`; did you mean `selection`?"),
        ("2 of them", "Expected end of text, found 'of'"),
        ("not " * 40 + "selection", "nested more than 32 deep; fix: make it simpler"),
    ],
)
def test_what_is_wrong_with_a_condition_is_told(condition: Any, told: str) -> None:
    """The old ways of counting are answered with the new one."""
    [fault, *rest] = faults(plain(LOGINS, condition=condition))
    assert fault.startswith(f"detection.condition: {told}")
    assert rest in ([], ["detection.selection: the condition does not use it; fix: use it, or take it out"])


def test_a_selection_that_is_not_used_is_told() -> None:
    """It was perhaps meant to keep something out."""
    told = faults(plain({"selection": LOGINS, "keep_out": {"user_id": "root"}}))
    assert told == ["detection.keep_out: the condition does not use it; fix: use it, or take it out"]


def test_a_timeframe_is_answered_with_a_timespan() -> None:
    """It is of the time when conditions counted."""
    told = faults(plain({"selection": LOGINS, "timeframe": "5m"}))
    assert told == ["detection.timeframe: not supported; fix: a `correlation` with a `timespan`"]


@pytest.mark.parametrize(
    ("correlation_type", "change", "told"),
    [
        ("value_sum", {}, f"type: 'value_sum' is not supported; fix: one of {TYPES}"),
        ("near", {}, f"type: 'near' is not supported; fix: one of {TYPES}"),
        (
            "event_count",
            {"aliases": {"who": {"rule_0": "user_id"}}},
            "aliases: not supported; fix: group by a field that all rules have",
        ),
        (
            "event_count",
            {"group-by": ["user"]},
            "group-by: auth events have no field `user`; did you mean `user_id`?",
        ),
        ("event_count", {"group-by": ["user_id", "user_id"]}, "group-by: user_id is there twice"),
        ("event_count", {"gruop-by": ["user_id"]}, "gruop-by: no such key; did you mean `group-by`?"),
        (
            "event_count",
            {"condition": {"lt": 5}},
            "condition.lt: not supported, it would alert at the first event of every group; fix: gte",
        ),
        (
            "event_count",
            {"condition": {"eq": 5}},
            "condition.eq: not supported, one more event and it would not hold; fix: gte: 5",
        ),
        (
            "event_count",
            {"condition": {"gte": 2, "gt": 5}},
            "condition: a range is not supported; fix: one of gt and gte",
        ),
        ("event_count", {"condition": {"gte": 2.5}}, "condition.gte: found 2.5; fix: a whole number"),
        ("event_count", {"condition": {"gte": 0}}, "condition: gte 0 is out of range; fix: gte 1 to 10,000"),
        (
            "event_count",
            {"condition": {"gte": 10**9}},
            "condition: gte 1000000000 is out of range; fix: gte 1 to 10,000",
        ),
        (
            "event_count",
            {"condition": {"gte": 2, "field": "user_id"}},
            "condition.field: event_count counts no values; fix: value_count, or leave it out",
        ),
        (
            "event_count",
            {"condition": {"gte": 2, "percentile": 9}},
            "condition.percentile: not supported; known: gt, gte, eq, field",
        ),
        (
            "value_count",
            {"condition": {"gte": 2, "field": "user"}},
            "condition.field: auth events have no field `user`; did you mean `user_id`?",
        ),
        (
            "value_count",
            {"condition": {"gte": 2, "field": ["user_id"]}},
            "condition.field: list is not supported; fix: one field",
        ),
        (
            "temporal",
            {"condition": "rule_0 and not rule_1"},
            "condition: a condition in words is not supported; fix: a bound, such as gte: 2",
        ),
        ("temporal", {}, "rules: needs two at least, or there is nothing to correlate"),
        ("event_count", {"timespan": "8d"}, "timespan: 8d is too long; fix: at most 7d"),
        ("event_count", {"rules": ["rule_0", "rule_0"]}, f"rules: found ['rule_0', 'rule_0']; {DIFFERENT}"),
        ("event_count", {"rules": []}, f"rules: found []; {DIFFERENT}"),
    ],
)
def test_what_is_wrong_with_a_correlation_is_told(
    correlation_type: str, change: dict[str, Any], told: str
) -> None:
    """With its place in the text."""
    condition = {} if correlation_type.startswith("temporal") else {"condition": {"gte": 2}}
    rule = correlation(correlation_type, [plain(FAILURES)], **condition)
    rule[-1]["correlation"] |= change
    assert faults(rule) == [f"A {correlation_type}: correlation.{told}"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"timespan": "5 minutes"}, "Timespan '5 minutes' is invalid."),
        ({"timespan": None}, "Sigma correlation rule without timespan"),
        ({"condition": None}, "Non-temporal Sigma correlation rule without condition"),
    ],
)
def test_what_is_missing_in_a_correlation_is_told(change: dict[str, Any], told: str) -> None:
    """In the words of pySigma."""
    found = faults(correlation("event_count", [plain(FAILURES)], **{"condition": {"gte": 2}, **change}))
    assert found == [f"A event_count: {told}"]


def test_a_rule_that_is_not_in_the_text_is_told() -> None:
    """A text stands for itself: what it means does not depend on what else a tenant has."""
    rule = correlation("event_count", [plain(FAILURES)], condition={"gte": 2})
    assert faults(rule[-1:]) == [
        "correlation.rules: Rule 'rule_0' not found in rule collection; fix: put the rule in the same text"
    ]


def test_correlations_of_correlations_are_refused() -> None:
    """Also those that refer to each other, or to themselves."""
    rule = correlation("event_count", [plain(FAILURES)], condition={"gte": 2})
    outer = {
        "title": "Outer",
        "name": "outer",
        "correlation": {**rule[-1]["correlation"], "rules": "event_count"},
    }
    told = "correlation.rules: a correlation of correlations is not supported; fix: name plain rules"
    assert faults([*rule, outer]) == [f"Outer: {told}"]
    rule[-1]["correlation"]["rules"] = "outer"
    assert {*faults([*rule, outer])} == {f"Outer: {told}", f"A event_count: {told}"}


def test_kinds_are_not_correlated_with_each_other() -> None:
    """Each kind has a topic of its own; nobody can say which of two events of different kinds came first."""
    rule = correlation("temporal", [plain(FAILURES), plain({"action": "read"}, "access")])
    assert faults(rule) == [
        "A temporal: correlation.rules: access and auth events are not correlated; fix: rules of one category"
    ]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    """Not one fault a run, and of every rule of the text."""
    documents = [
        plain({"user": "a", "nobody|near": 1}, title="One"),
        plain({"kind": "x"}, title="Two", levle=1),
    ]
    assert [fault.split(": ")[:2] for fault in faults(documents)] == [
        ["One", "detection.selection.nobody|near"],
        ["Two", "levle"],
    ]


@pytest.mark.parametrize("text", ["", "---\n", "[", "a: b: c", "- a", "{a: 1, a: 2}", "&a [*a]", "[" * 9_000])
def test_what_is_no_rule_is_told(text: str) -> None:
    """Whatever it is."""
    assert len(faults(text)) == 1


def test_a_text_that_unfolds_without_end_is_refused() -> None:
    """Nine lines of aliases would be a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    [fault] = faults("\n".join(lines))
    assert "billion laughs" in fault


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats()
    | st.sampled_from(["a", "*", "", "1 of x", "5m"])
)
KEYS = st.sampled_from(
    [
        "title",
        "logsource",
        "detection",
        "condition",
        "selection",
        "product",
        "category",
        "correlation",
        "type",
        "rules",
        "timespan",
        "group-by",
        "user_id",
        "user_id|re",
        "name",
        "id",
        "level",
        "tags",
        "date",
        "gte",
    ]
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | SCALARS, inner, max_size=4),
    max_leaves=12,
)


@given(tree=TREES, place=st.integers(0, 8))
@examples(50, thorough=300)
def test_nothing_that_is_read_raises_anything_else(tree: Any, place: int) -> None:
    """A rule in which any part is replaced by any other is a rule, or refused."""
    documents = correlation("event_count", [plain(FAILURES)], group_by=["user_id"], condition={"gte": 2})
    homes: list[tuple[Any, Any]] = [
        (documents, 0), (documents, 1), (documents[0], "detection"), (documents[0]["detection"], "selection"),
        (documents[0]["detection"], "condition"), (documents[0], "logsource"), (documents[0], "tags"),
        (documents[1], "correlation"), (documents[1]["correlation"], "rules"),
    ]  # fmt: skip
    home, key = homes[place]
    home[key] = tree
    text = yaml.safe_dump_all(documents)
    for fault in check_rules([text]):
        assert "cannot be read" not in fault
    for kind in KINDS:
        rules_for([text], kind)


def test_the_same_rule_twice_is_told() -> None:
    """It would alert once, and whoever changes one of the two would wonder."""
    texts = [text_of(plain(LOGINS)), text_of(plain(LOGINS, description="In other words."))]
    assert check_rules(texts) == ["rules[1]: A rule: the same as rules[0]"]
    assert len(rules_for(texts, "auth")) == 1


def test_only_those_who_read_rules_load_pysigma() -> None:
    """A worker whose tenants have none never does."""
    from subprocess import run
    from sys import executable

    code = "import sys, detectors.custom_rule, tenantwatch.cli; print('sigma' in sys.modules)"
    done = run(
        [executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
