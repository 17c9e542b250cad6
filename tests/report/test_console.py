"""What a reader of the terminal gets to know."""

from __future__ import annotations

import pytest

from conformance.record import exit_code
from conformance.report.console import case_text, summary_text
from conformance.report.figures import over_budget, percentile, requirement_statuses
from tests import lines


def test_a_failed_case_tells_everything() -> None:
    case = lines.case("g/a", "failed", reason="it got through", failure="allowed but forbidden")
    text = case_text(case, {"DOC-02": "“port 9001 is rejected” (the page)"}, "pytest -k g/a")
    for expected in (
        "The case g/a holds",
        "FAILED (allowed but forbidden): it got through",
        "DOC-02: “port 9001 is rejected” (the page)",
        "apply AuthorizationPolicy/foo/p: 201",
        "warning: careful",
        "landed (none): seen",
        "FAIL sleep.foo -> tcp-echo.foo:9001: expected rejected by no ALLOW rule matched; "
        "observed closed (FIN) after its first byte was sent",
        "the mesh says: denied, matched no policy",
        '"kind": "AuthorizationPolicy"',
        "again: pytest -k g/a",
    ):
        assert expected in text


def test_the_summary_counts_and_says_the_verdict() -> None:
    cases = [
        lines.case("g/a"),
        lines.case("g/b", "failed", failure="over-blocking"),
        lines.case("g/c", "inconclusive"),
    ]
    text = summary_text([lines.header("g/a", "g/b", "g/c", selection="-k g"), *cases, lines.footer(1)])
    assert "scenarios     1 passed, 1 failed, 1 inconclusive, 0 skipped" in text
    assert "requirements  0 passed, 2 failed" in text
    assert "p50 20 ms, p95 20 ms" in text
    assert "-k g: no statement about the whole level" in text
    assert "reports/r1" in text
    assert text.endswith("FAILED: the mesh does not do what the documents say")


def test_a_requirement_is_as_bad_as_its_worst_case() -> None:
    cases = [lines.case("g/a"), lines.case("g/b", "inconclusive"), lines.case("g/c", "skipped")]
    assert requirement_statuses(cases) == {"DOC-02": "inconclusive", "RUN-01": "inconclusive"}


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.95, 4.0), (1.0, 4.0), (0.0, 1.0)])
def test_percentile(share: float, value: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], share) == value


def test_the_times_the_watch_and_the_findings_are_in_the_summary() -> None:
    cases = [lines.case("g/a"), lines.case("g/b")]
    cases[1]["controls"]["recovery"] = cases[1]["controls"]["baseline"] | {"recovered_ms": 12.0}
    text = summary_text([lines.header("g/a", "g/b"), *cases, lines.footer(0)])
    assert "enforced in   p50 20 ms, p95 20 ms, max 20 ms" in text
    assert "recovered in  p50 12 ms, p95 12 ms, max 12 ms" in text
    assert "exposure      4 probes of forbidden paths after landing, 0 got through" in text
    assert "findings      1 medium\n  medium  RUN-04    a client that is denied holds a connection" in text
    assert "(2 cases)" in text


def test_over_budget_is_said_and_is_no_success() -> None:
    budgets = {"time_to_enforce_p95": 10, "time_to_enforce_max": 20, "time_to_recover_max": 1}
    over = over_budget([lines.case("g/a")], budgets)
    assert over == [{"budget": "time_to_enforce_p95", "limit_ms": 10, "measured_ms": 20.0}]
    code = exit_code([lines.case("g/a")], ["g/a"], over=bool(over))
    text = summary_text([lines.header("g/a"), lines.case("g/a"), lines.footer(code) | {"over_budget": over}])
    assert "OVER BUDGET: time_to_enforce_p95 is 20 ms, the profile's budget is 10 ms" in text
    assert text.endswith("PARTIAL: what ran holds, but a time is over its budget")


def test_a_known_deviation_is_told_with_who_answers_for_it() -> None:
    entry: lines.Line = {
        "case": "g/a",
        "requirement": "",
        "reason": "so",
        "link": "https://x",
        "approver": "jane",
    }
    entry |= {"expires": "2027-03-31", "file": "known.yaml", "line": 3}
    case = lines.case("g/a", "known-deviation", failure="over-blocking") | {"known_deviation": entry}
    text = summary_text([lines.header("g/a"), case, lines.footer(7)])
    assert "  g/a: so (https://x; jane, until 2027-03-31)" in text
    assert text.endswith("PARTIAL: what ran holds, but known deviations do not hold")
    stale = [entry | {"why": "every case of DOC-02 passes"}]
    text = summary_text(
        [lines.header("g/a"), lines.case("g/a"), lines.footer(1) | {"stale_deviations": stale}]
    )
    assert "TO BE TAKEN OFF THE LIST (known.yaml:3): every case of DOC-02 passes" in text


def test_a_breach_of_the_watch_is_told_with_its_time() -> None:
    case = lines.case("g/a", "failed", reason="it got through", failure="allowed but forbidden")
    breach = {"from": "sleep.foo", "to": "tcp-echo.foo", "via": "service", "port": 9001, "offset_ms": 51.0}
    case["steps"][0]["exposure"]["breaches"] = [breach | {"described": "answered 'hello'"}]
    text = case_text(case, {}, "again")
    assert "then watched for 6 ms: 2 probes of 1 forbidden paths" in text
    assert "FAIL sleep.foo -> tcp-echo.foo:9001: opened 51 ms into the case; answered 'hello'" in text


def test_a_selection_makes_no_statement_about_the_level() -> None:
    whole = summary_text([lines.header("g/a"), lines.case("g/a"), lines.footer(0)])
    part = summary_text([lines.header("g/a", selection="-k a"), lines.case("g/a"), lines.footer(0)])
    assert "every case of the asked level holds" in whole
    assert "every case of the asked level holds" not in part
    assert part.endswith("PASSED: the selected cases hold")


def test_the_summary_says_where_deciders_are_not_known_by_rule() -> None:
    known = lines.case("g/a")
    run = [lines.header("g/a", "g/b", "g/c"), known, lines.footer()]
    assert "attribution" not in summary_text(run)
    others = [lines.case("g/b") | {"attribution": "unavailable"}, lines.case("g/c") | {"attribution": None}]
    text = summary_text([*run[:2], *others, run[-1]])
    assert "attribution   unavailable: what denied is not known (1 cases)" in text
    assert "attribution   access-log: the policy and rule of each decision (1 cases)" in text
