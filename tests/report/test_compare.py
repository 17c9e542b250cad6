"""Two runs side by side."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from conformance.__main__ import main
from conformance.report.compare import compare, compare_html, compare_markdown, compare_text
from tests import lines
from tests.report import samples


def slow(case: samples.Line, milliseconds: float) -> samples.Line:
    return case | {"time_to_enforce_ms": milliseconds}


def test_every_kind_of_change_is_found() -> None:
    reset = copy.deepcopy(lines.case("g/reset"))
    reset["steps"][0]["probes"][0]["observed"] |= {"kind": "reset"}
    old = samples.record(
        lines.case("g/broke"),
        lines.case("g/fixed", "failed", failure="over-blocking"),
        lines.case("g/worse", "inconclusive"),
        lines.case("g/reset"),
        slow(lines.case("g/slow"), 20.0),
        slow(lines.case("g/noise"), 20.0),
        lines.case("g/gone"),
    )
    new = samples.record(
        lines.case("g/broke", "inconclusive"),
        lines.case("g/fixed"),
        lines.case("g/worse", "failed", failure="over-blocking"),
        reset,
        slow(lines.case("g/slow"), 500.0),
        slow(lines.case("g/noise"), 100.0),
        lines.case("g/new"),
    )
    found = compare(old, new)
    assert [item.case for item in found.regressions] == ["g/broke", "g/gone"]
    assert [item.case for item in found.newly_passing] == ["g/fixed"]
    assert [item.case for item in found.other] == ["g/worse"]
    assert [(item.case, item.what) for item in found.closing] == [
        ("g/reset", "step 1, sleep.foo -> tcp-echo.foo:9001: closed (FIN) before, reset (RST) now")
    ]
    assert [item.case for item in found.slower] == ["g/slow"]
    assert [item.case for item in found.added] == ["g/new"]
    assert [item.case for item in found.removed] == ["g/gone"]
    for text in (compare_text(found), compare_markdown(found), compare_html(found)):
        assert "reset (RST)" in text.replace("\\", "")


def test_a_selection_misses_nothing_and_what_cannot_be_compared_is_said() -> None:
    old = samples.record(lines.case("g/a"), lines.case("g/b"))
    new = samples.record(lines.case("g/a"), selection="-k a", level="extended")
    found = compare(old, new)
    assert found.regressions == ()
    assert found.notes == ("the level differs: core before, extended now", "only a selection ran now")


def test_nothing_in_a_record_is_markup() -> None:
    old = samples.record(lines.case("g/a"))
    new = samples.record(
        lines.case("g/a", "failed", reason=samples.HOSTILE + " | [x](y)", failure="over-blocking")
    )
    found = compare(old, new)
    assert "<script>alert" not in compare_html(found)
    assert "<script" not in compare_markdown(found)
    assert "\\| \\[x\\](y)" in compare_markdown(found)


@pytest.mark.parametrize(
    ("status", "arguments", "code"),
    [
        ("failed", [], 0),
        ("failed", ["--fail-on", "regression"], 1),
        ("inconclusive", ["--fail-on", "regression"], 1),
        ("passed", ["--fail-on", "regression"], 0),
    ],
)
def test_the_exit_code_says_regression_only_where_asked(
    tmp_path: Path, status: str, arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    old = samples.write(tmp_path / "old", samples.record(lines.case("g/a")))
    failure = "over-blocking" if status == "failed" else None
    new = samples.write(tmp_path / "new", samples.record(lines.case("g/a", status, failure=failure)))
    assert main(["compare", str(old), str(new), *arguments]) == code
    assert ("No longer passing: 1" in capsys.readouterr().out) == (status != "passed")


def test_it_can_be_written_to_a_file(tmp_path: Path) -> None:
    run = samples.write(tmp_path / "r", samples.record(lines.case("g/a")))
    file = tmp_path / "c.html"
    assert main(["compare", str(run), str(run), "--format", "html", "--output", str(file)]) == 0
    assert "No regression" in file.read_text()
    assert main(["compare", str(run), str(run), "--output", str(tmp_path / "no" / "c")]) == 4
