"""What stands in a run's folder, and what bad input leaves there: one line, and never a green page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml

from conformance.__main__ import main
from conformance.report.controls import EXAMPLES, load_controls
from conformance.report.outputs import write_reports
from conformance.report.signature import write_fingerprint
from tests import lines
from tests.report import samples

DOCS = Path(__file__).parent.parent.parent / "docs"
SCHEMA = json.loads((DOCS / "conformance-report.schema.json").read_text())
EVERYTHING = {"index.html", "junit.xml", "summary.txt", "summary.md", "record.jsonl"}
CLAIMS = {"badge.svg", "conformance-report.yaml"}


def written(tmp_path: Path, content: list[samples.Line]) -> set[str]:
    folder = samples.write(tmp_path / "r", content)
    write_reports(folder)
    return {file.name for file in folder.iterdir()}


def test_a_whole_run_has_every_report(tmp_path: Path) -> None:
    assert written(tmp_path, samples.record(lines.case("g/a"))) == EVERYTHING | CLAIMS


@pytest.mark.parametrize("changed", [{"selection": "-k a"}, {"code": 2}])
def test_what_claims_no_level_has_no_badge_and_no_conformance_report(
    tmp_path: Path, changed: dict[str, object]
) -> None:
    samples.write(tmp_path / "r", []).joinpath("badge.svg").write_text("from an earlier record")
    assert written(tmp_path, samples.record(lines.case("g/a"), **changed)) == EVERYTHING  # type: ignore[arg-type]  # kwargs


@pytest.mark.parametrize(
    ("status", "word", "result"),
    [
        ("passed", "conformant 2/2", "success"),
        ("failed", "not conformant 1/2", "failure"),
        ("inconclusive", "partial 1/2", "partial"),
        ("skipped", "partial 1/2", "partial"),
    ],
)
def test_badge_and_conformance_report(tmp_path: Path, status: str, word: str, result: str) -> None:
    failure = "over-blocking" if status == "failed" else None
    cases = [lines.case("g/a"), lines.case("g/b", status, failure=failure) | {"level": "extended"}]
    folder = samples.write(tmp_path / "r", samples.record(*cases, level="extended"))
    write_reports(folder, implementation={"organization": "Örg", "contact": "a@b"})
    badge = ET.fromstring((folder / "badge.svg").read_text())
    assert str(badge.get("aria-label")).endswith(word)
    report = yaml.safe_load((folder / "conformance-report.yaml").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    assert (report["result"], report["core"]["result"], report["extended"]["result"]) == (
        result,
        "success",
        result,
    )
    assert report["implementation"]["organization"] == "Örg"
    if status != "passed":
        assert report["extended"][f"{status}Tests"] == ["g/b"]


def test_the_summary_lists_what_failed(tmp_path: Path) -> None:
    case = lines.case("g/b", "failed", failure="over-blocking", reason="a | b <b>")
    open_ = lines.case("g/c", "inconclusive", reason="nobody tells")
    mesh = {"implementation": lines.header()["implementation"] | {"name": "A mesh", "version": ""}}
    folder = samples.write(tmp_path / "r", samples.record(lines.case("g/a"), case, open_, **mesh))
    write_reports(folder)
    text = (folder / "summary.md").read_text()
    assert "not conformant" in text
    assert " A mesh, profile " in text
    assert "| g/c | inconclusive: nobody tells |" in text
    assert "| g/b | failed: over-blocking a \\| b &lt;b&gt; |" in text
    assert "| core | failure | 1 | 1 | 1 | 0 | 0 | 0 |" in text


@pytest.mark.parametrize(
    "broken",
    [
        lambda text: "".join(text.splitlines(keepends=True)[:1] + text.splitlines(keepends=True)[2:]),
        lambda text: text.replace('"record": 1', '"record": 2'),  # another version
        lambda text: text.replace('"status": "passed"', '"status": "failed"'),  # edited
        lambda text: text.replace('"probes"', '"prob"'),  # fields missing
        lambda text: text.replace('"requirements"', '"r"'),
        lambda text: text.replace('"planned"', '"p"'),
        lambda text: text.replace('"exit_code": 0', '"exit_code": "green"'),
        lambda text: text.replace('"level": "core"', '"level": 5'),
        lambda text: text.replace('"started": 1.0', '"started": "yesterday"'),
        lambda text: "",
        lambda text: "null\n",
    ],
)
@pytest.mark.parametrize("command", ["report", "compare"])
def test_a_record_that_is_none_is_one_line_and_no_page(
    tmp_path: Path, broken: object, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = samples.write(tmp_path / "r", samples.record(lines.case("g/a"), lines.case("g/b")))
    record = folder / "record.jsonl"
    text = record.read_text()
    changed = broken(text)  # type: ignore[operator]  # a function each
    assert changed != text
    record.write_text(changed)
    assert main([command, *([str(folder)] * (2 if command == "compare" else 1))]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert not (folder / "index.html").exists()


@pytest.mark.parametrize(
    "cut",
    [
        lambda text: text[: len(text) // 2],  # within a line
        lambda text: "".join(text.splitlines(keepends=True)[:-1]),  # before the footer
    ],
)
def test_an_unfinished_run_is_incomplete_and_has_no_page(
    tmp_path: Path, cut: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = samples.write(tmp_path / "r", samples.record(lines.case("g/a"), lines.case("g/b")))
    record = folder / "record.jsonl"
    record.write_text(cut(record.read_text()))
    assert main(["report", str(folder)]) == 6
    assert "INCOMPLETE" in capsys.readouterr().out
    assert main(["compare", str(folder), str(folder)]) == 4
    assert "has no footer" in capsys.readouterr().err
    assert [file.name for file in folder.iterdir()] == ["record.jsonl"]


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = samples.write(tmp_path / "r", samples.record(lines.case("g/a")))
    (tmp_path / "file").write_text("")
    assert main(["report", str(folder), "--output", str(tmp_path / "file" / "x")]) == 4
    assert "no report can be written to" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere")]) == 4
    assert main(["compare", str(folder), str(tmp_path / "nowhere")]) == 4


@pytest.mark.parametrize("name", sorted(file.stem for file in EXAMPLES.glob("*.yaml")))
def test_the_shipped_mappings_are_examples_and_say_so(tmp_path: Path, name: str) -> None:
    folder = samples.write(
        tmp_path / "r", samples.record(lines.case("g/a", "failed", failure="over-blocking"))
    )
    write_reports(folder, controls=[name])
    page = (folder / "index.html").read_text()
    assert "An example mapping shipped with the suite" in page
    assert 'class="pill failed" href=#req-DOC-02>' in page
    assert "not asked in this run" in page  # a pattern that this small run has nothing for


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: x\n", ":1: 'controls' must be a list of controls"),
        ("title: x\ncontrols:\n- id: a\n  title: b\n", ":3: 'requirements' is missing"),
        ("title: x\ncontrols:\n- id: 1.2\n  title: b\n  requirements: [A]\n", "'id' must be a text"),
        ("title: x\ncolour: red\ncontrols: []\n", ":2: unknown key 'colour'"),
        ("- 1\n", "a mapping was expected"),
        ("", "is one YAML document"),
        ("a: [", "not YAML"),
    ],
)
def test_a_controls_file_with_a_mistake_says_where(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = samples.write(tmp_path / "r", samples.record(lines.case("g/a")))
    file = tmp_path / "controls.yaml"
    file.write_text(text)
    assert main(["report", str(folder), "--controls", str(file)]) == 4
    assert message in capsys.readouterr().err
    assert main(["report", str(folder), "--controls", "nonsense"]) == 4
    assert "one of the examples: iso-27001, nist-sp-800-53, pci-dss-4" in capsys.readouterr().err


def test_a_control_is_as_good_as_its_worst_requirement(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("title: x\ncontrols:\n- {id: a, title: b, requirements: ['A-*', B-1, C-1]}\n")
    (control,) = load_controls(file, {"A-1": "passed", "A-2": "inconclusive", "B-1": "passed"}).controls
    assert control.status == "inconclusive"
    assert control.results["C-1"] == "not asked"


def test_the_fingerprint_of_a_finished_run_is_kept_beside_it(tmp_path: Path) -> None:
    folder = samples.write(tmp_path / "r", samples.record(lines.case("g/a")))
    write_fingerprint(folder / "record.jsonl")
    write_reports(folder)
    said = (folder / "record.jsonl.sha256").read_text()
    assert said.split()[0] in (folder / "index.html").read_text()
