"""Which transport a workload takes, from the PeerAuthentications of its mesh."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest

from enforcer.peer_authentication import Mode, Modes, PeerAuthentication, modes_for, read

ROOT = "authz-system"
STRICT, PERMISSIVE, DISABLE = Mode.STRICT, Mode.PERMISSIVE, Mode.DISABLE
LABELS = {"app": "tcp-echo", "version": "v1"}


def policy(
    mode: Mode | None,
    *,
    namespace: str = "foo",
    name: str = "p",
    created: str = "2024-01-01T00:00:00Z",
    ports: dict[int, Mode | None] | None = None,
    **selector: str | None,
) -> PeerAuthentication:
    labels = {key: value for key, value in selector.items() if value is not None}
    return PeerAuthentication(
        namespace=namespace, name=name, created=created, selector=labels, mode=mode, ports=ports or {}
    )


def modes(policies: Iterable[PeerAuthentication], *, namespace: str = "foo") -> Modes:
    return modes_for(policies, namespace=namespace, labels=LABELS, root_namespace=ROOT)


def test_default_is_permissive() -> None:
    assert modes([]) == Modes(default=PERMISSIVE, ports={})
    assert modes([policy(None)]) == Modes(default=PERMISSIVE, ports={})


@pytest.mark.parametrize("mode", list(Mode))
def test_one_object_of_each_level(mode: Mode) -> None:
    mesh, own, workload = policy(mode, namespace=ROOT), policy(mode), policy(mode, app="tcp-echo")
    assert modes([mesh]).default is modes([own]).default is modes([workload]).default is mode


def test_narrowest_level_wins_in_any_order() -> None:
    levels = [policy(STRICT, namespace=ROOT), policy(DISABLE), policy(PERMISSIVE, app="tcp-echo")]
    assert modes(levels[:2]).default is DISABLE
    for order in itertools.permutations(levels):
        assert modes(order).default is PERMISSIVE


def test_unset_inherits_from_the_next_wider_level() -> None:
    mesh, own, workload = policy(STRICT, namespace=ROOT), policy(None), policy(None, app="tcp-echo")
    assert modes([mesh, own, workload]).default is STRICT
    assert modes([own, workload]).default is PERMISSIVE


@pytest.mark.parametrize("app", [None, "tcp-echo"])
@pytest.mark.parametrize("namespace", ["foo", ROOT])
def test_oldest_of_a_level_counts_alone(namespace: str, app: str | None) -> None:
    old = policy(DISABLE, namespace=namespace, name="z", app=app)
    new = policy(STRICT, namespace=namespace, name="a", created="2024-01-01T00:00:01Z", app=app)
    assert modes([new, old]).default is modes([old, new]).default is DISABLE
    unset = policy(None, namespace=namespace, name="z", app=app)
    assert modes([new, unset]).default is PERMISSIVE


def test_of_one_age_the_first_name_counts() -> None:
    first, second = policy(STRICT, name="a"), policy(DISABLE, name="b")
    assert modes([second, first]).default is modes([first, second]).default is STRICT


def test_other_namespaces_and_other_labels_stay_out() -> None:
    policies = [
        policy(STRICT, namespace="bar"),
        policy(STRICT, namespace="bar", app="tcp-echo"),
        policy(STRICT, app="sleep"),
        policy(STRICT, app="tcp-echo", version="v2"),
    ]
    assert modes(policies) == Modes(default=PERMISSIVE, ports={})


def test_selector_in_the_root_namespace_reaches_every_namespace() -> None:
    policies = [
        policy(STRICT, namespace=ROOT, app="tcp-echo"),
        policy(DISABLE),
        policy(DISABLE, namespace="bar"),
    ]
    assert modes(policies).default is modes(policies, namespace="bar").default is STRICT
    assert modes(policies[:1], namespace=ROOT).default is STRICT


def test_mesh_level_covers_the_root_namespace_itself() -> None:
    assert modes([policy(STRICT, namespace=ROOT)], namespace=ROOT).default is STRICT


def test_ports_differ_from_the_workload() -> None:
    ports: dict[int, Mode | None] = {9001: DISABLE, 9000: PERMISSIVE, 9002: STRICT, 9003: None}
    observed = modes([policy(STRICT, app="tcp-echo", ports=ports)])
    assert observed == Modes(default=STRICT, ports={9000: PERMISSIVE, 9001: DISABLE})
    assert list(observed.ports) == [9000, 9001]
    assert [observed.at(port) for port in (9000, 9001, 9002, 9003, 1)] == [
        PERMISSIVE, DISABLE, STRICT, STRICT, STRICT,
    ]  # fmt: skip


def test_unset_workload_with_a_port_inherits_for_the_others() -> None:
    policies = [policy(STRICT), policy(None, app="tcp-echo", ports={9000: DISABLE})]
    assert modes(policies) == Modes(default=STRICT, ports={9000: DISABLE})


def test_ports_of_a_younger_object_do_not_count() -> None:
    older = policy(STRICT, app="tcp-echo", ports={9000: DISABLE})
    younger = policy(DISABLE, app="tcp-echo", created="2025-01-01T00:00:00Z", ports={9001: PERMISSIVE})
    assert modes([younger, older]) == Modes(default=STRICT, ports={9000: DISABLE})


def document(spec: Any) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "foo", "creationTimestamp": "2024-01-01T00:00:00Z"}
    return {"kind": "PeerAuthentication", "metadata": metadata, "spec": spec}


def test_document_is_read() -> None:
    spec = {
        "selector": {"matchLabels": {"app": "tcp-echo"}},
        "mtls": {"mode": "STRICT"},
        "portLevelMtls": {"9000": {"mode": "DISABLE"}, "9001": {"mode": "UNSET"}, "9002": None},
    }
    assert read(document(spec)) == policy(
        STRICT, ports={9000: DISABLE, 9001: None, 9002: None}, app="tcp-echo"
    )


@pytest.mark.parametrize("spec", [None, {}, {"mtls": None}, {"mtls": {}}, {"mtls": {"mode": "UNSET"}}])
def test_absence_is_unset(spec: Any) -> None:
    assert read(document(spec)).mode is None


@pytest.mark.parametrize(
    "spec",
    [
        {"mtls": {"mode": "MUTUAL"}},
        {"mtls": {"mode": "DISABLE"}, "selector": {"matchLabels": {"app": "*"}}},
        {"mtls": {"mode": "DISABLE"}, "portLevelMtls": {"9000": {"mode": "STRICT"}}},
        {"mtls": {"mode": "DISABLE"}, "selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"x": {}}},
        "STRICT",
    ],
)
def test_unreadable_documents_admit_nobody_without_mutual_tls(spec: Any) -> None:
    observed = read(document(spec))
    assert observed.problems
    assert (observed.mode, observed.ports) == (STRICT, {})


def test_unreadable_selector_stands_for_the_whole_namespace() -> None:
    assert modes([read(document({"selector": {"matchLabels": {"app": "*"}}}))]).default is STRICT
