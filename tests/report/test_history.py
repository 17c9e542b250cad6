"""Runs over time: one line each, and the trend that a page shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conformance.report.history import append_history, history_line, like_this, read_history, trend
from conformance.report.outputs import write_reports
from tests import lines
from tests.report import samples


def run(name: str, started: float, **changed: Any) -> dict[str, Any]:
    content = samples.record(lines.case("g/a"), run=name, started=started, **changed)
    return history_line(content, "ab" * 32)


def test_a_run_is_one_line_however_often_its_report_is_made(tmp_path: Path) -> None:
    for name in ("r1", "r2"):
        folder = samples.write(tmp_path / name, samples.record(lines.case("g/a"), run=name))
        write_reports(folder)
        write_reports(folder)
    assert [line["run"] for line in read_history(tmp_path / "history.jsonl")] == ["r1", "r2"]


def test_a_line_that_was_cut_short_is_passed_over_and_stays_alone(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text('{"run": "r0", "star')
    append_history(file, run("r1", 1.0))
    assert [line["run"] for line in read_history(file)] == ["r1"]


def test_only_whole_runs_of_the_same_kind_are_compared() -> None:
    this = run("r9", 9.0)
    others = [
        run("r3", 3.0),
        run("r1", 1.0),
        run("later", 10.0),
        run("part", 2.0, selection="-k a"),
        run("level", 4.0, level="extended"),
        run("mesh", 5.0, profile=lines.header()["profile"] | {"name": "other"}),
    ]
    assert [line["run"] for line in like_this(others, this)] == ["r1", "r3", "r9"]


def test_a_single_failure_among_hundreds_is_seen() -> None:
    bad = run("r2", 2.0)
    bad["counts"] = bad["counts"] | {"passed": 999, "failed": 1}
    found = trend([run("r1", 1.0), bad])
    assert found is not None
    assert [height for name, _, height in found.columns[1][2] if name == "no-go"] == [3]


def test_one_run_is_no_trend() -> None:
    assert trend([run("r1", 1.0)]) is None


def test_the_page_shows_the_trend(tmp_path: Path) -> None:
    for number in (1, 2):
        content = samples.record(lines.case("g/a"), run=f"r{number}", started=float(number))
        write_reports(samples.write(tmp_path / f"r{number}", content))
    assert "id=history" not in (tmp_path / "r1" / "index.html").read_text()
    page = (tmp_path / "r2" / "index.html").read_text()
    assert "id=history" in page
    assert "<th scope=row>r1" in page
