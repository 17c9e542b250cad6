"""One batch: several sets, each in a slot of its own, written at once, proven at once, probed at once.

The rules of belief are those of a case: a barrier before anything is believed, both ends' testimony, a marker
in every backend's log, who decided. Only what disagrees is probed again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any

from conformance.barrier import Changes
from conformance.cluster.kube import Answer, ObjectKey
from conformance.errors import ConformanceError
from conformance.evidence import AccessEntry, Controls, Kind, Outcome, Waited
from conformance.fuzz.cases import TABLE, Document, PolicySet, Row
from conformance.fuzz.foretell import foretell
from conformance.fuzz.pool import Pool
from conformance.in_force import deciders
from conformance.look import markers
from conformance.oracle import Decision, Shadow, Undecided
from conformance.oracle import Verdict as Foretold
from conformance.probe.converge import converge
from conformance.sweep import CONTROL_PORT, Lane, Probed, path_of, sweep
from conformance.verdict import (
    Failure,
    Status,
    Verdict,
    judge,
    judge_audit,
    judge_dry_run,
    judge_foretold,
    worst,
)

__all__ = ["Examined", "Seen", "Trial", "clear", "examine", "hold_table", "sample"]

WRITERS = 8
BREACHES = (Failure.EXPOSURE, Failure.DELIVERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A set to be tried. `number` is its place in the draw."""

    number: int
    drawn: PolicySet


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One connection that did not go as foretold, or of which nothing can be said."""

    row: Row
    foretold: Decision
    probed: Probed
    verdict: Verdict


@dataclass(slots=True, kw_only=True)
class Examined:
    """What became of one set. `verdict` is the worst of all; `late` counts connections that agreed only when
    they were probed again."""

    trial: Trial
    documents: list[dict[str, Any]] = field(default_factory=list)  # as applied
    seen: list[Seen] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    probes: int = 0
    late: int = 0

    @property
    def verdict(self) -> Verdict:
        return worst(self.verdicts)

    @property
    def disagrees(self) -> bool:
        return self.verdict.status is Status.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Path:
    """A row of the table in a slot, and what must become of it."""

    examined: Examined
    row: Row
    lane: Lane
    foretold: Decision

    @property
    def outcome(self) -> Outcome:
        allowed = self.foretold.verdict is Foretold.ALLOWED
        return Outcome.SUCCEEDED if allowed else Outcome.REJECTED


def hold_table(pool: Pool, timeout: float) -> tuple[set[Lane], list[Probed]]:
    """Sweeps the table of every slot until all of it answers, or `timeout` seconds are over: the lanes that
    did, and the probes that did not. The baseline, and the recovery."""
    lanes = [row.lane(slot) for slot in pool.slots for row in TABLE]
    result = converge(
        lambda: sweep(pool.rig, lanes),
        agrees=lambda round_: all(probed.seen.kind is Kind.ANSWERED for probed in round_),
        breaches=lambda _: False,
        rounds=1,
        timeout=timeout,
    )
    missing = [probed for probed in result.last if probed.seen.kind is not Kind.ANSWERED]
    return {probed.lane for probed in result.last if probed not in missing}, missing


def clear(pool: Pool) -> Waited:
    """Deletes what the last batch left and waits until it is gone from every sidecar."""
    changes = _write(pool, [])
    return pool.rig.barrier.wait(changes, pods=pool.sidecars, timeout=pool.rig.profile.deadlines.barrier)


def place(pool: Pool, drawn: PolicySet, slot: str) -> list[dict[str, Any]]:
    """The documents as they go to the cluster: names filled in, and the set's serial number in each name."""
    pool.serial += 1
    return [_placed(pool.resolve(dict(item), slot), pool.serial) for item in drawn.documents]


def _placed(document: Document, serial: int) -> dict[str, Any]:
    metadata = dict(document["metadata"])
    return {**document, "metadata": {**metadata, "name": f"{metadata['name']}-{serial}"}}


def examine(
    pool: Pool, trials: Sequence[Trial], baseline: set[Lane], *, whole: bool = True
) -> list[Examined]:
    """Puts the sets in place of the ones before and tries them; at most one for each slot, and one that is
    mesh-wide alone. `whole`: the whole table is probed, else what `sample` takes of it. What the cluster
    would not take or tell is in the verdicts."""
    found = [Examined(trial=trial) for trial in trials]
    rig = pool.rig
    rig.settle()
    rig.forget()
    for examined, slot in zip(found, pool.slots, strict=False):
        examined.documents = place(pool, examined.trial.drawn, slot)
    changes = _write(pool, found)
    waited = rig.barrier.wait(changes, pods=pool.sidecars, timeout=rig.profile.deadlines.barrier)
    if not waited.landed:
        _doubt(found, f"the policies are not proven to have landed: {waited.detail}")
        return found
    paths: list[_Path] = []
    for examined, slot in zip(found, pool.slots, strict=False):
        if not examined.verdicts:
            table = _foretold(pool, examined, slot)
            paths += table if whole else sample(table, examined.trial.number)
    judged = _probe(pool, paths, baseline)
    for path, (_, verdict) in zip(paths, judged, strict=True):
        path.examined.probes += 1
        if verdict.passed:
            path.examined.verdicts.append(verdict)
    open_ = [(path, *one) for path, one in zip(paths, judged, strict=True) if not one[1].passed]
    _again(pool, open_, baseline)
    return found


def _doubt(found: Sequence[Examined], reason: str) -> None:
    for examined in found:
        examined.verdicts.append(Verdict(status=Status.INCONCLUSIVE, reason=reason))


def _write(pool: Pool, found: Sequence[Examined]) -> Changes:
    """Creates what is new and deletes what stood, all at once."""
    kube = pool.rig.kube
    old = list(pool.standing)
    written: dict[ObjectKey, str] = {}

    def create(one: tuple[Examined, dict[str, Any]]) -> None:
        examined, document = one
        key = kube.key(document)
        # Noted first: what an interrupted call may have made must be deleted, too.
        pool.standing[key] = None
        answer = kube.create(document)
        if answer.ok:
            written[key] = str(answer.body["metadata"]["resourceVersion"])
        else:
            examined.verdicts.append(_refused(key, answer))

    def delete(key: ObjectKey) -> None:
        answer = kube.delete(key)
        if answer.ok or answer.code == 404:
            pool.standing.pop(key, None)
        else:
            _doubt(found, f"{key} could not be deleted: {answer.code} {answer.message}")

    # By namespace, so that what concerns the same sidecars comes to them together.
    writes: list[tuple[str, Callable[[], None]]] = [(key.namespace, partial(delete, key)) for key in old]
    writes += [
        (str(document["metadata"]["namespace"]), partial(create, (one, document)))
        for one in found
        for document in one.documents
    ]
    with ThreadPoolExecutor(max_workers=WRITERS) as executor:
        works = [executor.submit(write) for _, write in sorted(writes, key=itemgetter(0))]
        for work in works:
            try:
                work.result()
            except ConformanceError as error:
                _doubt(found, str(error))
    return Changes(written=written, deleted=tuple(key for key in old if key not in pool.standing))


def _refused(key: ObjectKey, answer: Answer) -> Verdict:
    said = f"{key} was refused: {answer.code} {answer.reason}: {answer.message}"
    if answer.code >= 500 or answer.code == 429:
        return Verdict(status=Status.INCONCLUSIVE, reason=said)
    return Verdict(status=Status.FAILED, failure=Failure.REFUSED, reason=said)


def _foretold(pool: Pool, examined: Examined, slot: str) -> list[_Path]:
    try:
        return [
            _Path(
                examined=examined,
                row=row,
                lane=row.lane(slot),
                foretold=foretell(pool, slot, examined.documents, row),
            )
            for row in TABLE
        ]
    except Undecided as why:
        _doubt([examined], f"the oracle cannot tell: {why}")
        return []


def sample(table: Sequence[_Path], number: int) -> list[_Path]:
    """Of a set's table what is probed: for each client every decision that the oracle foretells it, once, and
    of the rest as many by chance as make half the table. The same for the same number."""
    drawn = random.Random(f"table {number}").sample(table, len(table))  # noqa: S311 - no secret
    kinds: dict[object, _Path] = {}
    for path in drawn:
        kinds.setdefault((path.row.source, *_told_of(path.foretold)), path)
    first = list(kinds.values())
    rest = [path for path in drawn if path not in first]
    return [*first, *rest[: max(len(table) // 2 - len(first), 0)]]


def _told_of(foretold: Decision) -> tuple[object, ...]:
    """All that is compared of a decision."""
    shadows = (foretold.dry_run_allow, foretold.dry_run_deny)
    return (foretold.verdict, foretold.matching, foretold.audited[:1], *map(_told, shadows))


def _probe(pool: Pool, paths: Sequence[_Path], baseline: set[Lane]) -> list[tuple[Probed, Verdict]]:
    """One sweep over the paths, and the verdict on each."""
    rig = pool.rig
    told = rig.attribution == "access-log"
    before = dict(rig.sent)
    swept = sweep(rig, [path.lane for path in paths])
    incomplete, alive, _ = markers(rig, [])
    keys = [path_of(rig, path.lane) for path in paths]
    if told:
        deadline = time.monotonic() + rig.profile.deadlines.attribution
        rig.access.wait_for({key: rig.sent[key] for key in keys}, deadline=deadline)
    found: list[tuple[Probed, Verdict]] = []
    for path, probed, key in zip(paths, swept, keys, strict=True):
        lane = path.lane
        control = alive[(lane.workload, CONTROL_PORT)]
        controls = Controls(
            baseline=lane in baseline, bypass=control.kind is Kind.ANSWERED, why=control.describe()
        )
        testimony = rig.logbook.testimony(
            nonce=probed.nonce, line=probed.line, port=lane.workload_port, incomplete=incomplete
        )
        expected = probed.expected(path.outcome, frozenset(rig.profile.denials))
        verdict = judge(expected, probed.seen, controls, testimony)
        if verdict.passed and told:
            entries = rig.access.since(key, before.get(key, 0))
            verdict = worst([verdict, *_decided(path.foretold, entries)])
        found.append((probed, verdict))
    return found


def _decided(foretold: Decision, entries: Sequence[AccessEntry]) -> list[Verdict]:
    """Whether the mesh names a rule that the oracle names, and shows the same trial and audit."""
    found = [judge_foretold(deciders(foretold), entries, wanted=1)]
    if foretold.verdict is Foretold.REFUSED:
        return found
    audited = foretold.audited[0] if foretold.audited else None
    return [
        *found,
        judge_dry_run(_told(foretold.dry_run_allow), _told(foretold.dry_run_deny), None, entries, wanted=1),
        # An enforced DENY ends the connection before the filter that audits, or after it: only what is
        # promised is asked.
        *([judge_audit(f"{audited.namespace}/{audited.name}", entries)] if audited else []),
    ]


def _told(shadow: Shadow | None) -> str:
    if shadow is None or not shadow.visible:
        return ""
    return "allowed" if shadow.allowed else "denied"


def _again(pool: Pool, open_: Sequence[tuple[_Path, Probed, Verdict]], baseline: set[Lane]) -> None:
    """Probes what disagreed again, as often as rounds must agree. A breach stays one whatever comes later."""
    settled = [one for one in open_ if one[2].failure in BREACHES]
    left = [one for one in open_ if one[2].failure not in BREACHES]
    for _ in range(pool.rig.profile.rounds):
        if not left:
            break
        judged = _probe(pool, [path for path, _, _ in left], baseline)
        fresh = []
        for (path, _, _), (probed, verdict) in zip(left, judged, strict=True):
            path.examined.probes += 1
            if verdict.passed:
                path.examined.late += 1
                path.examined.verdicts.append(verdict)
            elif verdict.failure in BREACHES:
                settled.append((path, probed, verdict))
            else:
                fresh.append((path, probed, verdict))
        left = fresh
    for path, probed, verdict in [*settled, *left]:
        path.examined.verdicts.append(verdict)
        path.examined.seen.append(Seen(row=path.row, foretold=path.foretold, probed=probed, verdict=verdict))
