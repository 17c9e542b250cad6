"""The barrier of Istio's sidecars: what is read out of a configuration dump, and what counts as proof."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import pytest

from conformance.barrier import Changes
from conformance.barrier_istio import BARRIER_PORT, ConfigDump
from conformance.cluster.kube import Answer, Kube, ObjectKey
from conformance.config_dump import read_dump
from conformance.errors import ProbeError

LABELS = {"app": "tcp-echo", "version": "v1"}
RBAC = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"


def rbac(*policies: str, shadow: bool = False) -> dict[str, Any]:
    """A filter as istiod makes it and Envoy's administration prints it."""
    rules = {
        "action": "DENY",
        "policies": {
            name: {
                "permissions": [{"and_rules": {"rules": [{"destination_port": 9000}]}}],
                "principals": [{"and_ids": {"ids": [{"any": True}]}}],
            }
            for name in policies
        },
    }
    config = {"@type": RBAC, "shadow_rules" if shadow else "rules": rules, "stat_prefix": "tcp."}
    return {"name": "envoy.filters.network.rbac", "typed_config": config}


# As istiod writes them (AddConfigInfoMetadata), and where: with a subset, and for a weighted TCP route.
PATH = "/apis/networking.istio.io/v1/namespaces/foo"
CLUSTERS: list[dict[str, Any]] = [
    {
        "version_info": "2026-11-22T10:00:00Z/7",
        "cluster": {
            "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "name": "outbound|9000|v1|tcp-echo.foo.svc.cluster.local",
            "type": "EDS",
            "metadata": {
                "filter_metadata": {
                    "istio": {
                        "config": f"{PATH}/destination-rule/plain",
                        "services": [{"host": "tcp-echo.foo.svc.cluster.local", "namespace": "foo"}],
                        "subset": "v1",
                    }
                }
            },
        },
    },
    {"cluster": {"name": "inbound|9000||", "type": "ORIGINAL_DST", "metadata": {"filter_metadata": {}}}},
    {"cluster": {"name": "BlackHoleCluster", "type": "STATIC"}},
    {"cluster": {"name": "outbound|443||kubernetes.default.svc.cluster.local", "type": "EDS"}},
]
OUTBOUND: dict[str, Any] = {
    "name": "10.96.0.10_9000",
    "active_state": {
        "listener": {
            "name": "10.96.0.10_9000",
            "traffic_direction": "OUTBOUND",
            "filter_chains": [
                {
                    "filter_chain_match": {"destination_port": 9000},
                    "metadata": {"filter_metadata": {"istio": {"config": f"{PATH}/virtual-service/split"}}},
                    "filters": [{"name": "envoy.filters.network.tcp_proxy"}],
                }
            ],
        }
    },
}


def dump(
    active: list[dict[str, Any]],
    warming: list[dict[str, Any]] | None = None,
    *,
    ports: tuple[int, ...] = (),
    outbound: list[dict[str, Any]] | None = None,
    clusters: list[dict[str, Any]] | None = None,
) -> str:
    def state(filters: list[dict[str, Any]]) -> dict[str, Any]:
        chains = [{"filter_chain_match": {"transport_protocol": "tls"}, "filters": filters}]
        # A port-level mode of a port that no Service has (ForPassthrough).
        chains += [
            {
                "name": "virtualInbound",
                "filter_chain_match": {"destination_port": port, "transport_protocol": "tls"},
                "filters": filters,
            }
            for port in ports
        ]
        listener = {"name": "virtualInbound", "traffic_direction": "INBOUND", "filter_chains": chains}
        return {"version_info": "2026-11-22T10:00:00Z/7", "listener": listener}

    listeners: list[dict[str, Any]] = [{"name": "virtualInbound", "active_state": state(active)}]
    listeners += outbound or []
    if warming is not None:
        listeners[0]["warming_state"] = state(warming)
    kind = "type.googleapis.com/envoy.admin.v3."
    return json.dumps(
        {
            "configs": [
                {"@type": f"{kind}BootstrapConfigDump", "bootstrap": {"node": {"id": "sidecar~10.0.0.1"}}},
                {"@type": f"{kind}ClustersConfigDump", "dynamic_active_clusters": clusters or []},
                {"@type": f"{kind}ListenersConfigDump", "dynamic_listeners": listeners},
            ]
        }
    )


def name(policy: str, namespace: str = "foo", rule: int = 0) -> str:
    return f"ns[{namespace}]-policy[{policy}]-rule[{rule}]"


def test_policies_are_found_in_enforced_and_in_shadow_rules() -> None:
    text = dump([rbac(name("a"), name("a", rule=1)), rbac(name("b", "bar"), shadow=True)])
    assert read_dump(text).policies == {"foo/a", "bar/b"}


def test_what_is_being_warmed_decides_nothing_yet() -> None:
    assert read_dump(dump([rbac(name("old"))], warming=[rbac(name("new"))])).policies == {"foo/old"}


def test_what_istio_says_of_routing_and_of_ports_is_found() -> None:
    shown = read_dump(dump([], ports=(31234,), outbound=[OUTBOUND], clusters=CLUSTERS))
    assert shown.objects == {
        ("DestinationRule", "foo/plain"),
        ("VirtualService", "foo/split"),
        ("Service", "foo/tcp-echo"),
        ("Service", "default/kubernetes"),
    }
    assert shown.inbound_ports == {31234}


@pytest.mark.parametrize("text", ["", "no healthy upstream", "{}", "[]"])
def test_what_is_no_dump_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_dump(text)


class Api:
    """An API with one pod, that keeps what is written; `late`: dumps that do not have it yet."""

    def __init__(self, late: int = 0) -> None:
        self.labels = dict(LABELS)
        self.policies: dict[str, dict[str, Any]] = {}
        self.written: list[dict[str, Any]] = []
        self.late = late
        self.stale: dict[str, str] = {}  # labels that the mesh still believes in
        self.peers: list[dict[str, Any]] = []  # PeerAuthentications of others
        self.deaf_to_peers = False
        self.clusters: list[dict[str, Any]] = []

    def serves(self, api_version: str, kind: str) -> bool:
        return api_version == "security.istio.io/v1"

    def key(self, document: Mapping[str, Any], *, namespace: str = "") -> ObjectKey:
        metadata = document["metadata"]
        return ObjectKey(
            api_version=document["apiVersion"],
            kind=document["kind"],
            resource="x",
            namespace=metadata["namespace"],
            name=metadata["name"],
        )

    def get(self, key: ObjectKey) -> Answer:
        return Answer(code=200, body={"metadata": {"labels": self.labels}})

    def create(self, document: dict[str, Any]) -> Answer:
        self.policies[document["metadata"]["name"]] = document
        self.written.append(document)
        return Answer(code=201)

    def delete(self, key: ObjectKey) -> Answer:
        del self.policies[key.name]
        return Answer(code=200)

    def list(
        self, api_version: str, kind: str, *, namespace: str = "", selector: str = ""
    ) -> tuple[list[dict[str, Any]], str]:
        return self.peers, "1"

    def dump(self, pod: str, deadline: float) -> str:
        self.late -= 1
        known = {**self.labels, **self.stale}
        found = [
            name(policy)
            for policy, document in self.policies.items()
            if document["kind"] == "AuthorizationPolicy"
            and document["spec"]["selector"]["matchLabels"].items() <= known.items()
        ]
        ports = [
            int(port)
            for document in self.policies.values()
            for port in document["spec"].get("portLevelMtls", ())
            if not self.deaf_to_peers
        ]
        return dump([rbac(*(found if self.late < 0 else []))], ports=tuple(ports), clusters=self.clusters)


def barrier(api: Api, *kinds: str) -> ConfigDump:
    return ConfigDump(cast("Kube", api), dump=api.dump, awaited_kinds=("AuthorizationPolicy", "Pod", *kinds))


def test_the_nonce_of_the_last_write_is_waited_for_and_taken_away_again() -> None:
    api = Api(late=3)
    waited = barrier(api).wait(Changes(), pods=["foo/tcp-echo-1"], timeout=60)
    assert waited.landed, waited.detail
    assert api.policies == {}
    (written,) = api.written
    assert written["spec"]["selector"] == {"matchLabels": LABELS}
    assert written["spec"]["rules"] == [{"to": [{"operation": {"ports": [BARRIER_PORT]}}]}]


def test_a_dump_that_merely_lacks_it_proves_nothing() -> None:
    waited = barrier(Api(late=10**9)).wait(Changes(), pods=["foo/tcp-echo-1"], timeout=0.2)
    assert not waited.landed
    assert "is not in the configuration of foo/tcp-echo-1" in waited.detail


def test_a_label_that_was_taken_off_must_be_forgotten_by_the_mesh() -> None:
    api = Api()
    one = barrier(api)
    assert one.wait(Changes(), pods=["foo/tcp-echo-1"], timeout=60).landed
    del api.labels["version"]
    api.stale = {"version": "v1"}
    waited = one.wait(Changes(), pods=["foo/tcp-echo-1"], timeout=0.2)
    assert (waited.landed, "a label that it has no more" in waited.detail) == (False, True)
    assert api.policies == {}


def test_what_nothing_tells_of_and_what_cannot_be_read_is_no_proof() -> None:
    api = Api()
    key = api.key({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "foo"}})
    waited = barrier(api).wait(Changes(written={key: "1"}), pods=["foo/tcp-echo-1"], timeout=60)
    assert (waited.landed, waited.detail) == (False, "nothing tells of the landing of a Service")

    def broken(pod: str, deadline: float) -> str:
        raise ProbeError("pilot-agent: not found")

    api.dump = broken  # type: ignore[method-assign]  # this API's sidecars cannot be asked
    waited = barrier(api).wait(Changes(), pods=["foo/tcp-echo-1"], timeout=0.1)
    assert (waited.landed, "pilot-agent: not found" in waited.detail) == (False, True)


def key_of(api: Api, kind: str, name: str) -> ObjectKey:
    return api.key({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "foo"}})


POD = "foo/tcp-echo-1"


def test_a_peer_authentication_is_proven_by_a_port_of_our_own_before_any_policy_is_written() -> None:
    api = Api()
    changes = Changes(written={key_of(api, "PeerAuthentication", "strict"): "7"})
    waited = barrier(api, "PeerAuthentication").wait(changes, pods=[POD], timeout=60)
    assert waited.landed, waited.detail
    assert [document["kind"] for document in api.written] == ["PeerAuthentication", "AuthorizationPolicy"]
    spec = api.written[0]["spec"]
    # All else is inherited: it changes no port that anybody uses.
    assert (spec["mtls"], spec["selector"]) == ({"mode": "UNSET"}, {"matchLabels": LABELS})
    port, beside = spec["portLevelMtls"]
    assert [spec["portLevelMtls"][name]["mode"] for name in (port, beside)] == ["STRICT", "DISABLE"]
    assert f"PeerAuthentication by port {port} at {POD}" in waited.detail
    assert api.policies == {}


def test_a_peer_authentication_that_is_not_seen_is_not_proven() -> None:
    api = Api()
    api.deaf_to_peers = True
    changes = Changes(deleted=(key_of(api, "PeerAuthentication", "strict"),))
    waited = barrier(api, "PeerAuthentication").wait(changes, pods=[POD], timeout=0.2)
    assert (waited.landed, "has no filter chain" in waited.detail) == (False, True)
    assert api.policies == {}


def test_a_workload_that_has_a_peer_authentication_of_its_own_is_given_no_other() -> None:
    """The oldest of several holds, and of two of one second the first by name: ours could win."""
    api = Api()
    api.peers = [{"spec": {"selector": {"matchLabels": {"app": "tcp-echo"}}}}]
    one = barrier(api, "PeerAuthentication")
    changes = Changes(written={key_of(api, "PeerAuthentication", "port-level"): "7"})
    waited = one.wait(changes, pods=[POD], timeout=60)
    assert (waited.landed, "and all of their neighbours" in waited.detail) == (False, True)
    assert {document["kind"] for document in api.written} == {"AuthorizationPolicy"}


@pytest.mark.parametrize("pods", [[POD], [POD, "foo/sleep-1"]], ids=["not probed", "probed"])
def test_its_neighbours_speak_for_it(pods: list[str]) -> None:
    class Two(Api):
        def get(self, key: ObjectKey) -> Answer:
            return Answer(code=200, body={"metadata": {"labels": self.labels_of(key.name)}})

        def labels_of(self, pod: str) -> dict[str, str]:
            return {"app": pod.removesuffix("-1")}

        def dump(self, pod: str, deadline: float) -> str:
            self.labels = self.labels_of(pod.partition("/")[2])
            return super().dump(pod, deadline)

    api = Two()
    api.peers = [{"spec": {"selector": {"matchLabels": {"app": "tcp-echo"}}}}]
    changes = Changes(written={key_of(api, "PeerAuthentication", "port-level"): "7"})
    one = ConfigDump(
        cast("Kube", api),
        dump=api.dump,
        awaited_kinds=("AuthorizationPolicy", "PeerAuthentication"),
        neighbours=lambda: [POD, "foo/sleep-1"],
    )
    waited = one.wait(changes, pods=pods, timeout=60)
    assert waited.landed, waited.detail
    assert "at foo/sleep-1; and by what came after it at foo/tcp-echo-1" in waited.detail
    first, *rest = api.written
    assert first["spec"]["selector"] == {"matchLabels": {"app": "sleep"}}
    assert {document["kind"] for document in rest} == {"AuthorizationPolicy"}


def test_a_destination_rule_is_proven_by_its_name_and_its_end_by_its_absence() -> None:
    api = Api()
    one = barrier(api, "DestinationRule")
    key = key_of(api, "DestinationRule", "plain")
    written = Changes(written={key: "7"})
    waited = one.wait(written, pods=[POD], timeout=0.2)
    assert (waited.landed, "is not in the configuration" in waited.detail) == (False, True)
    api.clusters = CLUSTERS
    waited = one.wait(written, pods=[POD], timeout=60)
    assert (waited.landed, "DestinationRule plain by its name" in waited.detail) == (True, True)
    waited = one.wait(Changes(written={key: "8"}), pods=[POD], timeout=60)
    assert (waited.landed, "of a change of" in waited.detail) == (False, True)
    waited = one.wait(Changes(deleted=(key,)), pods=[POD], timeout=0.2)
    assert (waited.landed, "is still in the configuration" in waited.detail) == (False, True)
    api.clusters = []
    waited = one.wait(Changes(deleted=(key,)), pods=[POD], timeout=60)
    assert (waited.landed, "by its absence" in waited.detail) == (True, True)


def test_the_absence_of_what_was_never_seen_proves_nothing() -> None:
    api = Api()
    changes = Changes(deleted=(key_of(api, "VirtualService", "split"),))
    waited = barrier(api, "VirtualService").wait(changes, pods=[POD], timeout=60)
    assert (waited.landed, "its absence proves nothing" in waited.detail) == (False, True)
