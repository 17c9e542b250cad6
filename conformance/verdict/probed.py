"""The verdict on one probe: what the client saw, the servers' testimony, the controls."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.evidence import Controls, Kind, Observation, Outcome, Testimony
from conformance.verdict.status import Failure, Verdict, failed, inconclusive, passed

__all__ = ["Expected", "is_breach", "judge", "looks_right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What must be, and how this mesh denies. `server_first`: the port speaks before its client does."""

    outcome: Outcome
    workload: str  # tcp-echo.foo
    line: str  # the line sent, its nonce included
    denials: frozenset[Kind]
    server_first: bool = False


UNREACHABLE_KINDS = frozenset({Kind.REFUSED, Kind.CLOSED, Kind.RESET, Kind.TIMED_OUT})


def is_breach(expected: Expected, seen: Observation) -> bool:
    """Whether a connection got through that must not: at the client alone, without any control."""
    if expected.outcome is Outcome.SUCCEEDED:
        return False
    return seen.kind is Kind.ANSWERED or (seen.kind is Kind.BANNER and not _is_plain_banner(expected, seen))


def _is_plain_banner(expected: Expected, seen: Observation) -> bool:
    """A server-first backend's greeting, and nothing that answers the client."""
    return expected.server_first and "hello" not in seen.received


def looks_right(expected: Expected, seen: Observation) -> bool:
    """Whether one observation agrees with the expectation, before controls and testimony are looked at."""
    match expected.outcome:
        case Outcome.SUCCEEDED:
            return seen.kind is Kind.ANSWERED
        case Outcome.REJECTED:
            ended = seen.kind is not Kind.BANNER or seen.ended_by in ("fin", "rst")
            return seen.kind in expected.denials and ended and not is_breach(expected, seen)
        case Outcome.UNREACHABLE:
            return seen.kind in UNREACHABLE_KINDS


def judge(expected: Expected, seen: Observation, controls: Controls, testimony: Testimony) -> Verdict:
    """The verdict on one probe, from both ends' testimony and the controls."""
    if expected.outcome is Outcome.SUCCEEDED:
        return _judge_success(expected, seen, controls, testimony)
    return _judge_denial(expected, seen, controls, testimony)


def _judge_success(
    expected: Expected, seen: Observation, controls: Controls, testimony: Testimony
) -> Verdict:
    elsewhere = [workload for workload in testimony.seen_in if workload != expected.workload]
    if seen.kind is Kind.ANSWERED:
        if elsewhere:
            return failed(Failure.WRONG_BACKEND, f"the nonce is in the log of {', '.join(elsewhere)}")
        if not testimony.complete:  # neither that the named one has it nor that no other has
            return inconclusive(f"answered, but the backends' logs are not known: {testimony.why}")
        if expected.workload in testimony.seen_in:
            return passed(f"{seen.describe()}, and the log of {expected.workload} alone has its nonce")
        return failed(
            Failure.WRONG_BACKEND, f"answered, but the log of {expected.workload} does not have its nonce"
        )
    if seen.kind in (Kind.UNKNOWN, Kind.TIMED_OUT) or seen.kind not in expected.denials:
        return inconclusive(f"{seen.describe()}: this mesh is not known to deny so")
    missing = _missing_control(controls)
    if missing:
        return inconclusive(f"{seen.describe()}, but {missing}")
    delivered = " although its bytes reached the application" if testimony.seen_in else ""
    return failed(Failure.OVER_BLOCKING, f"{seen.describe()}{delivered}")


def _judge_denial(expected: Expected, seen: Observation, controls: Controls, testimony: Testimony) -> Verdict:
    if is_breach(expected, seen):
        return failed(Failure.EXPOSURE, seen.describe())
    if testimony.seen_in:
        where = ", ".join(testimony.seen_in)
        return failed(Failure.DELIVERED, f"{seen.describe()}, but its bytes are in the log of {where}")
    if not looks_right(expected, seen):
        return inconclusive(f"{seen.describe()}: this mesh is not known to deny so")
    missing = _missing_control(controls)
    if missing:
        return inconclusive(f"{seen.describe()}, but {missing}")
    if not testimony.complete:
        return inconclusive(f"{seen.describe()}, but absence in the logs is not proven: {testimony.why}")
    return passed(f"{seen.describe()}, and no workload's log has a byte of it")


def _missing_control(controls: Controls) -> str:
    """Why a denial cannot be believed, in words; empty where every control holds."""
    for name, held in (
        ("the same path did not answer at baseline", controls.baseline),
        ("the backend does not answer inside its own pod", controls.bypass),
    ):
        if held is not True:
            said = name if held is False else f"{name} (not performed)"
            return f"{said}: {controls.why}" if controls.why else said
    if controls.recovery is False:
        return f"the path did not come back after deletion: {controls.why}"
    return ""
