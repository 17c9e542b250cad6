"""The record: one JSON line for the header, one per case, one for the footer. Every report is made of it.

Append-only and written in the order of the plan. No footer = not a result. docs/record.md explains every
field; docs/record.schema.json is its schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.errors import InputError
from conformance.verdict import Status

__all__ = ["FORMAT", "Line", "Recorder", "exit_code", "read_record"]

FORMAT = 1
Line = dict[str, Any]


class Recorder:
    """Writes record.jsonl in the order of the plan; early lines wait for those before them."""

    def __init__(self, directory: Path, header: Mapping[str, Any]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "record.jsonl"
        self.header = {"line": "header", "record": FORMAT, **header}
        self._planned: list[str] = list(header["planned"])
        self._waiting: dict[str, Line] = {}
        self._lines: dict[str, Line] = {}  # written
        self._write(self.header, mode="x")

    def _write(self, line: Line, *, mode: str = "a") -> None:
        with self.path.open(mode, encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def add(self, line: Line) -> None:
        """A case's line; a second one of the same case is not taken."""
        if line["id"] in self._lines or line["id"] in self._waiting or line["id"] not in self._planned:
            return
        self._waiting[line["id"]] = line
        for planned in self._planned:
            if planned in self._lines:
                continue
            if planned not in self._waiting:
                break
            self._flush(planned)

    def _flush(self, planned: str) -> None:
        line = self._waiting.pop(planned)
        self._write(line)
        self._lines[planned] = line

    def lines(self) -> list[Line]:
        """Header and all cases so far, in the order of the plan."""
        cases = self._lines | self._waiting
        return [self.header, *(cases[name] for name in self._planned if name in cases)]

    def missing(self) -> list[str]:
        """Planned cases without a line so far."""
        return [case for case in self._planned if case not in self._lines and case not in self._waiting]

    def finish(self, lost: Iterable[Line], footer: Mapping[str, Any]) -> None:
        """The lines of cases that never came, then the footer."""
        for line in lost:
            self.add(line)
        for planned in list(self._waiting):
            self._flush(planned)
        self._write({"line": "footer", **footer})


def read_record(path: Path) -> list[Line]:
    """All lines of a record. Raises InputError where it is none, or has no footer."""
    file = path / "record.jsonl" if path.is_dir() else path
    try:
        lines = [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines() if text]
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{file} is not a record: a line is not JSON") from None
    if not all(isinstance(line, dict) for line in lines):
        raise InputError(f"{file} is not a record: a line is no JSON object")
    if not lines or lines[0].get("line") != "header":
        raise InputError(f"{file} is not a record: it has no header")
    if lines[0].get("record") != FORMAT:
        raise InputError(f"{file} is a record of format {lines[0].get('record')}, not {FORMAT}")
    if lines[-1].get("line") != "footer":
        raise InputError(f"{file} has no footer: the run did not end, so it is not a result")
    _check_whole(file, lines)
    return lines


def _check_whole(file: Path, lines: Sequence[Line]) -> None:
    """Exactly one line for each planned case, in order, and an end that says what they say."""
    planned, cases = lines[0].get("planned"), lines[1:-1]
    if not isinstance(planned, list) or [case.get("id") for case in cases] != planned:
        raise InputError(f"{file} is not a whole record: its cases are not exactly those of its plan")
    known = {status.value for status in Status}
    strange = [case["id"] for case in cases if case.get("line") != "case" or case.get("status") not in known]
    if strange:
        raise InputError(f"{file} is not a record: no case line, or of no known status: {strange[0]}")
    ended = lines[-1].get("exit_code")
    if ended == 0 and exit_code(cases, planned) != 0:
        raise InputError(f"{file} says that all holds, and its cases do not")


def exit_code(cases: Sequence[Line], planned: Sequence[str]) -> int:
    """0 the asked level succeeded, 1 breach, 5 nothing ran, 6 inconclusive, 7 partial (design of exit codes
    in docs/record.md). What is unsupported was declared beforehand and does not make a run partial."""
    statuses = {case["status"] for case in cases}
    if not cases or not planned:
        return 5
    if Status.FAILED.value in statuses:
        return 1
    if Status.INCONCLUSIVE.value in statuses or len(cases) < len(planned):
        return 6
    if statuses <= {Status.SKIPPED.value, Status.UNSUPPORTED.value}:
        return 5
    return 7 if Status.SKIPPED.value in statuses else 0
