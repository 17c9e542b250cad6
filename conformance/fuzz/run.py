"""Generated policies as one case of a run: tried in batches, shrunk where they disagree, written out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from conformance.act import Act
from conformance.fuzz.batch import Examined, Trial, clear, examine, hold_table
from conformance.fuzz.cases import PolicySet
from conformance.fuzz.pool import Pool, open_pool, slots_for
from conformance.fuzz.shrink import shrink
from conformance.fuzz.writeout import write_scenario
from conformance.sweep import Lane
from conformance.verdict import Failure, Status

__all__ = ["GENERATED", "Asked", "Tally", "batches", "generate"]

GENERATED = "generated/policies"
# Of the sets that disagree, how many are shrunk; a mesh that does nothing right has a thousand.
MOST_SHRUNK = 3
# So many are tried while the next ones are drawn.
CHUNK = 200
SCENARIOS = "scenarios"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """`directory`: the run's own, for what is written out."""

    count: int
    seed: int
    directory: Path
    manifests: Path
    keep: bool = False


@dataclass(slots=True, kw_only=True)
class Tally:
    """What has come of a run so far; times in seconds."""

    count: int
    seed: int
    drawn_s: float = 0.0
    tried_s: float = 0.0
    sets: int = 0
    batches: int = 0
    probes: int = 0
    late: int = 0
    disagreements: list[dict[str, Any]] = field(default_factory=list)
    inconclusive: list[dict[str, Any]] = field(default_factory=list)

    def take(self, found: Sequence[Examined]) -> list[Examined]:
        """Counts a batch; the sets of it that disagree."""
        self.batches += 1
        for one in found:
            self.sets += 1
            self.probes += one.probes
            self.late += one.late
            if one.verdict.status is Status.INCONCLUSIVE:
                self.inconclusive.append({"set": one.trial.number, "reason": one.verdict.reason})
        return [one for one in found if one.disagrees]

    @property
    def again(self) -> str:
        return f"make fuzz N={self.count} SEED={self.seed}"

    def line(self) -> dict[str, Any]:
        """As the record has it; docs/record.md."""
        return {
            "asked": self.count,
            "seed": self.seed,
            "sets": self.sets,
            "batches": self.batches,
            "probes": self.probes,
            "late": self.late,
            "drawn_ms": round(self.drawn_s * 1000, 3),
            "tried_ms": round(self.tried_s * 1000, 3),
            "disagreements": self.disagreements,
            "inconclusive": self.inconclusive,
            "again": self.again,
        }


def batches(trials: Sequence[Trial], size: int) -> Iterator[list[Trial]]:
    """All of them once. Mesh-wide sets stand alone; those that change how clients speak stand together,
    because every sidecar is told of each."""
    alone = [trial for trial in trials if trial.drawn.mesh_wide]
    for transport in (False, True):
        some = [one for one in trials if not one.drawn.mesh_wide and one.drawn.transport is transport]
        yield from (some[start : start + size] for start in range(0, len(some), size))
    yield from ([trial] for trial in alone)


def _chunks(drawn: Iterator[PolicySet], tally: Tally) -> Iterator[list[Trial]]:
    """The sets in the order of the draw, numbered; the first ones while the others are still being drawn."""
    numbered = enumerate(drawn)
    while True:
        begun = time.monotonic()
        chunk = [Trial(number=number, drawn=one) for number, one in islice(numbered, CHUNK)]
        tally.drawn_s += time.monotonic() - begun
        if not chunk:
            return
        yield chunk


def generate(act: Act, asked: Asked) -> None:
    """The case. Ends with the worst that was seen; what was counted stands in the record either way."""
    # Hypothesis is slow to import, and runs without generated policies need none of it.
    from conformance.fuzz.grammar import Drawing, acceptable

    tally = Tally(count=asked.count, seed=asked.seed)
    drawing = Drawing(asked.seed, asked.count, frozenset(act.rig.profile.features))
    with ExitStack() as stack:
        stack.callback(drawing.stop)
        pool = stack.enter_context(
            open_pool(act.rig, manifests=asked.manifests, slots=slots_for(asked.count), keep=asked.keep)
        )
        baseline, missing = hold_table(pool, pool.rig.profile.deadlines.ready)
        if missing:
            said = "; ".join(f"{one.lane}: {one.seen.describe()}" for one in missing[:4])
            act.doubt(f"the baseline does not hold, so nothing can be concluded: {said}")
        begun = time.monotonic()
        try:
            for trials in _chunks(drawing.sets(), tally):
                for batch in batches(trials, len(pool.slots)):
                    for one in tally.take(examine(pool, batch, baseline, whole=False)):
                        _report(pool, one, baseline, tally, asked, acceptable)
        finally:
            tally.tried_s = time.monotonic() - begun - tally.drawn_s
            act.note("generated", tally.line())
        waited = clear(pool)
        _, missing = hold_table(pool, pool.rig.profile.deadlines.recovery)
    _conclude(act, tally)
    if not waited.landed:
        act.doubt(f"the deletion is not proven to have landed: {waited.detail}")
    if missing:
        said = "; ".join(f"{one.lane}: {one.seen.describe()}" for one in missing[:4])
        act.doubt(f"the paths did not come back: {said}")
    act.passes(f"{tally.sets} sets, {tally.probes} connections, each as foretold")


def _report(
    pool: Pool,
    found: Examined,
    baseline: set[Lane],
    tally: Tally,
    asked: Asked,
    acceptable: Callable[[PolicySet], bool],
) -> None:
    """Shrinks a set that disagrees, writes it out and notes it."""
    line: dict[str, Any] = {
        "set": found.trial.number,
        "failure": found.verdict.failure.value if found.verdict.failure else None,
        "reason": _reason(found),
        "documents": list(found.trial.drawn.documents),
        "again": False,
        "shrunk": None,
        "file": None,
    }
    tally.disagreements.append(line)
    if len(tally.disagreements) > MOST_SHRUNK:
        return

    def disagree(drawn: Sequence[PolicySet]) -> list[bool]:
        tried = examine(pool, [Trial(number=found.trial.number, drawn=one) for one in drawn], baseline)
        tally.probes += sum(one.probes for one in tried)
        return [one.disagrees for one in tried]

    smallest = found.trial.drawn
    # Alone, too? What was seen once stays a disagreement, but it cannot be made smaller.
    [line["again"]] = disagree([smallest])
    if line["again"]:
        smallest = shrink(smallest, disagree=disagree, acceptable=acceptable, at_once=len(pool.slots))
    line["shrunk"] = list(smallest.documents)
    file = write_scenario(
        smallest,
        asked.directory / SCENARIOS,
        seed=asked.seed,
        number=found.trial.number,
        why=[_reason(found)],
    )
    line["file"] = str(file.relative_to(asked.directory))


def _reason(found: Examined) -> str:
    """The worst connection in words, or what the API said."""
    for seen in found.seen:
        if seen.verdict.failure is found.verdict.failure:
            by_ip = " by pod IP" if seen.row.via == "pod" else ""
            path = f"{seen.row.source} -> {seen.row.service}.foo:{seen.row.port}{by_ip}"
            return (
                f"{path}: foretold {seen.foretold.verdict.value} ({seen.foretold.why}); {seen.verdict.reason}"
            )
    return found.verdict.reason


def _conclude(act: Act, tally: Tally) -> None:
    """Ends the case where something is wrong."""
    if tally.disagreements:
        first = tally.disagreements[0]
        failure = next(item for item in Failure if item.value == first["failure"])
        where = f"; shrunk: {first['file']}" if first["file"] else ""
        act.fail(
            failure,
            f"{len(tally.disagreements)} of {tally.sets} generated sets disagree with the oracle "
            f"(seed {tally.seed}); set {first['set']}: {first['reason']}{where}; again: {tally.again}",
        )
    if tally.inconclusive:
        first = tally.inconclusive[0]
        act.doubt(
            f"of {len(tally.inconclusive)} of {tally.sets} generated sets nothing can be said "
            f"(seed {tally.seed}); set {first['set']}: {first['reason']}; again: {tally.again}"
        )
