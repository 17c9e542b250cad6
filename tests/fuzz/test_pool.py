"""Slots and batches without a cluster: names, table, order, and what is deleted at the end."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from conformance.cluster.kube import ObjectKey
from conformance.errors import SetupError
from conformance.fuzz.batch import Trial, sample
from conformance.fuzz.cases import CLIENTS, TABLE, PolicySet
from conformance.fuzz.pool import Pool, SlotNames, slots_for
from conformance.fuzz.run import batches
from conformance.oracle import Decision, Verdict
from conformance.rig import Rig
from conformance.topology import Names, Ref

SLOT = SlotNames(run="r1", worker="w2", root="mesh", slot="fuzz3")


def a_set(kind: str = "AuthorizationPolicy", namespace: str = "${foo}") -> PolicySet:
    return PolicySet(documents=({"kind": kind, "metadata": {"name": "p0", "namespace": namespace}},))


def test_a_slot_is_foo_and_the_others_are_the_runs_own() -> None:
    mine = Names(run="r1", worker="w2", root="mesh")
    assert SLOT.real("foo") == "fuzz3-r1w2-uno"
    assert SLOT.real("foo").startswith(SLOT.head("foo"))
    assert SLOT.real("foo").endswith(SLOT.tail("foo"))
    assert (SLOT.real("bar"), SLOT.head("bar")) == (mine.real("bar"), mine.head("bar"))


def test_no_other_namespace_of_the_run_begins_or_ends_as_a_slot_does() -> None:
    another = SlotNames(run="r1", worker="w2", root="m", slot="fuzz4")
    names = [SLOT.real("bar"), SLOT.real("legacy"), another.real("foo")]
    assert not any(name.startswith(SLOT.head("foo")) for name in names)
    assert not any(name.endswith(SLOT.tail("foo")) for name in names[:2])


def test_the_table_has_every_client_on_every_port_once() -> None:
    paths = [(row.source, row.workload_port) for row in TABLE]
    assert len(paths) == len(set(paths)) == len(CLIENTS) * 4


def test_a_row_of_a_slot_goes_from_its_own_clients_or_the_shared_ones() -> None:
    sources = {row.source: row.lane("fuzz3").source for row in TABLE}
    assert sources[Ref.parse("sleep.foo")] == Ref(name="sleep", namespace="fuzz3")
    assert sources[Ref.parse("sleep.bar")] == Ref.parse("sleep.bar")


@pytest.mark.parametrize(("count", "slots"), [(1, 2), (40, 4), (1000, 8)])
def test_there_are_as_many_slots_as_the_sets_are_worth(count: int, slots: int) -> None:
    assert len(slots_for(count)) == slots


def test_every_set_is_tried_once_and_a_mesh_wide_one_alone() -> None:
    sets = [a_set(), a_set("PeerAuthentication"), a_set(namespace="${root}"), a_set(), a_set()]
    trials = [Trial(number=number, drawn=drawn) for number, drawn in enumerate(sets)]
    assert [[one.number for one in batch] for batch in batches(trials, 2)] == [[0, 3], [4], [1], [2]]


def test_a_sample_has_every_decision_of_every_client_and_half_of_the_table_at_least() -> None:
    def paths(denied: set[tuple[str, int]]) -> list[Any]:
        return [
            SimpleNamespace(
                row=row,
                foretold=Decision(
                    verdict=Verdict.DENIED
                    if (str(row.source), row.workload_port) in denied
                    else Verdict.ALLOWED,
                    why="",
                ),
            )
            for row in TABLE
        ]

    table = paths({("sleep.foo", 9001), ("sleep.bar", 9003)})
    for number in range(20):
        found = sample(table, number)
        assert len(found) == len(TABLE) // 2
        assert found == sample(table, number)
        rows = [(str(path.row.source), path.row.workload_port) for path in found]
        assert {("sleep.foo", 9001), ("sleep.bar", 9003)} <= set(rows)
        assert {source for source, _ in rows} == {str(client) for client in CLIENTS}
    everything = {path.row for number in range(20) for path in sample(table, number)}
    assert everything == set(TABLE)


class Api:
    """Deletes, or has gone away."""

    def __init__(self, *, gone: bool = False) -> None:
        self.gone = gone
        self.deleted: list[str] = []

    def list(self, *_: object, **__: object) -> tuple[list[Mapping[str, Any]], str]:
        return [], ""

    def delete(self, key: ObjectKey) -> None:
        if self.gone:
            raise SetupError("no answer")
        self.deleted.append(key.name)


def a_pool(api: Api) -> tuple[Pool, list[str]]:
    closed: list[str] = []
    rig = SimpleNamespace(
        kube=api,
        pods={},
        profile=SimpleNamespace(root_namespace="mesh"),
        close_streams=lambda: closed.append("streams"),
    )
    pool = Pool(cast(Rig, rig), ("fuzz0",))
    for name in ("p0-1", "p1-1"):
        pool.standing[
            ObjectKey(api_version="v1", kind="Any", resource="any", namespace="mesh", name=name)
        ] = None
    return pool, closed


@pytest.mark.parametrize("gone", [False, True])
def test_closing_deletes_what_stands_and_ends_the_streams_whatever_happens(gone: bool) -> None:
    api = Api(gone=gone)
    pool, closed = a_pool(api)
    pool.close()
    assert api.deleted == ([] if gone else ["p0-1", "p1-1"])
    assert closed == ["streams"]
