"""What a case that is a function does and sees: baseline, barrier, evidence, recovery and record are those of
a scenario, the order of things is in the function's own hands.

The first verdict that is no pass ends the function; what it has made is undone whatever happens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from conformance.errors import SetupError
from conformance.evidence import Kind, Observation, Outcome
from conformance.exposure import end_watch
from conformance.findings import finding
from conformance.lines import close_step, control_line, step_line, waited_line
from conformance.look import Context, look, milliseconds
from conformance.notes import CaseResult, Notes, Settled
from conformance.open_paths import await_landing, hold_baseline
from conformance.rig import Rig
from conformance.run import carry_out
from conformance.scenario import By, Expectation, Refusal, Scenario
from conformance.step_result import Made
from conformance.steps import Hand
from conformance.sweep import Probed, bypass, lanes, sweep
from conformance.topology import Ref
from conformance.verdict import Failure, Status, Verdict, is_breach

__all__ = ["Act", "Body", "policy", "row", "run_function"]

API_VERSION = "security.istio.io/v1"


def row(
    source: str,
    target: str,
    *ports: int,
    outcome: str,
    by: By | None = None,
    via: str = "service",
) -> Expectation:
    """One row of a table of connections, as a scenario's `expect` has it."""
    return Expectation(
        source=Ref.parse(source),
        target=Ref.parse(target),
        ports=ports,
        outcome=Outcome(outcome),
        via=via,
        by=by,
    )


def policy(name: str, spec: Mapping[str, Any], *, namespace: str = "${foo}") -> dict[str, Any]:
    """An AuthorizationPolicy; placeholders are those of scenarios."""
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": API_VERSION,
        "kind": "AuthorizationPolicy",
        "metadata": metadata,
        "spec": dict(spec),
    }


class Act:
    """A running case. `rig` is for what has no method here."""

    def __init__(self, rig: Rig, case: Scenario, hand: Hand, notes: Notes) -> None:
        self.rig = rig
        self.told: list[str] = []
        self._case = case
        self._hand = hand
        self._notes = notes
        self._api: list[dict[str, Any]] = []
        self._applied = time.monotonic()

    # Changes

    def begin(self, rows: Sequence[Expectation]) -> None:
        """The baseline: every path of the table answers, and must answer again at the end."""
        targets = list(dict.fromkeys(case.lane for case in lanes(rows)))
        self._notes.targets += targets
        self.rig.open_sessions({lane.source for lane in targets})
        hold_baseline(self.rig, targets, self._notes)

    def rest(self) -> None:
        """Ends the exposure watch of the last `expect`, as every change does: from here on nobody probes but
        the case itself."""
        end_watch(self.rig)
        if self.rig.exposed:
            raise Settled

    def apply(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """Applies a document; the API's warnings. Its landing is awaited by the next `expect`."""
        self.rest()
        made = self._made(self._hand.put(body))
        return tuple(text for entry in made.api for text in entry["warnings"])

    def apply_strictly(self, body: Mapping[str, Any], *, refused: Refusal | None = None) -> None:
        """Applies a document with strict field validation; with `refused` it must be refused so, and nothing
        may have changed."""
        self._made(self._hand.put(body, refused=refused, strict=True))

    def delete(self, body: Mapping[str, Any]) -> None:
        self.rest()
        self._made(self._hand.drop(body))

    def restart(self, ref: str) -> None:
        """Replaces the workload's pod. A next one that does not become ready is a failure of the mesh: the
        workload's own probes held before."""
        self.rest()
        old = self.rig.pods[Ref.parse(ref)]
        try:
            new = self.rig.restart(Ref.parse(ref))
        except SetupError as error:
            self.fail(Failure.OVER_BLOCKING, f"{ref} did not become ready again: {error.message}")
        self._api.append({"action": "restart", "object": f"Pod/{new.key}", "code": 200})
        self._api[-1] |= {"reason": "", "message": f"instead of {old.key}", "warnings": []}

    def resolve(self, value: Any) -> Any:
        """A value with its placeholders filled in."""
        return self._hand.resolve(value)

    def _made(self, made: Made) -> Made:
        self._notes.unproven.merge(made)
        self._api += made.api
        self._applied = time.monotonic()
        for verdict in made.verdicts:
            if not verdict.passed:
                self.settle(verdict)
        return made

    # Looks

    def land(self, refs: Sequence[str], *, pods: Sequence[str] = ()) -> None:
        """Waits until everything made so far holds at these workloads and pods (namespace/name); where it
        does not, the case ends."""
        keys = [self.rig.pods[Ref.parse(ref)].key for ref in refs]
        timeout = self.rig.profile.deadlines.barrier
        waited = self.rig.barrier.wait(self._notes.unproven.changes, pods=[*keys, *pods], timeout=timeout)
        if not waited.landed:
            self.doubt(f"the change is not proven to have landed: {waited.detail}")
        self._notes.unproven = Made()

    def expect(self, rows: Sequence[Expectation], *, what: str, proven: bool = True) -> None:
        """One step of the record: the barrier, rounds until they agree, both ends' testimony, the verdict.
        `proven` false: no barrier, for where nothing was changed and nobody is there to tell."""
        self.rest()
        notes, cases = self._notes, lanes(rows)
        line = step_line(len(notes.steps) + 1, what, file_line=self._case.line)
        line["api"], self._api = self._api, []
        changed = bool(line["api"])
        notes.steps.append(line)
        if proven:
            waited = await_landing(self.rig, notes.unproven.changes, [case.lane for case in cases])
            line["barrier"] = waited_line(waited)
            line["timings"]["landed_ms"] = milliseconds(time.monotonic() - notes.begun)
            if not waited.landed:
                line["reason"] = f"the change is not proven to have landed: {waited.detail}"
                self.doubt(line["reason"])
            notes.unproven = Made()
        context = Context(
            begun=notes.begun,
            applied=self._applied,
            baseline=notes.baseline,
            findings=notes.findings,
            forbidden=notes.forbidden,
        )
        verdicts = look(self.rig, self._hand, cases, line, context)
        if not changed:
            line["time_to_enforce_ms"] = None  # nothing was to be enforced anew
        self.settle(close_step(line, verdicts))

    def backend_lives(self, ref: str, port: int) -> None:
        """The workload answers inside its own pod, where no policy has a say; else the case ends."""
        target = (Ref.parse(ref), port)
        _, seen = bypass(self.rig, [target])[target]
        self._notes.controls["bypass"] = control_line(1, [(ref, ref, "loopback", port, seen)])
        if seen.kind is not Kind.ANSWERED:
            self.doubt(f"{ref} does not answer inside its own pod: {seen.describe()}")

    def control(self, name: str, source: str, pod: str, seen: Mapping[int, Observation]) -> None:
        """The `baseline` or `recovery` of a pod that is born inside the case: what was seen by port, before
        the policy and after its deletion. All of it must answer, else the case ends."""
        line = control_line(1, [(source, pod, "pod", port, found) for port, found in seen.items()])
        self._notes.controls[name] = line
        for port, found in seen.items():
            if found.kind is not Kind.ANSWERED:
                self.doubt(f"{name}: {source} -> {pod}:{port} does not answer: {found.describe()}")

    def sweep(self, rows: Sequence[Expectation], *, allowed_may_fail: bool = False) -> int:
        """One round without waiting for anything: how many probes it made. A forbidden connection that gets
        through ends the case, and so does an allowed one that does not, unless it may."""
        return len(self.probe(rows, allowed_may_fail=allowed_may_fail))

    def probe(self, rows: Sequence[Expectation], *, allowed_may_fail: bool = False) -> list[Probed]:
        """As `sweep`; what was seen."""
        cases = lanes(rows)
        probed = sweep(self.rig, [case.lane for case in cases])
        denials = frozenset(self.rig.profile.denials)
        for case, one in zip(cases, probed, strict=True):
            outcome = case.expectation.outcome
            if outcome is not Outcome.SUCCEEDED:
                self._notes.forbidden += [] if one.misled else [one]
                if is_breach(one.expected(outcome, denials), one.seen):
                    self.fail(Failure.EXPOSURE, _said(one))
            elif one.seen.kind is Kind.UNKNOWN:
                self.doubt(_said(one))
            elif one.seen.kind is not Kind.ANSWERED and not allowed_may_fail:
                self.fail(Failure.OVER_BLOCKING, _said(one))
        return probed

    # Verdicts

    def fail(self, failure: Failure, reason: str) -> NoReturn:
        """The mesh did what it must not."""
        self._notes.verdicts.append(Verdict(status=Status.FAILED, failure=failure, reason=reason))
        raise Settled

    def doubt(self, reason: str) -> NoReturn:
        """Something could not be asked."""
        self._notes.verdicts.append(Verdict(status=Status.INCONCLUSIVE, reason=reason))
        raise Settled

    def passes(self, reason: str) -> None:
        """What was seen and is right; stands in the record as the reason of the pass."""
        self.told.append(reason)
        self._notes.verdicts.append(Verdict(status=Status.PASSED, reason=reason))

    def note(self, field: str, value: Any) -> None:
        """A field of the case's line that few cases have."""
        self._notes.extra[field] = value

    def observe(self, requirement: str, *, severity: str, seen: str) -> None:
        """A finding; why it matters and what a user can do says findings.yaml. No verdict hangs on it."""
        self._notes.findings.append(finding(requirement, severity=severity, seen=seen))
        self.passes(seen)

    def settle(self, verdict: Verdict) -> None:
        """Notes a verdict; one that is no pass ends the case."""
        self._notes.verdicts.append(verdict)
        if not verdict.passed:
            raise Settled


Body = Callable[[Act], None]


def run_function(case: Scenario, rig: Rig, body: Body) -> CaseResult:
    """Runs a case that is a function; `run.run_case` for the other kind."""
    notes = Notes(begun=time.monotonic())
    hand = Hand(rig, case)
    act = Act(rig, case, hand, notes)

    def play() -> None:
        body(act)
        if not notes.verdicts:
            raise SetupError(f"{case.id} looked at nothing")

    result = carry_out(rig, hand, notes, play)
    if result.verdict.passed and act.told:
        result.line["reason"] = "; ".join(act.told)
    return result


def _said(probed: Probed) -> str:
    return f"{probed.lane}: {probed.seen.describe()}"
