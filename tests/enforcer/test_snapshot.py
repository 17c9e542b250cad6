"""Snapshots: the same input gives the same bytes, and the world decides what the input is."""

from collections.abc import Mapping
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener

from enforcer.mesh import Exempt, MeshOptions
from enforcer.policy import Policy, parse
from enforcer.watch import Change, Key, Listed
from enforcer.world import KINDS, World
from enforcer.xds.snapshot import CLUSTER_TYPE, LISTENER_TYPE, Snapshot, build


def policy_document(name: str = "p", namespace: str = "foo", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": "5", "generation": 1}
    return {"kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}


def allow(*ports: str, **more: Any) -> dict[str, Any]:
    return policy_document(rules=[{"to": [{"operation": {"ports": list(ports)}}]}], **more)


def pod_document(name: str = "x", namespace: str = "foo", **changes: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "resourceVersion": "7", "labels": {"app": "echo"}}
        | changes.pop("metadata", {}),
        "spec": {"containers": [{"name": "app"}, {"name": "istio-proxy"}]} | changes.pop("spec", {}),
        "status": {"phase": "Running"} | changes.pop("status", {}),
    }


def listeners(snapshot: Snapshot) -> dict[str, Listener]:
    found = {}
    for packed in snapshot.resources[LISTENER_TYPE]:
        listener = Listener()
        assert packed.Unpack(listener)
        found[listener.name] = listener
    return found


def clusters(snapshot: Snapshot) -> dict[str, Cluster]:
    found = {}
    for packed in snapshot.resources[CLUSTER_TYPE]:
        cluster = Cluster()
        assert packed.Unpack(cluster)
        found[cluster.name] = cluster
    return found


def snapshot_of(*policies: Policy, exempt: Exempt = Exempt.MARK, ipv6: bool = False) -> Snapshot:
    return build(policies, exempt=exempt, ipv6=ipv6)


def filter_names(listener: Listener) -> list[str]:
    return [entry.name for entry in listener.default_filter_chain.filters]


def bytes_of(snapshot: Snapshot) -> Mapping[str, list[bytes]]:
    return {kind: [item.SerializeToString() for item in items] for kind, items in snapshot.resources.items()}


def test_equal_policies_give_equal_bytes_and_versions() -> None:
    first, second = (snapshot_of(parse(allow("9000", "9001"))) for _ in range(2))
    assert bytes_of(first) == bytes_of(second)
    assert first.versions == second.versions


def test_a_policy_changes_the_listeners_version_only() -> None:
    without, with_policy = snapshot_of(), snapshot_of(parse(allow("9000")))
    assert without.versions[CLUSTER_TYPE] == with_policy.versions[CLUSTER_TYPE]
    assert without.versions[LISTENER_TYPE] != with_policy.versions[LISTENER_TYPE]


def test_policies_stand_before_the_proxy_on_the_way_in_and_not_on_the_way_out() -> None:
    found = listeners(snapshot_of(parse(allow("9000"))))
    assert filter_names(found["inbound"])[-1] == "envoy.filters.network.tcp_proxy"
    assert "envoy.filters.network.rbac" in filter_names(found["inbound"])
    assert filter_names(found["outbound"]) == ["envoy.filters.network.tcp_proxy"]


def test_no_listener_filter_waits_for_bytes() -> None:
    for listener in listeners(snapshot_of()).values():
        assert [entry.name for entry in listener.listener_filters] == ["envoy.filters.listener.original_dst"]
        assert listener.continue_on_listener_filters_timeout
        assert listener.HasField("listener_filters_timeout")


def test_envoys_own_ports_are_dead_ends() -> None:
    for listener in listeners(snapshot_of()).values():
        ends = {
            chain.filter_chain_match.destination_port.value: list(chain.filters)
            for chain in listener.filter_chains
        }
        assert ends == {15006: [], 15001: []}


def test_upstream_connections_are_marked_where_capture_exempts_by_mark() -> None:
    marked, unmarked = clusters(snapshot_of()), clusters(snapshot_of(exempt=Exempt.UID))
    for cluster in marked.values():
        [option] = cluster.upstream_bind_config.socket_options
        assert (option.level, option.name, option.int_value) == (1, 36, 1337)
    assert not any(cluster.HasField("upstream_bind_config") for cluster in unmarked.values())


def test_ipv6_adds_an_address() -> None:
    [address] = listeners(snapshot_of(ipv6=True))["inbound"].additional_addresses
    assert address.address.socket_address.address == "::"
    assert not listeners(snapshot_of())["inbound"].additional_addresses


def world(*documents: dict[str, Any], kind: str = "AuthorizationPolicy") -> World:
    """A synced world with one pod, foo/x, and these objects."""
    made = World(MeshOptions())
    for name in KINDS:
        made.apply(Listed(kind=name, documents={}))
    made.apply(change("Pod", pod_document()))
    for document in documents:
        made.apply(change(kind, document))
    return made


def change(kind: str, document: dict[str, Any], *, gone: bool = False) -> Change:
    metadata = document["metadata"]
    key = Key(kind=kind, namespace=metadata["namespace"], name=metadata["name"])
    return Change(key=key, document=None if gone else document)


def version(made: World) -> str:
    snapshot = made.snapshot("foo/x", ipv6=False)
    assert snapshot is not None
    return snapshot.versions[LISTENER_TYPE]


OPEN = version(world())


def test_an_unknown_pod_gets_nothing() -> None:
    assert world().snapshot("foo/y", ipv6=False) is None


@pytest.mark.parametrize("unlisted", sorted(KINDS))
def test_before_everything_is_listed_nobody_gets_anything(unlisted: str) -> None:
    made = World(MeshOptions())
    made.apply(change("Pod", pod_document()))
    for kind in KINDS - {unlisted}:
        documents = {change("Pod", pod_document()).key: pod_document()} if kind == "Pod" else {}
        made.apply(Listed(kind=kind, documents=documents))
    assert made.snapshot("foo/x", ipv6=False) is None


def test_a_policy_reaches_its_namespace_and_goes_again() -> None:
    made = world(allow("9000"))
    assert version(made) != OPEN
    made.apply(change("AuthorizationPolicy", allow("9000"), gone=True))
    assert version(made) == OPEN


def test_a_policy_of_another_namespace_changes_nothing() -> None:
    assert version(world(allow("9000", namespace="bar"))) == OPEN


def test_a_policy_of_the_root_namespace_reaches_everyone() -> None:
    assert version(world(allow("9000", namespace="authz-system"))) != OPEN


def test_labels_attach_and_detach() -> None:
    made = world(allow("9000", selector={"matchLabels": {"version": "v2"}}))
    assert version(made) == OPEN
    made.apply(change("Pod", pod_document(metadata={"labels": {"app": "echo", "version": "v2"}})))
    assert version(made) != OPEN


def test_a_write_of_the_status_builds_nothing_anew() -> None:
    made = world(allow("9000"))
    before = made.snapshot("foo/x", ipv6=False)
    document = allow("9000")
    document["metadata"]["resourceVersion"] = "99"
    made.apply(change("AuthorizationPolicy", document))
    assert made.snapshot("foo/x", ipv6=False) is before
    assert made.versions["AuthorizationPolicy/foo/p"] == "99"


def test_a_list_takes_away_what_it_lacks() -> None:
    made = world(allow("9000"))
    made.apply(Listed(kind="AuthorizationPolicy", documents={}))
    assert version(made) == OPEN
    assert "AuthorizationPolicy/foo/p" not in made.versions


@pytest.mark.parametrize(
    "document",
    [
        policy_document(rules=[{"from": [{"source": {"principals": ["*"]}}]}]),
        policy_document(rules=[{"to": [{"operation": {"ports": ["x"]}}]}]),
        policy_document(rules="all"),
        policy_document(action="PERMIT"),
    ],
    ids=["needs-identity", "bad-port", "bad-shape", "bad-action"],
)
def test_a_policy_that_cannot_be_enforced_closes_its_workloads(document: dict[str, Any]) -> None:
    made = world(document)
    [inbound] = [item for name, item in listeners(snapshot(made)).items() if name == "inbound"]
    assert b"ns[foo]-policy[p]-rule[0]" in inbound.default_filter_chain.filters[0].typed_config.value
    assert str(next(iter(made.rejected))) == "AuthorizationPolicy/foo/p"


def snapshot(made: World) -> Snapshot:
    found = made.snapshot("foo/x", ipv6=False)
    assert found is not None
    return found


def peer(mode: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "default", "namespace": "foo", "resourceVersion": "3"}
    return {"kind": "PeerAuthentication", "metadata": metadata, "spec": {"mtls": {"mode": mode}, **spec}}


@pytest.mark.parametrize("mode", ["PERMISSIVE", "DISABLE", "UNSET"])
def test_what_takes_plaintext_changes_nothing(mode: str) -> None:
    made = world(peer(mode), kind="PeerAuthentication")
    assert version(made) == OPEN
    assert made.rejected == {}


@pytest.mark.parametrize(
    "document", [peer("STRICT"), peer("UNSET", portLevelMtls={"9000": {"mode": "STRICT"}})]
)
def test_strict_mutual_tls_closes_its_workloads(document: dict[str, Any]) -> None:
    made = world(document, kind="PeerAuthentication")
    assert version(made) != OPEN
    assert [str(key) for key in made.rejected] == ["PeerAuthentication/foo/default"]


def test_pods_without_a_sidecar_and_finished_ones_are_no_workloads() -> None:
    made = world()
    assert list(made.workloads) == ["foo/x"]
    made.apply(change("Pod", pod_document(status={"phase": "Succeeded"})))
    made.apply(change("Pod", pod_document("y", spec={"containers": [{"name": "app"}]})))
    assert list(made.workloads) == []
