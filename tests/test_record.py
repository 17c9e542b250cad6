"""The record: its order, its schema, its end, and the exit code that follows from it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from conformance.__main__ import main
from conformance.errors import InputError
from conformance.record import Recorder, exit_code, read_record, read_written
from tests import lines

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "record.schema.json").read_text())


def validate(line: object) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(line)))


def written(path: Path) -> list[str]:
    return [
        str(line.get("id", line["line"]))
        for line in map(json.loads, (path / "record.jsonl").read_text().splitlines())
    ]


def test_lines_are_written_in_the_order_of_the_plan(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, lines.header("g/a", "g/b", "g/c"))
    recorder.add(lines.case("g/c"))
    assert written(tmp_path) == ["header"]
    recorder.add(lines.case("g/a"))
    assert written(tmp_path) == ["header", "g/a"]
    recorder.add(lines.case("g/b"))
    recorder.add(lines.case("g/b", "failed", failure="over-blocking"))  # the first line of a case stands
    recorder.finish([], lines.footer())
    assert written(tmp_path) == ["header", "g/a", "g/b", "g/c", "footer"]
    assert read_record(tmp_path)[2]["status"] == "passed"


def test_a_lost_case_has_its_line(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, lines.header("g/a", "g/b", "g/c"))
    recorder.add(lines.case("g/c"))
    assert recorder.missing() == ["g/a", "g/b"]
    recorder.finish([lines.case("g/b", "inconclusive"), lines.case("g/a", "inconclusive")], lines.footer(6))
    assert written(tmp_path) == ["header", "g/a", "g/b", "g/c", "footer"]


def test_a_record_without_its_end_is_no_result(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, lines.header("g/a"))
    recorder.add(lines.case("g/a"))
    with pytest.raises(InputError, match="no footer"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{}\n", "nonsense\n", "5\n", "[]\n", '{"line": "header", "record": 99}\n']
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.jsonl").write_text(text)
    with pytest.raises(InputError):
        read_record(tmp_path)


def test_a_record_is_never_overwritten(tmp_path: Path) -> None:
    Recorder(tmp_path, lines.header())
    with pytest.raises(FileExistsError):
        Recorder(tmp_path, lines.header())


@pytest.mark.parametrize(
    ("cases", "code", "message"),
    [
        (["g/a"], 6, ":3: the footer says that the run ended, but there is no line of g/b"),
        (["g/a", "g/b", "g/b"], 0, ":4: a second line of g/b; each case has one"),
        (["g/b", "g/a"], 0, ":2: g/b is not what the plan in line 1 has here: g/a"),
        (["g/a", "g/b", "g/c"], 0, ":4: g/c is not what the plan in line 1 has here: the footer"),
        (["g/a", "g/b"], 1, ""),  # the typed walkthrough failed
    ],
)
def test_a_record_has_exactly_the_lines_of_its_plan(
    tmp_path: Path, cases: list[str], code: int, message: str
) -> None:
    written = [lines.header("g/a", "g/b"), *map(lines.case, cases), lines.footer(code)]
    (tmp_path / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written))
    if not message:
        assert len(read_record(tmp_path)) == 4
        return
    with pytest.raises(InputError, match=message):
        read_record(tmp_path)


HEADER, A, B, END = (
    json.dumps(line) + "\n"
    for line in (lines.header("g/a", "g/b"), lines.case("g/a"), lines.case("g/b"), lines.footer())
)


@pytest.mark.parametrize(
    ("text", "torn", "missing"),
    [
        (HEADER + A, False, ("g/b",)),
        (HEADER + A + B, False, ()),  # the footer alone is missing
        (HEADER + A + B[:-30], True, ("g/b",)),
        (HEADER + A + B[:-1], True, ("g/b",)),  # without its end nobody knows whether it is whole
        (HEADER, False, ("g/a", "g/b")),
    ],
)
def test_what_was_written_before_the_end_is_readable_and_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, torn: bool, missing: tuple[str, ...]
) -> None:
    (tmp_path / "record.jsonl").write_text(text)
    written = read_written(tmp_path)
    assert (written.complete, written.torn, written.missing) == (False, torn, missing)
    assert main(["report", str(tmp_path)]) == 6
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.startswith("INCOMPLETE: the run did not end, this is not a result; missing: the footer")
    assert all(name in told for name in missing)
    assert ("its last line is cut off" in told) is torn
    with pytest.raises(InputError, match="has no footer"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + A + B + END + END, ":5: a second footer; nothing is written after line 4"),
        (HEADER + A + B + END + A, ":5: a line after the footer"),
        (HEADER + A + B + END + A[:20], "but there is a cut line after it"),
        (HEADER + A + A + B + END, ":3: a second line of g/a; each case has one"),
        (HEADER + A[:20] + "\n" + B + END, ":2: this is not a record: the line is not JSON"),
        (HEADER.replace('"g/a", "g/b"', '"g/a"') + A + B + END, ":3: g/b is not what the plan in line 1 has"),
        (HEADER.replace('"g/b"', '"g/b", "g/c"') + A + B + END, "there is no line of g/c"),
        (HEADER[:40], ":1: this is not a record: it has no header"),
    ],
)
def test_what_no_run_writes_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / "record.jsonl").write_text(text)
    assert main(["report", str(tmp_path)]) == 4
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_record_does_not_contradict_itself(tmp_path: Path) -> None:
    written = [lines.header("g/a"), lines.case("g/a", "failed", failure="over-blocking"), lines.footer(0)]
    (tmp_path / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written))
    with pytest.raises(InputError, match="says that all holds"):
        read_record(tmp_path)


def test_every_line_keeps_the_schema() -> None:
    for line in (lines.header("g/a"), lines.case("g/a"), lines.footer()):
        validate(line)
    with pytest.raises(jsonschema.ValidationError):
        validate(lines.case("g/a") | {"status": "green"})


@pytest.mark.parametrize(
    ("statuses", "planned", "code"),
    [
        (["passed", "passed"], 2, 0),
        (["passed", "unsupported"], 2, 0),
        (["passed", "known-deviation"], 2, 7),
        (["passed", "failed", "inconclusive"], 3, 1),
        (["passed", "inconclusive", "skipped"], 3, 6),
        (["passed"], 2, 6),
        (["passed", "skipped"], 2, 7),
        (["skipped", "unsupported"], 2, 5),
        ([], 0, 5),
        ([], 2, 5),
    ],
)
def test_exit_code(statuses: list[str], planned: int, code: int) -> None:
    cases = [lines.case(f"g/{number}") | {"status": status} for number, status in enumerate(statuses)]
    assert exit_code(cases, [f"g/{number}" for number in range(planned)]) == code
