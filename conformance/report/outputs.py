"""What stands in a run's folder, all of it made of its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.errors import InputError
from conformance.record import read_record
from conformance.report.allure import write_allure
from conformance.report.badge import badge_svg
from conformance.report.console import summary_text
from conformance.report.controls import find_controls, load_controls
from conformance.report.figures import requirement_statuses
from conformance.report.history import append_history, history_line, like_this, read_history, trend
from conformance.report.junit import junit_xml
from conformance.report.page import index_html
from conformance.report.result import result_of
from conformance.report.signature import check_fingerprint, fingerprint
from conformance.report.summary import summary_markdown
from conformance.report.yaml_report import report_yaml

__all__ = ["ALLURE", "HISTORY", "record_file", "sentences_of", "write_reports"]

Line = Mapping[str, Any]
HISTORY = "history.jsonl"
ALLURE = "allure-results"


def record_file(path: Path) -> Path:
    """The record in a run's folder, or the file itself."""
    return path / "record.jsonl" if path.is_dir() else path


def sentences_of(header: Line) -> dict[str, str]:
    """The sentence that each requirement rests on, with its source."""
    return {
        item["id"]: f"“{item['quotation']}” ({item['source']})" if item["quotation"] else item["statement"]
        for item in header["requirements"]
    }


def write_reports(
    path: Path,
    *,
    output: Path | None = None,
    implementation: Mapping[str, str] | None = None,
    controls: Sequence[str] = (),
    allure: bool = False,
) -> list[Line]:
    """Writes index.html, junit.xml, summary.txt, summary.md and, where the result claims a level,
    conformance-report.yaml and badge.svg; adds the run to the history beside its folder. `path`: a run's
    folder or record; `output`: another folder, which gets no history; `allure`: Allure results, too.
    Returns the record's lines.

    Raises InputError for a record that is none, is not whole, or is not what its run wrote."""
    record = record_file(path)
    lines: list[Line] = list(read_record(record))
    check_fingerprint(record)
    hashed = fingerprint(record)
    header, cases = lines[0], lines[1:-1]
    result = result_of(lines)
    this = history_line(lines, hashed)
    folder = output or record.parent
    history_file = record.resolve().parent.parent / HISTORY
    earlier = read_history(history_file)
    statuses = requirement_statuses(cases)
    mapped = [load_controls(find_controls(name), statuses) for name in controls]
    files: dict[str, str | None] = {
        "index.html": index_html(
            lines,
            fingerprint=hashed,
            implementation=implementation,
            controls=mapped,
            history=trend(like_this(earlier, this)),
        ),
        "junit.xml": junit_xml(lines, sentences_of(header)),
        "summary.txt": summary_text(lines) + "\n",
        "summary.md": summary_markdown(lines, hashed),
        # A selection or an interrupted run says nothing about a level, so there is nothing to hang up.
        "badge.svg": badge_svg(cases, result) if result.claims else None,
        "conformance-report.yaml": report_yaml(lines, hashed, implementation) if result.claims else None,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            if text is None:
                (folder / name).unlink(missing_ok=True)
            else:
                (folder / name).write_text(text, encoding="utf-8", errors="replace")
        if allure:
            write_allure(lines, folder / ALLURE, sentences_of(header))
        if output is None:
            append_history(history_file, this)
    except OSError as error:
        raise InputError(
            f"no report can be written to {folder}: {error.strerror}", hint="--output DIR"
        ) from None
    return lines
