"""The commands `report` and `compare`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.errors import InputError
from conformance.record import read_record, read_written
from conformance.report.allure_page import HISTORY as ALLURE_HISTORY
from conformance.report.allure_page import NO_NODE, allure_page
from conformance.report.compare import compare, compare_html, compare_markdown, compare_text
from conformance.report.console import case_text, summary_text
from conformance.report.outputs import ALLURE, record_file, sentences_of, write_reports
from conformance.report.result import rerun
from conformance.report.shape import shaped
from conformance.report.signature import check_fingerprint, sign, verify

__all__ = ["add_commands"]

IMPLEMENTATION = ("organization", "project", "url", "version", "contact")
INCOMPLETE = 6
SHOWN = 20  # failed cases in full on the terminal; all of them stand in the record


def add_commands(commands: Any) -> None:
    """`commands`: argparse's subparsers."""
    report = commands.add_parser("report", help="everything that is made of a run's record, anew")
    report.add_argument("run", metavar="RUN", nargs="?", default="reports/latest", type=Path)
    report.add_argument("--output", type=Path, metavar="DIR", help="write there instead of the run's folder")
    for name in IMPLEMENTATION:
        report.add_argument(f"--{name}", default="", metavar="TEXT", help="for the implementation block")
    report.add_argument(
        "--controls", action="append", default=[], metavar="FILE",
        help="requirements mapped to an organisation's controls; a file or a shipped example (repeatable)",
    )  # fmt: skip
    report.add_argument("--allure", action="store_true", help="also write allure-results/")
    report.add_argument("--allure-page", action="store_true", help="and allure.html, where node is installed")
    report.add_argument("--sign", type=Path, metavar="KEY", help="sign the record with an SSH key, first")
    report.add_argument("--verify", action="store_true", help="only check fingerprint and signature")
    report.add_argument(
        "--signers", type=Path, metavar="FILE", help="whose signature counts (allowed_signers)"
    )
    report.set_defaults(call=report_run)
    two = commands.add_parser(
        "compare", help="two runs: what fails now, passes now, closes otherwise, is slower"
    )
    two.add_argument("old", metavar="OLD", type=Path)
    two.add_argument("new", metavar="NEW", type=Path)
    two.add_argument("--format", choices=["text", "markdown", "html"], default="text")
    two.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to the terminal")
    two.add_argument("--fail-on", choices=["regression"], help="exit 1 where a case no longer passes")
    two.set_defaults(call=compare_runs)


def report_run(options: argparse.Namespace) -> int:
    """Writes the reports, prints what did not pass and the summary. 0, or InputError. Of a run that did not
    end there is no report: what it has written is printed, and the code is INCOMPLETE."""
    record = record_file(options.run)
    written = read_written(record)
    if not written.complete:
        _tell(written.lines)
        print(summary_text(written.lines, torn=written.torn))
        return INCOMPLETE
    with shaped(record, written.lines):
        return _report(options, record)


def _report(options: argparse.Namespace, record: Path) -> int:
    if options.sign:
        check_fingerprint(record)
        print(f"signed: {sign(record, options.sign)}")
    if options.verify or options.signers:
        for told in verify(record, options.signers):
            print(told)
        return 0
    implementation = {name: getattr(options, name) for name in IMPLEMENTATION}
    lines = write_reports(
        options.run,
        output=options.output,
        implementation=implementation,
        controls=options.controls,
        allure=options.allure or options.allure_page,
    )
    _tell(lines)
    print(summary_text(lines))
    folder = options.output or record.parent
    print(f"page          {folder / 'index.html'}")
    if options.allure_page:
        page = allure_page(folder / ALLURE, record.resolve().parent.parent / ALLURE_HISTORY)
        print(f"allure        {page or NO_NODE}")
    return 0


def _tell(lines: Sequence[Mapping[str, Any]]) -> None:
    """What did not pass, at length."""
    sentences = sentences_of(lines[0])
    telling = [line for line in lines[1:] if line.get("status") in ("failed", "inconclusive")]
    for line in telling[:SHOWN]:
        print(f"--- {line['id']}")
        print(case_text(line, sentences, rerun(lines[0], line)), end="\n\n")
    if len(telling) > SHOWN:
        print(f"--- {len(telling) - SHOWN} more stand in the record\n")


def compare_runs(options: argparse.Namespace) -> int:
    """0, or 1 with --fail-on where something no longer passes."""
    pair = []
    for path in (options.old, options.new):
        record = record_file(path)
        pair.append(read_record(record))
        check_fingerprint(record)
    with shaped(record_file(options.old), pair[0]), shaped(record_file(options.new), pair[1]):
        found = compare(*pair)
    form = {"text": compare_text, "markdown": compare_markdown, "html": compare_html}[options.format]
    text = form(found)
    if options.output:
        try:
            options.output.write_text(text + "\n", encoding="utf-8", errors="replace")
        except OSError as error:
            raise InputError(f"{options.output} cannot be written: {error.strerror}") from None
    else:
        print(text)
    return 1 if options.fail_on and found.regressions else 0
