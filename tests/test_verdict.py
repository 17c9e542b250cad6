"""Every way to a verdict. The dangerous ones are those that could say passed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from conformance.evidence import AccessEntry, Controls, Kind, Observation, Outcome
from conformance.evidence import Testimony as Witness  # "Test..." would be collected
from conformance.verdict import (
    ANY,
    Decision,
    Expected,
    Failure,
    Foretold,
    Status,
    Verdict,
    is_breach,
    judge,
    judge_attribution,
    judge_audit,
    judge_counted,
    judge_dry_run,
    judge_foretold,
    looks_right,
    worst,
)

HELD = Controls(baseline=True, bypass=True)
SILENT = Witness(seen_in=(), complete=True)
HEARD = Witness(seen_in=("tcp-echo.foo",), complete=True)
DEAF = Witness(seen_in=(), complete=False, why="the log ended")


def expected(outcome: Outcome, *, server_first: bool = False) -> Expected:
    return Expected(
        outcome=outcome,
        workload="tcp-echo.foo",
        line="port 9000 n0",
        denials=frozenset({Kind.CLOSED, Kind.RESET, Kind.BANNER}),
        server_first=server_first,
    )


def seen(kind: Kind, received: str = "") -> Observation:
    return Observation(kind=kind, received=received, why="so", sent_bytes=9)


CASES = [
    # what must be, what was seen, what the logs say, the verdict
    (Outcome.SUCCEEDED, Kind.ANSWERED, HEARD, Status.PASSED, None),
    (Outcome.SUCCEEDED, Kind.ANSWERED, SILENT, Status.FAILED, Failure.WRONG_BACKEND),
    (Outcome.SUCCEEDED, Kind.ANSWERED, DEAF, Status.INCONCLUSIVE, None),
    (Outcome.SUCCEEDED, Kind.CLOSED, SILENT, Status.FAILED, Failure.OVER_BLOCKING),
    (Outcome.SUCCEEDED, Kind.RESET, SILENT, Status.FAILED, Failure.OVER_BLOCKING),
    (Outcome.SUCCEEDED, Kind.CLOSED, HEARD, Status.FAILED, Failure.OVER_BLOCKING),
    (Outcome.SUCCEEDED, Kind.TIMED_OUT, SILENT, Status.INCONCLUSIVE, None),
    (Outcome.SUCCEEDED, Kind.REFUSED, SILENT, Status.INCONCLUSIVE, None),
    (Outcome.SUCCEEDED, Kind.UNKNOWN, SILENT, Status.INCONCLUSIVE, None),
    (Outcome.REJECTED, Kind.CLOSED, SILENT, Status.PASSED, None),
    (Outcome.REJECTED, Kind.RESET, SILENT, Status.PASSED, None),
    (Outcome.REJECTED, Kind.CLOSED, HEARD, Status.FAILED, Failure.DELIVERED),
    (Outcome.REJECTED, Kind.CLOSED, DEAF, Status.INCONCLUSIVE, None),
    (Outcome.REJECTED, Kind.ANSWERED, HEARD, Status.FAILED, Failure.EXPOSURE),
    (Outcome.REJECTED, Kind.ANSWERED, DEAF, Status.FAILED, Failure.EXPOSURE),
    (Outcome.REJECTED, Kind.BANNER, SILENT, Status.FAILED, Failure.EXPOSURE),
    (Outcome.REJECTED, Kind.TIMED_OUT, SILENT, Status.INCONCLUSIVE, None),
    (Outcome.REJECTED, Kind.REFUSED, SILENT, Status.INCONCLUSIVE, None),
    (Outcome.REJECTED, Kind.UNKNOWN, SILENT, Status.INCONCLUSIVE, None),
    (Outcome.UNREACHABLE, Kind.REFUSED, SILENT, Status.PASSED, None),
    (Outcome.UNREACHABLE, Kind.TIMED_OUT, SILENT, Status.PASSED, None),
    (Outcome.UNREACHABLE, Kind.ANSWERED, HEARD, Status.FAILED, Failure.EXPOSURE),
    (Outcome.UNREACHABLE, Kind.UNKNOWN, SILENT, Status.INCONCLUSIVE, None),
]


@pytest.mark.parametrize(("outcome", "kind", "testimony", "status", "failure"), CASES)
def test_verdict(
    outcome: Outcome, kind: Kind, testimony: Witness, status: Status, failure: Failure | None
) -> None:
    verdict = judge(expected(outcome), seen(kind, "x"), HELD, testimony)
    assert (status, failure) == (verdict.status, verdict.failure)
    assert verdict.reason


@pytest.mark.parametrize("baseline", [True, False, None])
@pytest.mark.parametrize("bypass", [True, False, None])
def test_no_denial_passes_and_none_is_blamed_without_its_controls(
    baseline: bool | None, bypass: bool | None
) -> None:
    controls = Controls(baseline=baseline, bypass=bypass, why="a dead backend")
    held = baseline is True and bypass is True
    for outcome, good in ((Outcome.REJECTED, Status.PASSED), (Outcome.SUCCEEDED, Status.FAILED)):
        verdict = judge(expected(outcome), seen(Kind.CLOSED), controls, SILENT)
        assert verdict.status is (good if held else Status.INCONCLUSIVE)


def test_nothing_passes_where_the_logs_are_incomplete_and_silent() -> None:
    for outcome, kind in itertools.product(Outcome, Kind):
        assert not judge(expected(outcome), seen(kind), HELD, DEAF).passed


def test_a_greeting_is_no_breach_on_a_server_first_port_only() -> None:
    banner = replace(seen(Kind.BANNER, "welcome port 9003\n"), ended_by="fin")
    assert judge(expected(Outcome.REJECTED, server_first=True), banner, HELD, SILENT).passed
    assert is_breach(expected(Outcome.REJECTED), banner)
    hanging = replace(banner, ended_by="deadline")  # greeted and then left alone: nothing has ended
    assert judge(expected(Outcome.REJECTED, server_first=True), hanging, HELD, SILENT).status is (
        Status.INCONCLUSIVE
    )
    half_an_answer = seen(Kind.BANNER, "welcome port 9003\nhello po")
    assert is_breach(expected(Outcome.REJECTED, server_first=True), half_an_answer)


def test_an_answer_passes_only_where_no_other_log_could_have_it_too() -> None:
    half_known = Witness(seen_in=("tcp-echo.foo",), complete=False, why="the log of tcp-echo.bar ended")
    verdict = judge(expected(Outcome.SUCCEEDED), seen(Kind.ANSWERED), HELD, half_known)
    assert verdict.status is Status.INCONCLUSIVE


def test_a_denial_that_the_workload_does_not_tell_of_is_inconclusive() -> None:
    denied = Decision(denied=True, policy=ANY)
    assert judge_attribution(denied, [entry(denied=True, policy="foo/x", rule=1)], wanted=1).passed
    assert judge_attribution(denied, [], wanted=1).status is Status.INCONCLUSIVE
    assert judge_attribution(denied, [entry(denied=False)], wanted=1).failure is Failure.WRONG_REASON


def test_an_answer_from_another_workload_fails_although_the_named_one_heard_it_too() -> None:
    both = Witness(seen_in=("tcp-echo.foo", "tcp-echo.bar"), complete=True)
    verdict = judge(expected(Outcome.SUCCEEDED), seen(Kind.ANSWERED), HELD, both)
    assert verdict.failure is Failure.WRONG_BACKEND


def test_what_looks_right_is_what_could_pass() -> None:
    for outcome, kind in itertools.product(Outcome, Kind):
        testimony = HEARD if outcome is Outcome.SUCCEEDED else SILENT
        could = judge(expected(outcome), seen(kind, "x"), HELD, testimony).passed
        assert could is looks_right(expected(outcome), seen(kind, "x")), (outcome, kind)


def entry(*, denied: bool, policy: str = "", rule: int | None = None, **shadow: Any) -> AccessEntry:
    return AccessEntry(
        workload="tcp-echo.foo",
        source_ip="10.0.0.1",
        destination_port=9000,
        denied=denied,
        policy=policy,
        rule=rule,
        **shadow,
    )


@pytest.mark.parametrize(
    ("decision", "told", "status"),
    [
        (
            Decision(denied=True, policy="f/d", rule=0),
            entry(denied=True, policy="f/d", rule=0),
            Status.PASSED,
        ),
        (Decision(denied=True, policy="f/d"), entry(denied=True, policy="f/d", rule=7), Status.PASSED),
        (Decision(denied=True, policy=None), entry(denied=True), Status.PASSED),
        (Decision(denied=True, policy=None), entry(denied=True, policy="f/d", rule=0), Status.FAILED),
        (Decision(denied=True, policy="f/d"), entry(denied=True), Status.FAILED),
        (
            Decision(denied=True, policy="f/d", rule=1),
            entry(denied=True, policy="f/d", rule=0),
            Status.FAILED,
        ),
        (Decision(denied=False, policy="f/a"), entry(denied=False, policy="f/b", rule=0), Status.FAILED),
        (Decision(denied=False, policy="f/a"), entry(denied=True, policy="f/a", rule=0), Status.FAILED),
    ],
)
def test_the_right_rule_must_have_decided(decision: Decision, told: AccessEntry, status: Status) -> None:
    assert judge_attribution(decision, [told], wanted=1).status is status


@pytest.mark.parametrize(
    ("decision", "policy", "passed"),
    [
        (Decision(denied=True, policy="f/c", rule=0, custom=True), "f/c", True),
        (Decision(denied=True, policy="f/c", rule=1, custom=True), "f/c", False),
        (Decision(denied=True, policy="f/d", rule=0), "f/c", False),
        # A log that does not name the policy, as Istio's.
        (Decision(denied=True, policy="f/c", rule=0, custom=True), "", True),
        (Decision(denied=True, policy="f/d", rule=0), "", False),
        (Decision(denied=True, policy=None), "", False),
        (Decision(denied=True, policy=ANY), "", True),
        (Decision(denied=False, policy="f/c", custom=True), "", False),
    ],
)
def test_what_an_external_authorizer_denied(decision: Decision, policy: str, passed: bool) -> None:
    rule = 0 if policy else None
    told = entry(denied=True, policy=policy, rule=rule, authorizer="ext_authz_denied")
    verdict = judge_attribution(decision, [told], wanted=1)
    assert verdict.status is (Status.PASSED if passed else Status.FAILED)


def test_a_silent_access_log_is_inconclusive() -> None:
    decision = Decision(denied=True, policy=None)
    assert judge_attribution(decision, [], wanted=1).status is Status.INCONCLUSIVE
    assert judge_attribution(decision, [entry(denied=True)], wanted=3).status is Status.INCONCLUSIVE
    assert judge_dry_run("denied", None, None, [], wanted=1).status is Status.INCONCLUSIVE
    shown = entry(denied=False, dry_run_allow="denied")
    assert judge_dry_run("denied", None, None, [shown], wanted=3).status is Status.INCONCLUSIVE


def test_dry_run_results_and_the_policy_they_name() -> None:
    told = entry(denied=False, dry_run_allow="denied", dry_run_deny="allowed", dry_run_deny_policy="f/d")
    assert judge_dry_run("denied", "allowed", "f/d", [told], wanted=1).passed
    assert judge_dry_run("allowed", None, None, [told], wanted=1).failure is Failure.WRONG_REASON
    assert judge_dry_run("denied", None, "f/other", [told], wanted=1).failure is Failure.WRONG_REASON


def test_the_audit_policy_that_is_named() -> None:
    told = entry(denied=False, audited_by="f/a")
    assert judge_audit("f/a", [told]).passed
    assert judge_audit(None, [told]).failure is Failure.WRONG_REASON
    assert judge_audit("f/a", [entry(denied=False)]).failure is Failure.WRONG_REASON
    assert judge_audit(None, [entry(denied=False)]).passed
    assert judge_audit("f/a", []).status is Status.INCONCLUSIVE


def test_the_worst_counts_and_of_nothing_nothing_is_known() -> None:
    verdicts = [Verdict(status=status, reason=status.value) for status in Status]
    assert worst(verdicts).status is Status.FAILED
    assert worst([item for item in verdicts if item.status is not Status.FAILED]).status is (
        Status.INCONCLUSIVE
    )
    assert worst([]).status is Status.INCONCLUSIVE


def test_a_refusal_before_the_policies_is_a_denial_but_no_policy_s() -> None:
    refused = entry(denied=False, refused="the workload takes mutual TLS only")
    anyone = Decision(denied=True, policy=ANY)
    assert judge_attribution(anyone, [refused], wanted=1).passed
    for decision in (
        Decision(denied=True, policy=None),
        Decision(denied=True, policy="foo/x"),
        Decision(denied=False, policy=None),
        Decision(denied=False, policy=ANY),
    ):
        verdict = judge_attribution(decision, [refused], wanted=1)
        assert verdict.failure is Failure.WRONG_REASON


MISS = Foretold(outcome="denied", deciders=(), why="no ALLOW rule matches")
BY_D = Foretold(outcome="denied", deciders=(("foo/d", 0), ("foo/e", 1)), why="DENY matches")
BY_A = Foretold(outcome="allowed", deciders=(("foo/a", 0),), why="ALLOW matches")
FREE = Foretold(outcome="allowed", deciders=(), why="no ALLOW policy governs it")
STRICT = Foretold(outcome="refused", deciders=(), why="plaintext is refused: STRICT by foo/strict")
REFUSED = entry(denied=False, refused="the workload takes mutual TLS only")
UNNAMED = entry(denied=False, names_allows=False)


@pytest.mark.parametrize(
    ("foretold", "told"),
    [
        (MISS, entry(denied=True)),
        (BY_D, entry(denied=True, policy="foo/d", rule=0)),
        (BY_D, entry(denied=True, policy="foo/e", rule=1)),  # which of several is promised nowhere
        (BY_A, entry(denied=False, policy="foo/a", rule=0)),
        (FREE, entry(denied=False)),
        (STRICT, REFUSED),
        (BY_A, UNNAMED),
        (FREE, UNNAMED),
    ],
)
def test_a_decider_that_the_oracle_names(foretold: Foretold, told: AccessEntry) -> None:
    assert judge_foretold(foretold, [told], wanted=1).passed
    assert judge_foretold(foretold, [told], wanted=2).status is Status.INCONCLUSIVE
    assert judge_foretold(foretold, [], wanted=1).status is Status.INCONCLUSIVE


@pytest.mark.parametrize(
    ("foretold", "told", "words"),
    [
        (MISS, entry(denied=True, policy="foo/d", rule=0), "denied by foo/d rule 0"),
        (BY_D, entry(denied=True), "denied, matched no policy"),
        (BY_D, entry(denied=True, policy="foo/d", rule=1), "denied by foo/d rule 1"),
        (BY_D, entry(denied=True, policy="bar/d", rule=0), "denied by bar/d rule 0"),
        (BY_D, REFUSED, "refused before any policy was asked"),
        (MISS, REFUSED, "refused before any policy was asked"),
        (STRICT, entry(denied=True), "denied, matched no policy"),
        (MISS, entry(denied=False), "allowed, matched no policy"),
        (MISS, UNNAMED, "allowed, by which rule is not told"),
        (BY_A, entry(denied=False, policy="foo/b", rule=0), "allowed by foo/b rule 0"),
        (BY_A, entry(denied=False), "allowed, matched no policy"),
        (FREE, entry(denied=False, policy="foo/a", rule=0), "allowed by foo/a rule 0"),
    ],
)
def test_a_decider_that_the_oracle_does_not_name(foretold: Foretold, told: AccessEntry, words: str) -> None:
    right = replace(told, denied=foretold.outcome == "denied", refused="", policy="", rule=None)
    for entries in ([told], [right, told]):
        verdict = judge_foretold(foretold, entries, wanted=1)
        assert verdict.failure is Failure.WRONG_REASON
    verdict = judge_foretold(foretold, [told], wanted=1)
    assert "for the wrong reason" in verdict.reason
    assert words in verdict.reason
    assert foretold.why in verdict.reason


@pytest.mark.parametrize(
    ("moved", "absent", "status"),
    [
        (2, (), Status.PASSED),
        (1, (), Status.FAILED),  # something else closed the other one
        (3, (), Status.INCONCLUSIVE),  # somebody else was denied meanwhile
        (0, ("tcp.rbac.denied",), Status.INCONCLUSIVE),
    ],
)
def test_counters_must_move_by_what_was_sent(moved: int, absent: tuple[str, ...], status: Status) -> None:
    verdict = judge_counted({"tcp.rbac.denied": 2}, {"tcp.rbac.denied": moved}, absent)
    assert verdict.status is status


def test_a_refusal_by_transport_can_be_what_was_written() -> None:
    refused = Decision(denied=True, policy=None, refused=True)
    assert judge_attribution(refused, [REFUSED], wanted=1).passed
    for other in (entry(denied=True), entry(denied=False)):
        assert judge_attribution(refused, [other], wanted=1).failure is Failure.WRONG_REASON
