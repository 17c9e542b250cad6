"""Requirements mapped to an organisation's controls, from a YAML file (docs/report.md has its format)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from conformance.errors import InputError
from conformance.reading import Node, Problems, read_documents
from conformance.report.figures import GRAVITY

__all__ = ["Control", "Mapped", "find_controls", "load_controls"]

EXAMPLES = Path(__file__).parent.parent / "controls"
NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """`results`: requirement to status, or `not asked`; `status`: the worst of them."""

    id: str
    title: str
    results: Mapping[str, str]
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    title: str
    note: str
    example: bool
    controls: tuple[Control, ...]


def find_controls(text: str) -> Path:
    """A file, or the name of a shipped example. Raises InputError."""
    file = Path(text)
    if file.is_file():
        return file
    named = EXAMPLES / f"{text}.yaml"
    if named.is_file():
        return named
    known = ", ".join(sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
    raise InputError(f"there is no controls file {text!r}", hint=f"a file, or one of the examples: {known}")


def load_controls(file: Path, statuses: Mapping[str, str]) -> Mapped:
    """`statuses`: of the run's requirements, by id. A pattern (`PORT-*`) that matches none of them says
    `not asked`. Raises InputError with every problem as file:line."""
    problems = Problems()
    documents = read_documents(file, problems)
    problems.raise_any()
    if len(documents) != 1:
        raise InputError(f"{file}: a controls file is one YAML document")
    top = documents[0]
    if not top.only_keys({"title", "note", "example", "controls"}):
        problems.raise_any()
    node = top.child("controls")
    controls: list[Control] = []
    if node is None or not isinstance(node.value, list) or not node.value:
        top.problem("'controls' must be a list of controls")
    else:
        controls = [_control(item, statuses) for item in node.items()]
    mapped = Mapped(
        title=top.text("title"),
        note=top.text("note", default=""),
        example=top.flag("example", default=False),
        controls=tuple(controls),
    )
    problems.raise_any()
    return mapped


def _control(node: Node, statuses: Mapping[str, Any]) -> Control:
    node.only_keys({"id", "title", "requirements"})
    if not isinstance(node.value, dict):
        return Control(id="", title="", results={}, status=NOT_ASKED)
    patterns = node.texts("requirements")
    if not patterns:
        node.problem("'requirements' is missing: what shows this control?")
    results: dict[str, str] = {}
    for pattern in patterns:
        found = [name for name in statuses if fnmatchcase(name, pattern)]
        results |= {name: statuses[name] for name in found} or {pattern: NOT_ASKED}
    asked = [status for status in results.values() if status != NOT_ASKED]
    return Control(
        id=node.text("id"),
        title=node.text("title"),
        results=results,
        status=min(asked, key=GRAVITY.index) if asked else NOT_ASKED,
    )
