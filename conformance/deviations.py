"""Known deviations: what a profile's owner answers for, and when that ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

from conformance.errors import InputError
from conformance.profile import Profile
from conformance.record import Line
from conformance.scenario import Scenario
from conformance.verdict import Failure, Status

__all__ = ["check_deviations", "deviate"]


def check_deviations(profile: Profile, scenarios: Sequence[Scenario]) -> None:
    """Raises InputError for a known deviation of a case that does not exist: it would never be reviewed."""
    known = {scenario.id for scenario in scenarios}
    for deviation in profile.known_deviations:
        if deviation.case not in known:
            raise InputError(f"profile {profile.name}: a known deviation names no case: {deviation.case!r}")


def deviate(line: Line, profile: Profile, today: date) -> Line:
    """The line after the profile's known deviations: a failure that is answered for is no failure, one that
    is gone or expired is."""
    for known in profile.known_deviations:
        if known.case != line["id"]:
            continue
        expired = date.fromisoformat(known.expires) < today
        changed: Line = {"known_deviation": asdict(known)}
        if line["status"] == Status.FAILED.value and not expired:
            changed |= {"status": Status.KNOWN_DEVIATION.value}
        elif line["status"] in (Status.FAILED.value, Status.PASSED.value):
            why = f"it expired on {known.expires}" if expired else "the case passes"
            reason = f"the known deviation must be taken off the list: {why}; {line['reason']}"
            failure = Failure.DEVIATION.value
            changed |= {"status": Status.FAILED.value, "failure": failure, "reason": reason}
        return {**line, **changed}
    return line
