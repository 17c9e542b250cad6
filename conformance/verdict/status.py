"""What a verdict is, and the worst of several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

__all__ = ["Failure", "Status", "Verdict", "failed", "inconclusive", "passed", "worst"]


class Status(Enum):
    """Of a case or of one expectation."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    SKIPPED = "skipped"
    UNSUPPORTED = "unsupported"
    KNOWN_DEVIATION = "known-deviation"


class Failure(Enum):
    """What kind of failure. The value is what a reader sees."""

    EXPOSURE = "allowed but forbidden"
    DELIVERED = "a rejected client's bytes reached the application"
    OVER_BLOCKING = "over-blocking"
    WRONG_BACKEND = "answered by another workload than the named one"
    WRONG_REASON = "wrong reason"
    NOT_REFUSED = "not refused by validation"
    REFUSED = "refused by validation"
    WARNING = "wrong warnings"
    READ_BACK = "read back differently"
    RESTARTED = "other processes than before"
    MISCOUNTED = "counted otherwise than sent"
    NOT_RECOVERED = "still rejected after deletion"
    SUPPORTED = "declared unsupported and works"
    DEVIATION = "known deviation expired or fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    status: Status
    reason: str
    failure: Failure | None = None

    @property
    def passed(self) -> bool:
        return self.status is Status.PASSED


# From bad to good, for the worst of several. A breach outweighs missing evidence: it was seen.
GRAVITY = (
    Status.FAILED,
    Status.INCONCLUSIVE,
    Status.KNOWN_DEVIATION,
    Status.UNSUPPORTED,
    Status.SKIPPED,
    Status.PASSED,
)


def passed(reason: str) -> Verdict:
    return Verdict(status=Status.PASSED, reason=reason)


def failed(failure: Failure, reason: str) -> Verdict:
    return Verdict(status=Status.FAILED, reason=reason, failure=failure)


def inconclusive(reason: str) -> Verdict:
    return Verdict(status=Status.INCONCLUSIVE, reason=reason)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest, the first of several equal ones; of none, inconclusive: nothing was asked."""
    ranked = sorted(verdicts, key=lambda verdict: GRAVITY.index(verdict.status))
    return ranked[0] if ranked else inconclusive("nothing was asked")
