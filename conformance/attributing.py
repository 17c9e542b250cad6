"""Who decided, for each probe: the oracle's word against the access log's or the counters'."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from conformance.attribution import Path
from conformance.counting import Counts, count, counts_work
from conformance.evidence import AccessEntry, Outcome
from conformance.in_force import Answer
from conformance.profile import UNAVAILABLE
from conformance.rig import Rig
from conformance.scenario import By, Expectation
from conformance.steps import Hand
from conformance.sweep import Case, Lane, path_of, sweep
from conformance.topology import Ref
from conformance.verdict import (
    ANY,
    Decision,
    Status,
    Verdict,
    judge_attribution,
    judge_audit,
    judge_dry_run,
    judge_foretold,
)

__all__ = [
    "await_entries",
    "count_where_needed",
    "entries_of",
    "judge_deciders",
    "settle_attribution",
]

CLIENT, SERVER = Ref(name="sleep", namespace="foo"), Ref(name="tcp-echo", namespace="foo")
MARKER = Lane(source=CLIENT, target=SERVER, via="pod", port=9000, workload=SERVER, workload_port=9000)


def settle_attribution(rig: Rig, say: Callable[[str], None], *, patience: float = 0.0) -> None:
    """Once per run: the first of the profile's ways that works, tried only where there is a choice.
    `patience`: for how many seconds a line is waited for, where access logs were just switched on."""
    ways = rig.profile.attribution
    if len(ways) < 2 and not (patience and ways):
        return
    tests: Mapping[str, Callable[[], bool]] = {
        "access-log": lambda: _is_logged(rig, time.monotonic() + patience),
        "counters": lambda: counts_work(rig, SERVER),
    }
    rig.attribution = next((way for way in ways if tests[way]()), UNAVAILABLE)
    rig.forget()
    say(f"attribution: {rig.attribution}")


def _is_logged(rig: Rig, until: float) -> bool:
    """Whether a connection of ours appears in the access log; asked again until `until`."""
    path = path_of(rig, MARKER)
    while True:
        sweep(rig, [MARKER])
        if rig.access.wait_for({path: 1}, deadline=time.monotonic() + rig.profile.deadlines.attribution):
            # The others, too, before they are forgotten.
            sent = {path: rig.sent[path]}
            if not rig.access.wait_for(sent, deadline=time.monotonic() + rig.profile.deadlines.attribution):
                rig.sent[path] = rig.access.count(path)  # they were made before the log was on
            return True
        if time.monotonic() >= until:
            return False


def await_entries(rig: Rig, cases: Sequence[Case]) -> bool:
    """Waits for the access log's entries of all probes sent so far; not at all where it does not tell."""
    if rig.attribution != "access-log":
        return True
    paths = {path_of(rig, case.lane) for case in cases if rig.pods[case.lane.workload].sidecar}
    return rig.access.wait_for(
        {path: rig.sent.get(path, 0) for path in paths},
        deadline=time.monotonic() + rig.profile.deadlines.attribution,
    )


def entries_of(rig: Rig, lane: Lane, before: Mapping[Path, int]) -> tuple[AccessEntry, ...]:
    """The entries of a lane's path after the first `before` ones."""
    path = path_of(rig, lane)
    return rig.access.since(path, before.get(path, 0))


def count_where_needed(
    rig: Rig, cases: Sequence[Case], answers: Sequence[Answer], before: Mapping[Path, int]
) -> Counts | None:
    """The counted sweep, where the counters are what is left to tell of denials or of dry-run results."""
    if not answers or "counters" not in rig.profile.attribution:
        return None
    silent = any(
        case.expectation.dry_run and not entry.names_allows
        for case in cases
        for entry in entries_of(rig, case.lane, before)
    )
    return count(rig, cases, answers) if rig.attribution == "counters" or silent else None


def judge_deciders(
    rig: Rig,
    hand: Hand,
    case: Case,
    answer: Answer | None,
    before: Mapping[Path, int],
    counts: Counts | None,
) -> list[Verdict]:
    """The verdicts on who decided, of a lane whose probe went as expected. `answer` None: the oracle was not
    asked, and only what the author wrote is judged."""
    lane, expectation = case.lane, case.expectation
    found: list[Verdict] = []
    if answer and answer.doubt:
        found.append(Verdict(status=Status.INCONCLUSIVE, reason=answer.doubt))
    if not rig.pods[lane.workload].sidecar:
        return found  # nobody there decides
    if rig.attribution == "counters":
        return found + (_counted(expectation, lane, counts) if counts else [])
    if rig.attribution != "access-log":
        return found
    entries = entries_of(rig, lane, before)
    path = path_of(rig, lane)
    wanted = rig.sent.get(path, 0) - before.get(path, 0) - _of_counting(rig, path, counts)
    if answer and answer.foretold:
        found.append(judge_foretold(answer.foretold, entries, wanted=wanted))
    elif not answer or not answer.doubt:
        found += _as_written(hand, expectation, entries, wanted)
    if expectation.dry_run:
        if counts and entries and not entries[0].names_allows:
            found.append(counts.dry_runs[lane.workload])
        else:
            shadow = expectation.dry_run
            named = None if shadow.policy is None else hand.policy_name(shadow.policy)
            found.append(judge_dry_run(shadow.allow, shadow.deny, named, entries, wanted=wanted))
    if str(lane.workload) in rig.silent_sidecars():
        ended = f"the access log of {lane.workload} ended"
        found = [each for each in found if each.status is not Status.INCONCLUSIVE]
        found.append(Verdict(status=Status.INCONCLUSIVE, reason=ended))
    if expectation.audited:
        found.append(judge_audit(_policy_name(hand, expectation.audited), entries))
    return found


def _of_counting(rig: Rig, path: Path, counts: Counts | None) -> int:
    """Connections of the path that the counted sweep made; their entries are not waited for."""
    return sum(path_of(rig, one.lane) == path for one in counts.probed) if counts else 0


def _counted(expectation: Expectation, lane: Lane, counts: Counts) -> list[Verdict]:
    found = []
    if expectation.outcome is Outcome.REJECTED and lane.workload in counts.denials:
        found.append(counts.denials[lane.workload])
    if expectation.dry_run and lane.workload in counts.dry_runs:
        found.append(counts.dry_runs[lane.workload])
    return found


def _as_written(
    hand: Hand, expectation: Expectation, entries: Sequence[AccessEntry], wanted: int
) -> list[Verdict]:
    denied = expectation.outcome is not Outcome.SUCCEEDED
    if by := expectation.by:
        decision = Decision(
            denied=denied,
            policy=_policy_name(hand, by),
            rule=by.rule,
            refused=by.peer_authentication,
            custom=by.policy is not None and hand.is_custom(by.policy),
        )
    elif expectation.outcome is Outcome.REJECTED:
        # A connection that ends before it reaches the workload's sidecar looks the same to its client.
        decision = Decision(denied=True, policy=ANY)
    else:
        return []
    return [judge_attribution(decision, entries, wanted=wanted)]


def _policy_name(hand: Hand, by: By) -> str | None:
    return None if by.policy is None else f"{hand.resolve(by.namespace)}/{hand.resolve(by.policy)}"
