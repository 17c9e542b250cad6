"""Whether a record's lines have the shape of docs/record.schema.json, so that what was edited by hand or
written by another program is told as bad input and not as a defect of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conformance.errors import InputError

__all__ = ["check_shape", "shaped"]

Line = Mapping[str, Any]
SCHEMA = Path(__file__).parent.parent.parent / "docs" / "record.schema.json"


def _schemas(*, deep: bool) -> dict[str, Any]:
    """One for each kind of line. Not deep: what stands at its top only, which takes milliseconds."""
    definitions = json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]
    found = {}
    for kind in ("header", "case", "footer"):
        schema = definitions[kind]
        if not deep:
            tops = {name: _top(item, definitions) for name, item in schema["properties"].items()}
            schema = {"type": "object", "properties": tops, "required": schema["required"]}
        found[kind] = schema | {"$defs": definitions}
    return found


def _top(schema: Line, definitions: Line) -> dict[str, Any]:
    """The schema without what it says of a collection's contents."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return {"anyOf": [_top(item, definitions) for item in schema["anyOf"]]}
    return {name: schema[name] for name in ("type", "enum", "const") if name in schema}


def check_shape(file: Path, lines: Sequence[Line], *, deep: bool = False) -> None:
    """Raises InputError with file, line and what is wrong there."""
    import jsonschema  # 0.1 s, for reports only

    validators = {
        kind: jsonschema.Draft202012Validator(schema) for kind, schema in _schemas(deep=deep).items()
    }
    kinds = ["header", *["case"] * (len(lines) - 2), "footer"]
    for number, (kind, line) in enumerate(zip(kinds, lines, strict=True), 1):
        problem = next(validators[kind].iter_errors(line), None)
        if problem is not None:
            where = problem.json_path.removeprefix("$").removeprefix(".") or kind
            said = " ".join(problem.message.split())
            said = said if len(said) < 200 else f"…{said[-200:]}"
            hint = "it was edited or is of another version"
            raise InputError(f"{file}:{number}: not a line of a record: {where}: {said}", hint=hint)


@contextmanager
def shaped(file: Path, lines: Sequence[Line]) -> Iterator[None]:
    """What is made of the lines is made inside: a fault that comes from their shape is told as such."""
    check_shape(file, lines)
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        check_shape(file, lines, deep=True)
        raise
