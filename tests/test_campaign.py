"""What a run decides around its cases: known deviations, the report directory."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from conformance.absence import is_checked, judge_absence
from conformance.campaign import check_reports
from conformance.deviations import check_deviations, deviate
from conformance.errors import InputError
from conformance.profile import KnownDeviation, Profile, find_profile, load_profile
from conformance.record import exit_code
from conformance.scenario_reader import load_scenarios
from tests import lines

TODAY = date(2026, 5, 20)


def profile(*, case: str = "doc/02-allow-port-9000", expires: str = "2026-05-20") -> Profile:
    known = KnownDeviation(case=case, reason="so", link="https://x", approver="me", expires=expires)
    return replace(load_profile(find_profile("bundled")), known_deviations=(known,))


@pytest.mark.parametrize(
    ("status", "expires", "becomes", "code"),
    [
        ("failed", "2026-05-20", "known-deviation", 0),  # its last day
        ("failed", "2026-05-19", "failed", 1),
        ("passed", "2026-05-20", "failed", 1),  # fixed: off the list with it
        ("passed", "2026-05-19", "failed", 1),
        ("inconclusive", "2026-05-20", "inconclusive", 6),  # nothing was seen, so nothing is excused
        ("inconclusive", "2026-05-19", "inconclusive", 6),
        ("skipped", "2026-05-20", "skipped", 5),
    ],
)
def test_a_known_deviation(status: str, expires: str, becomes: str, code: int) -> None:
    case = lines.case(
        "doc/02-allow-port-9000", status, failure="over-blocking" if status == "failed" else None
    )
    line = deviate(case, profile(expires=expires), TODAY)
    assert line["status"] == becomes
    assert line["known_deviation"]["approver"] == "me"
    assert exit_code([line], [line["id"]]) == code
    if becomes == "failed":
        assert line["failure"] == "known deviation expired or fixed"
        assert "must be taken off the list" in line["reason"]


def test_other_cases_are_left_alone() -> None:
    case = lines.case("doc/07-http-only-allow-rule", "failed", failure="over-blocking")
    assert deviate(case, profile(), TODAY) == case


def test_a_known_deviation_of_no_case_is_refused() -> None:
    check_deviations(profile(), load_scenarios())
    with pytest.raises(InputError, match="names no case: 'doc/99-typo'"):
        check_deviations(profile(case="doc/99-typo"), load_scenarios())


def test_a_report_directory_that_cannot_be_is_refused(tmp_path: Path) -> None:
    check_reports(tmp_path / "new" / "reports")
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", tmp_path / "file" / "reports"):
        with pytest.raises(InputError, match="the report directory"):
            check_reports(wrong)


@pytest.mark.parametrize(
    ("status", "becomes", "words"),
    [
        ("passed", "failed", "yet the case passes"),
        ("failed", "unsupported", "checked for absence: it got through"),
        ("inconclusive", "unsupported", "absence is not proven: it got through"),
    ],
)
def test_what_is_declared_unsupported_must_not_pass(status: str, becomes: str, words: str) -> None:
    failure = "over-blocking" if status == "failed" else None
    line = judge_absence(lines.case("g/a", status, reason="it got through", failure=failure), "audit: no")
    assert line["status"] == becomes
    assert line["failure"] == ("declared unsupported and works" if becomes == "failed" else None)
    assert words in line["reason"]


@pytest.mark.parametrize(
    ("has", "lacks", "needs", "checked"),
    [
        (("mtls",), ("audit",), ("audit", "mtls"), True),
        (("mtls",), ("audit",), ("audit", "dry-run"), False),  # the profile says nothing of dry-run
        (("mtls",), ("audit",), ("audit", "mesh-wide"), False),  # which the suite may not do there
        (("mtls",), ("mesh-wide",), ("mesh-wide",), False),
    ],
)
def test_what_is_tried_where_it_is_unsupported(
    has: tuple[str, ...], lacks: tuple[str, ...], needs: tuple[str, ...], checked: bool
) -> None:
    declared = replace(profile(), features=has, unsupported=dict.fromkeys(lacks, "no"))
    scenario = replace(load_scenarios()[0], features=needs)
    assert is_checked(scenario, declared) is checked
