"""The record: one JSON line for the header, one per case, one for the footer. Every report is made of it.

Append-only and written in the order of the plan. No footer = not a result. docs/record.md explains every
field; docs/record.schema.json is its schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.errors import InputError
from conformance.verdict import Status

__all__ = ["FORMAT", "Line", "Recorder", "Written", "exit_code", "read_record", "read_written"]

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
        self._write(self.header, mode="xb")

    def _write(self, line: Line, *, mode: str = "ab") -> None:
        # Unbuffered: a line is with the kernel when this returns, and outlives whatever ends this process.
        text = json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        with self.path.open(mode, buffering=0) as file:
            while text:
                text = text[file.write(text) :]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What is there of a record: `lines` in order, the footer among them only where the run came to its end.
    `missing`: planned cases without a line. `torn`: the last line was cut off while it was written."""

    lines: tuple[Line, ...]
    missing: tuple[str, ...]
    torn: bool

    @property
    def complete(self) -> bool:
        return bool(self.lines[-1]["line"] == "footer")


def read_record(path: Path) -> list[Line]:
    """All lines of a record. Raises InputError where it is none, or has no footer."""
    written = read_written(path)
    if not written.complete:
        raise InputError(f"{_file(path)} has no footer: the run did not end, so it is not a result")
    return list(written.lines)


def read_written(path: Path) -> Written:
    """What a run has written, to its end or not. Raises InputError (file:line) for what no run writes."""
    file = _file(path)
    lines, torn = _parse(file)
    if not lines or lines[0].get("line") != "header":
        raise InputError(f"{file}:1: this is not a record: it has no header")
    if lines[0].get("record") != FORMAT:
        raise InputError(f"{file}:1: this is a record of format {lines[0].get('record')}, not {FORMAT}")
    planned = lines[0].get("planned")
    if not isinstance(planned, list):
        raise InputError(f"{file}:1: this is not a record: its header has no plan")
    missing = _check_order(file, lines, [str(name) for name in planned])
    written = Written(lines=tuple(lines), missing=tuple(missing), torn=torn)
    if written.complete and (torn or missing):
        what = f"no line of {missing[0]}" if missing else "a cut line after it"
        raise InputError(f"{file}:{len(lines)}: the footer says that the run ended, but there is {what}")
    if written.complete and lines[-1].get("exit_code") == 0 and exit_code(lines[1:-1], planned) != 0:
        raise InputError(f"{file}:{len(lines)}: the footer says that all holds, and the cases do not")
    return written


def _file(path: Path) -> Path:
    return path / "record.jsonl" if path.is_dir() else path


def _parse(file: Path) -> tuple[list[Line], bool]:
    """The lines, and whether the last one is torn: without its end, or cut within a character."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    *whole, rest = content.split(b"\n")
    lines: list[Line] = []
    for number, text in enumerate(whole, 1):
        try:
            line = json.loads(text)
        except ValueError:
            raise InputError(f"{file}:{number}: this is not a record: the line is not JSON") from None
        if not isinstance(line, dict):
            raise InputError(f"{file}:{number}: this is not a record: the line is no JSON object")
        lines.append(line)
    return lines, bool(rest)


def _check_order(file: Path, lines: Sequence[Line], planned: Sequence[str]) -> list[str]:
    """Header, the planned cases in order, footer: each once. The planned cases that have no line."""
    known = {status.value for status in Status}
    seen: list[str] = []
    ended = 0
    for number, line in enumerate(lines[1:], 2):
        if ended:
            what = "a second footer" if line.get("line") == "footer" else "a line after the footer"
            raise InputError(f"{file}:{number}: {what}; nothing is written after line {ended}")
        if line.get("line") == "footer":
            ended = number
            continue
        name = line.get("id")
        if line.get("line") != "case" or line.get("status") not in known:
            raise InputError(f"{file}:{number}: this is no line of a case, or one of no known status")
        if name in seen:
            raise InputError(f"{file}:{number}: a second line of {name}; each case has one")
        if len(seen) >= len(planned) or name != planned[len(seen)]:
            wanted = planned[len(seen)] if len(seen) < len(planned) else "the footer"
            raise InputError(f"{file}:{number}: {name} is not what the plan in line 1 has here: {wanted}")
        seen.append(str(name))
    return list(planned[len(seen) :])


def exit_code(
    cases: Sequence[Line], planned: Sequence[str], *, over: bool = False, stale: bool = False
) -> int:
    """0 the asked level succeeded, 1 breach, 5 nothing ran, 6 inconclusive, 7 partial (design of exit codes
    in docs/record.md). What is unsupported was declared beforehand and does not make a run partial.

    `over`: a time is over the profile's budget. `stale`: a known deviation must be taken off its list."""
    statuses = {case["status"] for case in cases}
    if not cases or not planned:
        return 5
    if Status.FAILED.value in statuses or stale:
        return 1
    if Status.INCONCLUSIVE.value in statuses or len(cases) < len(planned):
        return 6
    if statuses <= {Status.SKIPPED.value, Status.UNSUPPORTED.value}:
        return 5
    lacking = statuses & {Status.SKIPPED.value, Status.KNOWN_DEVIATION.value}
    return 7 if lacking or over else 0
