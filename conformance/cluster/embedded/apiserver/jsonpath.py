"""The JSONPath of printer columns: `.a.b`, `['a.b']`, `[0]`, `[*]`, `[?(@.type=="Ready")]`."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

_STEP = re.compile(
    r"""\.(?P<field>[\w\-]+(?:\\\.[\w\-]+)*)
    | \[\s*(?P<index>-?\d+)\s*\]
    | \[\s*['"](?P<quoted>[^'"]+)['"]\s*\]
    | (?P<all>\[\*\]|\.\*)
    | \[\?\(\s*@\.(?P<key>[\w.\-]+)\s*(?P<op>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[\w.\-]+)\s*\)\]""",
    re.VERBOSE,
)


@functools.lru_cache(maxsize=256)
def _steps(path: str) -> tuple[dict[str, str], ...]:
    path = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    steps, at = [], 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            return ({"index": "0", "field": ""},)  # what we cannot read selects nothing
        steps.append({key: value for key, value in found.groupdict().items() if value is not None})
        at = found.end()
    return tuple(steps)


def select(obj: Any, path: str) -> list[Any]:
    """Every value the path leads to; empty where it leads nowhere."""
    nodes = [obj]
    for step in _steps(path):
        nodes = [below for node in nodes for below in _step(node, step)]
    return nodes


def _step(node: Any, step: Mapping[str, str]) -> list[Any]:
    name = step.get("quoted") or step.get("field", "").replace("\\.", ".")
    if "field" in step or "quoted" in step:
        return [node[name]] if isinstance(node, Mapping) and name in node else []
    if "all" in step:
        return (
            list(node.values()) if isinstance(node, Mapping) else list(node) if isinstance(node, list) else []
        )
    if not isinstance(node, list):
        return []
    if "index" in step:
        index = int(step["index"])
        return [node[index]] if -len(node) <= index < len(node) else []
    wanted = step["value"].strip("\"'")
    return [item for item in node if (_text(item, step["key"]) == wanted) is (step["op"] == "==")]


def _text(item: Any, dotted: str) -> str:
    for name in dotted.split("."):
        item = item.get(name) if isinstance(item, Mapping) else None
    if isinstance(item, bool):
        return "true" if item else "false"
    return "" if item is None else str(item)
