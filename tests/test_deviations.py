"""Lists of known deviations as files: what is read, what is refused, and the first version of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.__main__ import main
from conformance.deviations import load_known
from conformance.errors import InputError
from conformance.record import Recorder
from tests import lines

ENTRY = """\
- scenario: doc/02-allow-port-9000
  reason: until release 2.4
  link: https://tracker.example/1
  approved_by: jane
  expires: 2027-03-31
"""
OTHER = ENTRY.replace("scenario: doc/02-allow-port-9000", "requirement: DOC-06")


def known(tmp_path: Path, text: str, profile: str = "bundled") -> list[tuple[str, int]]:
    (tmp_path / "known.yaml").write_text(text)
    return [(entry.subject, entry.line) for entry in load_known(tmp_path / "known.yaml", profile)]


def test_a_list_counts_for_every_profile_and_a_mapping_for_those_it_names(tmp_path: Path) -> None:
    assert known(tmp_path, ENTRY + OTHER) == [("doc/02-allow-port-9000", 1), ("DOC-06", 6)]
    both = f"bundled:\n{ENTRY}ambient:\n{OTHER}"
    assert known(tmp_path, both) == [("doc/02-allow-port-9000", 2)]
    assert known(tmp_path, both, "ambient") == [("DOC-06", 8)]
    assert known(tmp_path, both, "another") == []
    assert known(tmp_path, "[]") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.replace("until release 2.4", "FILL IN"), ":2: 'reason' still says FILL IN"),
        (ENTRY.replace("jane", "fill in"), ":4: 'approved_by' still says FILL IN"),
        (ENTRY.replace("2027-03-31", "FILL IN"), ":5: 'expires' must be a day"),
        (ENTRY.replace("  link: https://tracker.example/1\n", ""), ":1: 'link' is missing"),
        (ENTRY.replace("approved_by", "approver"), ":4: unknown key 'approver'"),
        ("scenario: doc/02\n", ":1: known deviations must be a list"),
        ("bundled: nothing\n", ":1: known deviations must be a list"),
        # A mistake in another profile's list is told, too.
        ("bundled: []\nambient:\n" + OTHER.replace("jane", "FILL IN"), ":6: 'approved_by' still says"),
        ("- [", ":1: not YAML"),
        ("", ":1: a list of known deviations is one YAML document"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        known(tmp_path, text)
    assert f"{tmp_path / 'known.yaml'}{message}" in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml:1: cannot be read"):
        load_known(tmp_path / "none.yaml", "bundled")


def record(tmp_path: Path, *cases: lines.Line) -> Path:
    directory = tmp_path / "run"
    recorder = Recorder(directory, lines.header(*(case["id"] for case in cases)))
    recorder.finish(cases, lines.footer(1))
    return directory


def test_the_first_version_is_not_usable_before_it_is_filled_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "sleep.foo -> tcp-echo.foo:9001 must be rejected:\nanswered"
    directory = record(
        tmp_path,
        lines.case("doc/02-allow-port-9000", "failed", reason=reason, failure="allowed but forbidden"),
        lines.case("src/01-identity-fields[a]", "failed", failure="over-blocking"),
        lines.case("g/deviates", "failed", failure="known deviation expired or fixed"),
        lines.case("g/passed"),
    )
    assert main(["known", "--from-record", str(directory)]) == 0
    text = capsys.readouterr().out
    assert "DOC-02, RUN-01; seen: allowed but forbidden: sleep.foo" in text
    with pytest.raises(InputError) as caught:
        known(tmp_path, text)
    assert str(caught.value).count("still says FILL IN") == 6
    filled = text.replace("expires: FILL IN", "expires: 2027-03-31").replace(": FILL IN", ": read")
    assert [name for name, _ in known(tmp_path, filled)] == [
        "doc/02-allow-port-9000",
        "src/01-identity-fields[a]",
    ]


def test_the_first_version_of_a_run_without_failures_is_an_empty_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["known", "--from-record", str(record(tmp_path, lines.case("g/a")))]) == 0
    assert known(tmp_path, capsys.readouterr().out) == []
