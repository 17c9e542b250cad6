"""Snapshots: the same input gives the same bytes, and the world decides what the input is."""

from collections.abc import Mapping
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_components_pb2 import (
    FilterChain,
    ListenerFilterChainMatchPredicate,
)
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext

from enforcer.mesh import Exempt, MeshOptions
from enforcer.peer_authentication import Mode, Modes
from enforcer.policy import parse
from enforcer.watch import Change, Key, Listed
from enforcer.world import KINDS, World
from enforcer.xds.snapshot import CLUSTER_TYPE, LISTENER_TYPE, Snapshot
from tests.enforcer.callers import snapshot_of


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


def chains(listener: Listener) -> dict[str, FilterChain]:
    return {chain.name: chain for chain in listener.filter_chains if not chain.name.startswith("dead-end")}


def filter_names(chain: FilterChain) -> list[str]:
    return [entry.name for entry in chain.filters]


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


def test_policies_stand_before_the_proxy_on_every_way_in_and_not_on_the_way_out() -> None:
    found = listeners(snapshot_of(parse(allow("9000"))))
    ways_in = chains(found["inbound"])
    assert set(ways_in) == {"mutual-tls", "tls", "plaintext"}
    for chain in ways_in.values():
        assert filter_names(chain)[-1] == "envoy.filters.network.tcp_proxy"
        assert "envoy.filters.network.rbac" in filter_names(chain)
    assert filter_names(found["outbound"].default_filter_chain) == ["envoy.filters.network.tcp_proxy"]


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        (Mode.STRICT, {"mutual-tls"}),
        (Mode.PERMISSIVE, {"mutual-tls", "tls", "plaintext"}),
        (Mode.DISABLE, {"plaintext"}),
    ],
)
def test_a_mode_opens_its_ways_and_no_other(mode: Mode, names: set[str]) -> None:
    inbound = listeners(snapshot_of(modes=Modes(default=mode, ports={})))["inbound"]
    assert set(chains(inbound)) == names
    # What takes the rest would take what the mode refuses.
    assert not inbound.HasField("default_filter_chain")


def test_a_port_with_a_mode_of_its_own_has_all_its_chains() -> None:
    modes = Modes(default=Mode.STRICT, ports={9000: Mode.PERMISSIVE, 9001: Mode.DISABLE})
    found = chains(listeners(snapshot_of(modes=modes))["inbound"])
    ports = {name: chain.filter_chain_match.destination_port.value for name, chain in found.items()}
    assert ports == {
        "mutual-tls": 0,
        "mutual-tls-9000": 9000,
        "tls-9000": 9000,
        "plaintext-9000": 9000,
        "plaintext-9001": 9001,
    }


def test_mutual_tls_demands_a_certificate_of_the_mesh() -> None:
    chain = chains(listeners(snapshot_of())["inbound"])["mutual-tls"]
    assert list(chain.filter_chain_match.application_protocols) == ["authz-mesh"]
    context = DownstreamTlsContext()
    assert chain.transport_socket.typed_config.Unpack(context)
    assert context.require_client_certificate.value is True
    combined = context.common_tls_context.combined_validation_context
    [names] = combined.default_validation_context.match_typed_subject_alt_names
    assert names.matcher.prefix == "spiffe://cluster.local/"
    assert combined.validation_context_sds_secret_config.name == "root"


@pytest.mark.parametrize(
    ("modes", "waits"),
    [
        (Modes(ports={}), {9000, 9001}),
        (Modes(default=Mode.DISABLE, ports={}), set()),
        (Modes(ports={9001: Mode.DISABLE}), {9000}),
        (Modes(ports={9000: Mode.DISABLE, 9001: Mode.DISABLE}), set()),
        (Modes(default=Mode.DISABLE, ports={9000: Mode.STRICT}), {9000}),
        (Modes(default=Mode.DISABLE, ports={9000: Mode.STRICT, 9001: Mode.STRICT}), {9000, 9001}),
    ],
)
def test_only_ports_that_take_tls_wait_for_bytes(modes: Modes, waits: set[int]) -> None:
    inbound = listeners(snapshot_of(modes=modes))["inbound"]
    assert inbound.continue_on_listener_filters_timeout
    assert inbound.HasField("listener_filters_timeout")
    inspectors = [entry for entry in inbound.listener_filters if entry.name.endswith("tls_inspector")]
    assert {
        port
        for port in (9000, 9001)
        for entry in inspectors
        if not (entry.HasField("filter_disabled") and holds(entry.filter_disabled, port))
    } == waits


def holds(predicate: ListenerFilterChainMatchPredicate, port: int) -> bool:
    """What Envoy makes of a predicate."""
    if predicate.HasField("not_match"):
        return not holds(predicate.not_match, port)
    if predicate.HasField("or_match"):
        assert len(predicate.or_match.rules) >= 2
        return any(holds(rule, port) for rule in predicate.or_match.rules)
    wanted = predicate.destination_port_range
    return bool(wanted.start <= port < wanted.end)


def test_nobody_waits_for_bytes_on_the_way_out() -> None:
    outbound = listeners(snapshot_of())["outbound"]
    assert [entry.name for entry in outbound.listener_filters] == ["envoy.filters.listener.original_dst"]


def test_envoys_own_ports_are_dead_ends() -> None:
    for listener in listeners(snapshot_of()).values():
        ends = {
            chain.filter_chain_match.destination_port.value: list(chain.filters)
            for chain in listener.filter_chains
            if chain.name.startswith("dead-end")
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
        policy_document(rules=[{"to": [{"operation": {"ports": ["x"]}}]}]),
        policy_document(rules="all"),
        policy_document(action="PERMIT"),
    ],
    ids=["bad-port", "bad-shape", "bad-action"],
)
def test_a_policy_that_cannot_be_enforced_closes_its_workloads(document: dict[str, Any]) -> None:
    made = world(document)
    for chain in chains(listeners(snapshot(made))["inbound"]).values():
        assert b"ns[foo]-policy[p]-rule[0]" in chain.filters[0].typed_config.value
    assert str(next(iter(made.rejected))) == "AuthorizationPolicy/foo/p"


def snapshot(made: World) -> Snapshot:
    found = made.snapshot("foo/x", ipv6=False)
    assert found is not None
    return found


def peer(mode: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "default", "namespace": "foo", "resourceVersion": "3"}
    return {"kind": "PeerAuthentication", "metadata": metadata, "spec": {"mtls": {"mode": mode}, **spec}}


@pytest.mark.parametrize("mode", ["PERMISSIVE", "UNSET"])
def test_what_is_the_default_anyway_changes_nothing(mode: str) -> None:
    made = world(peer(mode), kind="PeerAuthentication")
    assert version(made) == OPEN
    assert made.rejected == {}


def test_a_mode_reaches_its_workloads_and_goes_again() -> None:
    made = world(peer("STRICT"), kind="PeerAuthentication")
    assert set(chains(listeners(snapshot(made))["inbound"])) == {"mutual-tls"}
    key = change("PeerAuthentication", peer("STRICT")).key
    assert [workload.node for workload in made.selected(key)] == ["foo/x"]
    made.apply(change("PeerAuthentication", peer("STRICT"), gone=True))
    assert version(made) == OPEN


def test_a_peer_authentication_that_cannot_be_read_closes_its_workloads_to_plaintext() -> None:
    made = world(peer("MAYBE"), kind="PeerAuthentication")
    assert set(chains(listeners(snapshot(made))["inbound"])) == {"mutual-tls"}
    assert [str(key) for key in made.rejected] == ["PeerAuthentication/foo/default"]


def service(name: str = "echo", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "foo", "resourceVersion": "4"}
    ports = [{"port": 80, "targetPort": 9000}]
    whole = {"selector": {"app": "echo"}, "clusterIP": "10.96.0.9", "ports": ports, **spec}
    return {"metadata": metadata, "spec": whole}


def secured(made: World) -> dict[str, list[str]]:
    """The Services that sidecars reach by mutual TLS: chain -> the identities that may answer."""
    found = snapshot(made)
    ways_out = clusters(found)
    result = {}
    for chain in listeners(found)["outbound"].filter_chains:
        if chain.name in ways_out:
            context = UpstreamTlsContext()
            assert ways_out[chain.name].transport_socket.typed_config.Unpack(context)
            validation = context.common_tls_context.combined_validation_context.default_validation_context
            result[chain.name] = [name.matcher.exact for name in validation.match_typed_subject_alt_names]
    return result


ECHO = "outbound|80||echo.foo.svc.cluster.local"


def test_a_service_of_the_mesh_is_reached_by_mutual_tls_as_its_endpoints_identity() -> None:
    made = world(service(), kind="Service")
    assert secured(made) == {ECHO: ["spiffe://cluster.local/ns/foo/sa/default"]}
    [chain] = [item for item in listeners(snapshot(made))["outbound"].filter_chains if item.name == ECHO]
    [prefix] = chain.filter_chain_match.prefix_ranges
    assert (prefix.address_prefix, prefix.prefix_len.value) == ("10.96.0.9", 32)
    assert chain.filter_chain_match.destination_port.value == 80


def test_a_service_of_two_families_is_reached_by_mutual_tls_in_each() -> None:
    made = world(service(clusterIPs=["10.96.0.9", "fd00:10:96::9"]), kind="Service")
    [chain] = [item for item in listeners(snapshot(made))["outbound"].filter_chains if item.name == ECHO]
    prefixes = [
        (each.address_prefix, each.prefix_len.value) for each in chain.filter_chain_match.prefix_ranges
    ]
    assert prefixes == [("10.96.0.9", 32), ("fd00:10:96::9", 128)]


@pytest.mark.parametrize(
    "changes",
    [
        {"clusterIP": "None"},
        {"selector": {"app": "other"}},
        {"selector": None},
        {"ports": [{"port": 80, "protocol": "UDP"}]},
    ],
    ids=["headless", "no-endpoint", "no-selector", "udp"],
)
def test_what_is_no_service_of_the_mesh_is_dialled_as_it_is(changes: dict[str, Any]) -> None:
    assert secured(world(service(**changes), kind="Service")) == {}


def test_an_endpoint_that_cannot_answer_makes_the_service_plaintext() -> None:
    made = world(service(), kind="Service")
    bare = pod_document("y", spec={"containers": [{"name": "app"}]})
    made.apply(change("Pod", bare))
    assert secured(made) == {}
    made.apply(change("Pod", bare, gone=True))
    assert list(secured(made)) == [ECHO]


def test_a_port_that_is_not_captured_takes_no_mutual_tls() -> None:
    made = world(service(), kind="Service")
    excluded = {"traffic.sidecar.istio.io/excludeInboundPorts": "9000"}
    made.apply(change("Pod", pod_document(metadata={"annotations": excluded, "labels": {"app": "echo"}})))
    assert secured(made) == {}


@pytest.mark.parametrize(
    ("document", "ways"),
    [
        (peer("DISABLE"), []),
        (peer("STRICT"), [ECHO]),
        (
            peer(
                "UNSET",
                selector={"matchLabels": {"app": "echo"}},
                portLevelMtls={"9000": {"mode": "DISABLE"}},
            ),
            [],
        ),
        (
            peer(
                "UNSET", selector={"matchLabels": {"app": "echo"}}, portLevelMtls={"80": {"mode": "DISABLE"}}
            ),
            [ECHO],
        ),
    ],
    ids=["off", "strict", "off-on-the-target-port", "off-on-another"],
)
def test_clients_follow_the_servers_mode(document: dict[str, Any], ways: list[str]) -> None:
    made = world(service(), kind="Service")
    made.apply(change("PeerAuthentication", document))
    assert list(secured(made)) == ways


def test_a_named_target_port_is_the_endpoints() -> None:
    made = world(service(ports=[{"port": 80, "targetPort": "tcp"}]), kind="Service")
    containers = [{"name": "app", "ports": [{"name": "tcp", "containerPort": 9000}]}, {"name": "istio-proxy"}]
    made.apply(change("Pod", pod_document(spec={"containers": containers})))
    selector = {"matchLabels": {"app": "echo"}}
    off = peer("UNSET", selector=selector, portLevelMtls={"9000": {"mode": "DISABLE"}})
    made.apply(change("PeerAuthentication", off))
    assert secured(made) == {}


def test_a_pod_that_comes_or_goes_with_the_same_identity_changes_nothing() -> None:
    made = world(service(), kind="Service")
    before = version(made)
    made.apply(change("Pod", pod_document("y")))
    made.apply(change("Pod", pod_document(status={"phase": "Running", "podIP": "10.244.0.7"})))
    assert version(made) == before
    made.apply(change("Pod", pod_document("z", spec={"serviceAccountName": "z"})))
    assert secured(made) == {
        ECHO: ["spiffe://cluster.local/ns/foo/sa/default", "spiffe://cluster.local/ns/foo/sa/z"]
    }


def test_pods_without_a_sidecar_and_finished_ones_are_no_workloads() -> None:
    made = world()
    assert list(made.workloads) == ["foo/x"]
    made.apply(change("Pod", pod_document(status={"phase": "Succeeded"})))
    made.apply(change("Pod", pod_document("y", spec={"containers": [{"name": "app"}]})))
    assert list(made.workloads) == []
