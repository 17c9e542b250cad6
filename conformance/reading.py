"""YAML with line numbers, and typed access to it that collects every problem instead of the first.

Scenario files, the catalogue and the profiles are read through this, so that each error names file:line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from conformance.errors import InputError

__all__ = ["Node", "Problem", "Problems", "read_documents"]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """One thing wrong in a file. `line` counts from 1."""

    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(slots=True)
class Problems:
    """Where a reader leaves what it finds, in order."""

    found: list[Problem] = field(default_factory=list)

    def raise_any(self) -> None:
        """Raises InputError with every problem on its own line; nothing where there is none."""
        if self.found:
            raise InputError("\n".join(str(problem) for problem in self.found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value of a YAML document and where it stands."""

    value: Any
    file: Path
    yaml_node: yaml.Node
    problems: Problems

    @property
    def line(self) -> int:
        return int(self.yaml_node.start_mark.line) + 1

    def problem(self, message: str, *, key: str | None = None) -> None:
        """Notes a problem here, or at the line of `key` where this is a mapping that has it."""
        line = self.line
        if key is not None and isinstance(self.yaml_node, yaml.MappingNode):
            for key_node, _ in self.yaml_node.value:
                if getattr(key_node, "value", None) == key:
                    line = key_node.start_mark.line + 1
        self.problems.found.append(Problem(file=self.file, line=line, message=message))

    def child(self, key: str) -> Node | None:
        """The value under `key`; None where this is no mapping or does not have it."""
        if not isinstance(self.yaml_node, yaml.MappingNode) or key not in (self.value or {}):
            return None
        # The last one wins, as in the constructed value.
        for key_node, value_node in reversed(self.yaml_node.value):
            if getattr(key_node, "value", None) == key:
                return self._at(self.value[key], value_node)
        return None

    def items(self) -> list[Node]:
        """The entries of a sequence; empty for anything else."""
        if not isinstance(self.yaml_node, yaml.SequenceNode):
            return []
        return [self._at(value, node) for value, node in zip(self.value, self.yaml_node.value, strict=True)]

    def _at(self, value: Any, node: yaml.Node) -> Node:
        return Node(value=value, file=self.file, yaml_node=node, problems=self.problems)

    def only_keys(self, allowed: set[str]) -> bool:
        """Notes each key that is not allowed. False where this is no mapping at all (noted, too)."""
        if not isinstance(self.value, dict):
            self.problem(f"a mapping was expected, not {_describe(self.value)}")
            return False
        for key in self.value:
            if key not in allowed:
                known = ", ".join(sorted(allowed))
                self.problem(f"unknown key {key!r}; known here: {known}", key=str(key))
        return True

    def text(self, key: str, *, default: str | None = None) -> str:
        """A non-empty string. A missing one is a problem unless there is a default."""
        child = self.child(key)
        if child is None:
            if default is None:
                self.problem(f"{key!r} is missing")
            return default or ""
        if not isinstance(child.value, str) or not child.value.strip():
            child.problem(f"{key!r} must be a text, not {_describe(child.value)}")
            return default or ""
        return child.value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; absent = empty."""
        child = self.child(key)
        if child is None:
            return ()
        if not isinstance(child.value, list) or not all(isinstance(item, str) for item in child.value):
            child.problem(f"{key!r} must be a list of texts, not {_describe(child.value)}")
            return ()
        return tuple(child.value)

    def integer(self, key: str, *, default: int | None = None) -> int | None:
        child = self.child(key)
        if child is None:
            return default
        if not isinstance(child.value, int) or isinstance(child.value, bool):
            child.problem(f"{key!r} must be a whole number, not {_describe(child.value)}")
            return default
        return child.value

    def integers(self, key: str) -> tuple[int, ...]:
        """A whole number or a list of them; absent = empty."""
        child = self.child(key)
        if child is None:
            return ()
        values = child.value if isinstance(child.value, list) else [child.value]
        if not values or any(not isinstance(value, int) or isinstance(value, bool) for value in values):
            child.problem(f"{key!r} must be a whole number or a list of them, not {_describe(child.value)}")
            return ()
        return tuple(values)

    def number(self, key: str, *, default: float) -> float:
        child = self.child(key)
        if child is None:
            return default
        if not isinstance(child.value, int | float) or isinstance(child.value, bool) or child.value < 0:
            child.problem(f"{key!r} must be a number of 0 or more, not {_describe(child.value)}")
            return default
        return float(child.value)

    def flag(self, key: str, *, default: bool) -> bool:
        child = self.child(key)
        if child is None:
            return default
        if not isinstance(child.value, bool):
            child.problem(f"{key!r} must be true or false, not {_describe(child.value)}")
            return default
        return child.value

    def choice(self, key: str, allowed: tuple[str, ...], *, default: str | None = None) -> str:
        child = self.child(key)
        if child is None:
            if default is None:
                self.problem(f"{key!r} is missing (one of {', '.join(allowed)})")
            return default or allowed[0]
        if child.value not in allowed:
            child.problem(f"{key!r} must be one of {', '.join(allowed)}, not {_describe(child.value)}")
            return default or allowed[0]
        return str(child.value)

    def mapping(self, key: str) -> Mapping[str, Any]:
        child = self.child(key)
        if child is None or child.value is None:
            return {}
        if not isinstance(child.value, dict):
            child.problem(f"{key!r} must be a mapping, not {_describe(child.value)}")
            return {}
        return child.value

    def scalars(self) -> Iterator[yaml.ScalarNode]:
        """Every scalar below, keys included, for checks on how a value was written."""
        stack: list[yaml.Node] = [self.yaml_node]
        while stack:
            node = stack.pop()
            if isinstance(node, yaml.ScalarNode):
                yield node
            elif isinstance(node, yaml.SequenceNode):
                stack.extend(node.value)
            elif isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    stack.extend((key, value))


def _describe(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r}"


def read_documents(file: Path, problems: Problems, *, shown_as: Path | None = None) -> list[Node]:
    """The YAML documents of a file, empty ones left out. What cannot be parsed becomes a problem."""
    shown = shown_as or file
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        problems.found.append(Problem(file=shown, line=1, message=f"cannot be read: {error.strerror}"))
        return []
    except UnicodeDecodeError as error:
        problems.found.append(Problem(file=shown, line=1, message=f"is no UTF-8 text: {error.reason}"))
        return []
    nodes: list[Node] = []
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:
        said = str(error).splitlines()[0]
        problems.found.append(Problem(file=shown, line=1, message=f"not YAML: {said}"))
        return []
    try:
        while loader.check_node():
            yaml_node = loader.get_node()
            if yaml_node is None:
                break
            if _contains_itself(yaml_node):
                line = yaml_node.start_mark.line + 1
                problems.found.append(Problem(file=shown, line=line, message="an alias contains itself"))
                continue
            for key_node in _duplicate_keys(yaml_node):
                line = key_node.start_mark.line + 1
                message = f"key {key_node.value!r} stands twice"
                problems.found.append(Problem(file=shown, line=line, message=message))
            value = loader.construct_document(yaml_node)
            if value is not None:
                nodes.append(Node(value=value, file=shown, yaml_node=yaml_node, problems=problems))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problems.found.append(Problem(file=shown, line=line, message=f"not YAML: {error.problem}"))
    except ValueError as error:  # a date such as 2026-13-45
        problems.found.append(Problem(file=shown, line=1, message=f"a value cannot be read: {error}"))
    finally:
        loader.dispose()
    return nodes


def _contains_itself(root: yaml.Node) -> bool:
    """Whether an alias leads back to a collection that it stands in, so that a walk would never end."""
    entered: list[yaml.Node] = []
    stack: list[tuple[yaml.Node, bool]] = [(root, False)]
    while stack:
        node, leave = stack.pop()
        if leave:
            entered.pop()
            continue
        if any(node is one for one in entered):
            return True
        if isinstance(node, yaml.ScalarNode):
            continue
        entered.append(node)
        stack.append((node, True))
        pairs = node.value if isinstance(node, yaml.MappingNode) else [(item,) for item in node.value]
        stack.extend((item, False) for pair in pairs for item in pair)
    return False


def _duplicate_keys(root: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """Keys that a mapping has twice: YAML forbids it, PyYAML silently takes the last."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, yaml.SequenceNode):
            stack.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        yield key
                    seen.add(key.value)
                stack.append(value)
