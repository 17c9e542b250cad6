"""Structural schemas: the texts are those of a real kube-apiserver."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from conformance.cluster.embedded.apiserver.schema import StructuralSchema

STRING = {"type": "string"}
PORTS = {"type": "array", "items": STRING}
OPERATION = {
    "type": "object",
    "properties": {"ports": PORTS, "methods": {"type": "array", "items": STRING}},
}
RULE = {
    "type": "object",
    "properties": {
        "to": {
            "type": "array",
            "maxItems": 2,
            "items": {"type": "object", "properties": {"operation": OPERATION}},
        },
        "when": {
            "type": "array",
            "items": {"type": "object", "required": ["key"], "properties": {"key": STRING}},
        },
    },
}
SPEC = {
    "type": "object",
    "properties": {
        "action": {"type": "string", "enum": ["ALLOW", "DENY", "AUDIT", "CUSTOM"]},
        "rules": {"type": "array", "maxItems": 3, "items": RULE},
        "selector": {
            "type": "object",
            "properties": {
                "matchLabels": {
                    "type": "object",
                    "maxProperties": 2,
                    "additionalProperties": {"type": "string", "maxLength": 5},
                }
            },
        },
    },
}


def schema(spec: dict[str, Any] = SPEC) -> StructuralSchema:
    return StructuralSchema.compile({"type": "object", "properties": {"spec": spec}})


def field(value_schema: dict[str, Any], value: Any) -> list[str]:
    compiled = schema({"type": "object", "properties": {"x": value_schema}})
    return texts(compiled, {"spec": {"x": value}})


def texts(compiled: StructuralSchema, obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    return [f"{error.path}: {error.message}" for error in compiled.validate(obj, old)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"action": "FOO"},
            ['spec.action: Unsupported value: "FOO": supported values: "ALLOW", "DENY", "AUDIT", "CUSTOM"'],
        ),
        (
            {"rules": [{"to": [{"operation": {"ports": [9000]}}]}]},
            [
                'spec.rules[0].to[0].operation.ports[0]: Invalid value: "integer": '
                'spec.rules[0].to[0].operation.ports[0] in body must be of type string: "integer"'
            ],
        ),
        ({"rules": [{}] * 4}, ["spec.rules: Too many: 4: must have at most 3 items"]),
        (
            {"rules": [None]},
            ['spec.rules[0]: Invalid value: "null": spec.rules[0] in body must be of type object: "null"'],
        ),
        ({"rules": [{"when": [{}]}]}, ["spec.rules[0].when[0].key: Required value"]),
        (
            {"selector": {"matchLabels": {"app": "too long"}}},
            ["spec.selector.matchLabels.app: Too long: may not be more than 5 bytes"],
        ),
        (
            {"selector": {"matchLabels": {"a": "1", "b": "2", "c": "3"}}},
            ["spec.selector.matchLabels: Too many: 3: must have at most 2 items"],
        ),
        ({"rules": []}, []),
        ({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["9000"]}}]}]}, []),
    ],
)
def test_a_violation_is_told_in_the_servers_words(spec: dict[str, Any], expected: list[str]) -> None:
    assert texts(schema(), {"spec": spec}) == expected


@pytest.mark.parametrize(
    ("value_schema", "value", "expected"),
    [
        ({"type": "integer", "minimum": 1}, 0, "should be greater than or equal to 1"),
        ({"type": "integer", "maximum": 9}, 10, "should be less than or equal to 9"),
        ({"type": "number", "maximum": 9, "exclusiveMaximum": True}, 9, "should be less than 9"),
        ({"type": "integer", "multipleOf": 5}, 7, "should be a multiple of 5"),
        ({"type": "string", "minLength": 1}, "", "should be at least 1 chars long"),
        ({"type": "string", "pattern": "^a+$"}, "b", "should match '^a+$'"),
        ({"type": "array", "items": STRING, "minItems": 1}, [], "should have at least 1 items"),
        ({"type": "string", "format": "ipv4"}, "10.0.0.256", 'must be of type ipv4: "10.0.0.256"'),
        ({"type": "string", "format": "date-time"}, "today", 'must be of type date-time: "today"'),
        ({"type": "boolean"}, "true", 'must be of type boolean: "string"'),
        ({"x-kubernetes-int-or-string": True}, True, 'must be of type integer,string: "boolean"'),
        ({"type": "integer"}, True, 'must be of type integer: "boolean"'),
        ({"type": "integer", "format": "int32"}, 2**31, 'must be of type int32: "integer"'),
    ],
)
def test_each_limit_has_its_sentence(value_schema: dict[str, Any], value: Any, expected: str) -> None:
    assert [text.partition(" in body ")[2] for text in field(value_schema, value)] == [expected]


@pytest.mark.parametrize(
    ("value_schema", "value"),
    [
        ({"x-kubernetes-int-or-string": True}, 80),
        ({"x-kubernetes-int-or-string": True}, "80%"),
        ({"type": "number"}, 3),
        ({"type": "integer"}, 3.0),
        ({"type": "string", "nullable": True}, None),
        ({"type": "string", "nullable": True, "enum": ["a"]}, None),
        ({"type": "string", "format": "date-time"}, "2024-01-02T03:04:05Z"),
        ({"type": "string", "format": "duration"}, "1h30m"),
        ({"type": "string", "format": "unknown-format"}, "anything"),
    ],
)
def test_what_fits_is_not_complained_of(value_schema: dict[str, Any], value: Any) -> None:
    assert field(value_schema, value) == []


def test_alternatives_are_counted() -> None:
    one_of = {
        "type": "object",
        "properties": {"a": STRING, "b": STRING},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    assert field(one_of, {"a": "1"}) == []
    start = '<nil>: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). '
    assert field(one_of, {"a": "1", "b": "2"}) == [start + "Found 2 valid alternatives"]
    assert field(one_of, {}) == [start + "Found none valid", "spec.x.a: Required value"]
    any_of = {"type": "string", "anyOf": [{"pattern": "^a"}, {"pattern": "^b"}]}
    assert field(any_of, "b") == []
    assert field(any_of, "c")[0].endswith('"spec.x" must validate at least one schema (anyOf)')
    neither = {"type": "string", "not": {"enum": ["no"]}}
    assert field(neither, "yes") == []
    assert field(neither, "no") == ['<nil>: Invalid value: "": "spec.x" must not validate the schema (not)']
    every = {"type": "string", "allOf": [{"minLength": 1}, {"maxLength": 2}]}
    assert field(every, "abc")[-1].endswith('"spec.x" must validate all the schemas (allOf)')


def test_items_of_sets_and_maps_are_told_apart_by_their_keys() -> None:
    ports = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["port"],
        "items": {"type": "object", "properties": {"port": {"type": "integer"}, "name": STRING}},
    }
    assert field(ports, [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]) == [
        'spec.x[1]: Duplicate value: {"port":1}'
    ]
    values = {"type": "array", "x-kubernetes-list-type": "set", "items": STRING}
    assert field(values, ["a", "b", "a"]) == ['spec.x[2]: Duplicate value: "a"']


def test_unknown_fields_are_pruned_and_named() -> None:
    obj = {
        "apiVersion": "v1",
        "kind": "X",
        "metadata": {"name": "x"},
        "spec": {"acton": "DENY", "rules": [{"form": [], "to": [{"operation": {"port": ["1"]}}]}]},
    }
    before = copy.deepcopy(obj)
    pruned, unknown = schema().prune(obj)
    assert pruned["spec"] == {"rules": [{"to": [{"operation": {}}]}]}
    assert pruned["metadata"] == {"name": "x"}
    assert unknown == ["spec.acton", "spec.rules[0].form", "spec.rules[0].to[0].operation.port"]
    assert obj == before


@pytest.mark.parametrize(
    ("obj", "stored"),
    [
        ({"spec": None}, {}),
        ({"spec": {"rules": [{"to": None}]}}, {"spec": {"rules": [{}]}}),
        ({"spec": {"rules": [None]}}, {"spec": {"rules": [None]}}),
    ],
)
def test_a_null_that_is_no_value_is_as_if_unwritten(obj: dict[str, Any], stored: dict[str, Any]) -> None:
    assert schema().prune(obj) == (stored, [])


def test_a_nullable_null_stays_and_unknown_fields_stay_where_asked() -> None:
    free = {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {"known": OPERATION},
    }
    compiled = schema({"type": "object", "properties": {"free": free, "n": {**STRING, "nullable": True}}})
    pruned, unknown = compiled.prune({"spec": {"free": {"any": None, "known": {"odd": 1}}, "n": None}})
    assert pruned == {"spec": {"free": {"any": None, "known": {}}, "n": None}}
    assert unknown == ["spec.free.known.odd"]


def test_an_embedded_resource_keeps_its_type_and_metadata() -> None:
    embedded = {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"data": STRING}}
    compiled = schema({"type": "object", "properties": {"template": embedded}})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "data": "d", "odd": 1}
    pruned, unknown = compiled.prune({"spec": {"template": pod}})
    assert pruned["spec"]["template"] == {k: v for k, v in pod.items() if k != "odd"}
    assert unknown == ["spec.template.odd"]
    assert texts(compiled, {"spec": {"template": {"data": "d"}}}) == [
        "spec.template.apiVersion: Required value",
        "spec.template.kind: Required value",
    ]


def test_defaults_fill_what_is_absent_or_null_and_nothing_else() -> None:
    inner = {"type": "object", "default": {}, "properties": {"n": {"type": "integer", "default": 3}}}
    compiled = schema({"type": "object", "properties": {"inner": inner, "kept": {**STRING, "default": "d"}}})
    pruned, _ = compiled.prune({"spec": {"inner": None, "kept": "mine"}})
    assert compiled.default(pruned) == {"spec": {"inner": {"n": 3}, "kept": "mine"}}
    assert compiled.default({}) == {}


def test_an_update_is_not_refused_for_what_it_leaves_alone() -> None:
    old = {"spec": {"action": "LEGACY", "rules": [{}]}}
    assert texts(schema(), {"spec": {"action": "LEGACY", "rules": []}}, old) == []
    assert len(texts(schema(), {"spec": {"action": "OTHER"}}, old)) == 1
    assert len(texts(schema(), {"spec": {"action": "LEGACY"}})) == 1


@pytest.mark.parametrize(
    ("root", "complaint"),
    [
        ({}, "must be object at the root"),
        ({"type": "object", "properties": {"a": {}}}, "properties[a].type: Required value"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, 'Unsupported value: "text"'),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, "properties[a].items: Required value"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}, "regular expression"),
        ({"type": "object", "properties": {"a": {"$ref": "#/x", "type": "string"}}}, "$ref is not supported"),
        (
            {"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}},
            'properties[a].default: Invalid value: "string"',
        ),
    ],
)
def test_a_broken_schema_is_refused(root: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        StructuralSchema.compile(root)


def test_rules_in_cel_are_reported_as_unevaluated() -> None:
    ruled = {"type": "object", "x-kubernetes-validations": [{"rule": "self.a > 1"}]}
    assert schema(ruled).unevaluated_rules == ("properties[spec]",)
    assert schema().unevaluated_rules == ()
