"""Families: one case written once, with a table of rows; each row becomes a scenario of its own.

`${row.name}` stands for a value of the row. Where it is the whole of a value, any YAML may take its place
(a list of ports, a table of expectations, a manifest's spec), and null takes the key away with it. Inside
quotes and inside a longer text a plain value becomes text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from conformance.reading import Node, Problem

__all__ = ["FAMILY", "Row", "expand"]

FAMILY = "ScenarioFamily"
ROW_KEYS = {"id", "values", "requirements", "features", "one_sided"}
NULL = "tag:yaml.org,2002:null"
ROW_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
USE = re.compile(r"(?<!\$)\$\{row\.([^}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`documents` are the file's, with the row's values put in; the first is still the case."""

    documents: tuple[Node, ...]
    line: int
    id: str = ""
    requirements: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    one_sided: str = ""


def expand(case: Node, manifests: list[Node]) -> list[Row]:
    """The rows of a family in their order. What is wrong is noted at the row or at the place of use."""
    table = case.child("rows")
    nodes = table.items() if table else []
    if not nodes:
        case.problem("'rows' must be a list of at least one row", key="rows")
    rows: list[Row] = []
    for node in nodes:
        if not node.only_keys(ROW_KEYS):
            continue
        name = node.text("id")
        if name and not ROW_ID.fullmatch(name):
            node.problem(f"the id {name!r} must be lower-case words with hyphens", key="id")
        if any(name == row.id for row in rows):
            node.problem(f"the row {name!r} stands twice", key="id")
        values = _values(node)
        used: set[str] = set()
        documents = [_filled(document, values, used) for document in (_without_rows(case), *manifests)]
        for unused in sorted(values.keys() - used):
            node.problem(f"nothing uses ${{row.{unused}}}", key="values")
        rows.append(
            Row(
                id=name,
                line=node.line,
                documents=tuple(documents),
                requirements=node.texts("requirements"),
                features=node.texts("features"),
                one_sided=node.text("one_sided", default=""),
            )
        )
    return rows


def _values(node: Node) -> Mapping[str, yaml.Node]:
    child = node.child("values")
    if child is None:
        return {}
    if not isinstance(child.yaml_node, yaml.MappingNode):
        child.problem("'values' must be a mapping")
        return {}
    return {key.value: value for key, value in child.yaml_node.value}


def _without_rows(case: Node) -> Node:
    """The case alone: the rows' own values are not places of use."""
    if not isinstance(case.yaml_node, yaml.MappingNode):
        return case
    kept = [(key, value) for key, value in case.yaml_node.value if key.value != "rows"]
    return _node(case, yaml.MappingNode(case.yaml_node.tag, kept, case.yaml_node.start_mark))


def _filled(document: Node, values: Mapping[str, yaml.Node], used: set[str]) -> Node:
    return _node(document, _put(document.yaml_node, document, values, used))


def _node(like: Node, root: yaml.Node) -> Node:
    loader = yaml.SafeLoader("")
    try:
        value = loader.construct_document(root)
    finally:
        loader.dispose()
    return Node(value=value, file=like.file, yaml_node=root, problems=like.problems)


def _put(node: yaml.Node, document: Node, values: Mapping[str, yaml.Node], used: set[str]) -> yaml.Node:
    if isinstance(node, yaml.SequenceNode):
        items = [_put(item, document, values, used) for item in node.value]
        return yaml.SequenceNode(node.tag, items, node.start_mark, node.end_mark, node.flow_style)
    if isinstance(node, yaml.MappingNode):
        pairs = [
            (_put(key, document, values, used), filled)
            for key, value in node.value
            if (filled := _put(value, document, values, used)) is value or filled.tag != NULL
        ]
        return yaml.MappingNode(node.tag, pairs, node.start_mark, node.end_mark, node.flow_style)
    if not isinstance(node, yaml.ScalarNode) or not USE.search(node.value):
        return node
    wrong = list(_misused(node, values))
    for message in wrong:
        line = node.start_mark.line + 1
        document.problems.found.append(Problem(file=document.file, line=line, message=message))
    if wrong:
        return node
    used |= set(USE.findall(node.value))
    whole = USE.fullmatch(node.value)
    if whole and (node.style is None or not _is_text(values[whole[1]])):
        return values[whole[1]]
    text = USE.sub(lambda match: str(values[match[1]].value), node.value)
    return yaml.ScalarNode(node.tag, text, node.start_mark, node.end_mark, node.style)


def _is_text(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag != NULL


def _misused(node: yaml.ScalarNode, values: Mapping[str, yaml.Node]) -> Iterator[str]:
    for name in USE.findall(node.value):
        if name not in values:
            known = ", ".join(sorted(values)) or "none"
            yield f"the row has no value {name!r}; it has: {known}"
        elif not USE.fullmatch(node.value) and not isinstance(values[name], yaml.ScalarNode):
            yield f"${{row.{name}}} stands inside a text, so it must be a plain value"
