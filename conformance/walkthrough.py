"""docs/walkthrough.md as steps. Pure: a text in, steps out; nothing is run here.

A ```bash block is a step. A ```text block that is the next thing after it, but for blank lines, is exactly
what the step must print; a step without one must only exit with 0. A comment directly above a bash block
marks the step:

    <!-- bundled only -->          needs the bundled mesh; elsewhere the step is left out, and that is said
    <!-- repeat -->                nothing to wait for by other means: repeat until it holds
    <!-- bundled only, repeat -->  both
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["WALKTHROUGH", "Step", "WalkthroughError", "in_namespace", "read_walkthrough"]

WALKTHROUGH = Path(__file__).parent.parent / "docs" / "walkthrough.md"
MARKS = ("bundled only", "repeat")
FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<language>[A-Za-z]*)\s*$")
COMMENT = re.compile(r"^<!--(?P<text>.*)-->\s*$")


class WalkthroughError(Exception):
    """The document cannot be executed as it is written; the text begins with the line's number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One bash block. `line` is where its fence opens, counted from 1; `expected` None = exit code only."""

    heading: str
    line: int
    command: str
    expected: str | None
    bundled_only: bool
    repeat: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fence:
    language: str
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    number: int
    text: str


def read_walkthrough(markdown: str) -> tuple[Step, ...]:
    """The steps in order. Raises WalkthroughError for what could be passed over silently otherwise: a fence
    left open, an output that belongs to no command, a mark that nobody knows or that marks nothing."""
    steps: list[Step] = []
    heading = ""
    marks: tuple[_Line, frozenset[str]] | None = None
    awaiting_output = False  # the last thing seen was a bash block
    for part in _parts(markdown):
        if isinstance(part, _Fence) and part.language == "bash":
            found = marks[1] if marks else frozenset()
            steps.append(
                Step(
                    heading=heading,
                    line=part.line,
                    command=part.text,
                    expected=None,
                    bundled_only="bundled only" in found,
                    repeat="repeat" in found,
                )
            )
            marks, awaiting_output = None, True
            continue
        if marks:
            raise WalkthroughError(
                f"{marks[0].number}: nothing to mark: a bash block must follow the comment"
            )
        if isinstance(part, _Fence):
            if part.language == "text":
                if not awaiting_output:
                    raise WalkthroughError(f"{part.line}: this output follows no command")
                steps[-1] = replace(steps[-1], expected=part.text)
        elif comment := COMMENT.match(part.text):
            marks = (part, _marks(comment["text"], part.number))
        elif part.text.startswith("#"):
            heading = part.text.lstrip("#").strip()
        awaiting_output = False
    if marks:
        raise WalkthroughError(f"{marks[0].number}: nothing to mark: a bash block must follow the comment")
    return tuple(steps)


def in_namespace(steps: Sequence[Step], namespace: str) -> tuple[Step, ...]:
    """The same steps with `namespace` wherever the document says foo as a word of its own."""
    word = re.compile(r"(?<![\w-])foo(?![\w-])")

    def put(text: str) -> str:
        return word.sub(namespace, text)

    return tuple(
        replace(
            step,
            command=put(step.command),
            expected=None if step.expected is None else put(step.expected),
        )
        for step in steps
    )


def _marks(text: str, line: int) -> frozenset[str]:
    marks = frozenset(mark.strip() for mark in text.split(","))
    if unknown := marks.difference(MARKS):
        raise WalkthroughError(f"{line}: unknown mark {min(unknown)!r}; known: {', '.join(MARKS)}")
    return marks


def _parts(markdown: str) -> list[_Fence | _Line]:
    """The document's fenced blocks and its lines outside them, blank lines left out."""
    parts: list[_Fence | _Line] = []
    opened: re.Match[str] | None = None
    opened_at, body = 0, [""]
    for number, line in enumerate(markdown.splitlines(), start=1):
        if opened is not None:
            if line.rstrip() == opened["ticks"]:
                text = "".join(f"{row}\n" for row in body)
                parts.append(_Fence(language=opened["language"], line=opened_at, text=text))
                opened = None
            else:
                body.append(line)
        elif match := FENCE.match(line):
            opened, opened_at, body = match, number, []
        elif line.strip():
            parts.append(_Line(number=number, text=line.strip()))
    if opened is not None:
        raise WalkthroughError(f"{opened_at}: this block is never closed")
    return parts
