"""Features that a profile declares unsupported, checked for absence: their cases run and must not pass."""

from __future__ import annotations

from typing import Any

from conformance.profile import Profile
from conformance.record import Line
from conformance.scenario import Scenario
from conformance.verdict import Failure, Status

__all__ = ["is_checked", "judge_absence"]

# What a scenario may try on any mesh. The others are about what the suite may do to it, so nothing is tried.
TRIED = frozenset(
    {"audit", "custom", "dry-run", "mtls", "peer-authentication", "routing", "sni", "trust-domain-alias"}
)


def is_checked(scenario: Scenario, profile: Profile) -> bool:
    """Whether a scenario that needs unsupported features is run all the same."""
    lacking = set(scenario.features) - set(profile.features)
    return lacking <= TRIED & set(profile.unsupported)


def judge_absence(line: dict[str, Any], declared: str) -> Line:
    """The case's line once it has run. `declared`: the profile's word, feature and reason."""
    if line["status"] == Status.PASSED.value:
        reason = f"declared unsupported ({declared}), yet the case passes: the profile is wrong"
        return line | {
            "status": Status.FAILED.value,
            "failure": Failure.SUPPORTED.value,
            "reason": reason,
        }
    checked = "checked for absence" if line["status"] == Status.FAILED.value else "absence is not proven"
    return line | {
        "status": Status.UNSUPPORTED.value,
        "failure": None,
        "reason": f"{declared}; {checked}: {line['reason']}",
    }
