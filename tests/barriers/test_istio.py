"""The barrier of Istio's sidecars: what is read out of a configuration dump, and what counts as proof."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import pytest

from conformance.barrier import Changes
from conformance.barrier_istio import BARRIER_PORT, ConfigDump, policies_in
from conformance.cluster.kube import Answer, Kube, ObjectKey
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


def dump(active: list[dict[str, Any]], warming: list[dict[str, Any]] | None = None) -> str:
    def state(filters: list[dict[str, Any]]) -> dict[str, Any]:
        chains = [{"filter_chain_match": {"transport_protocol": "tls"}, "filters": filters}]
        listener = {"name": "virtualInbound", "traffic_direction": "INBOUND", "filter_chains": chains}
        return {"version_info": "2026-11-22T10:00:00Z/7", "listener": listener}

    listeners = [{"name": "virtualInbound", "active_state": state(active)}]
    if warming is not None:
        listeners[0]["warming_state"] = state(warming)
    kind = "type.googleapis.com/envoy.admin.v3."
    return json.dumps(
        {
            "configs": [
                {"@type": f"{kind}BootstrapConfigDump", "bootstrap": {"node": {"id": "sidecar~10.0.0.1"}}},
                {"@type": f"{kind}ListenersConfigDump", "dynamic_listeners": listeners},
            ]
        }
    )


def name(policy: str, namespace: str = "foo", rule: int = 0) -> str:
    return f"ns[{namespace}]-policy[{policy}]-rule[{rule}]"


def test_policies_are_found_in_enforced_and_in_shadow_rules() -> None:
    text = dump([rbac(name("a"), name("a", rule=1)), rbac(name("b", "bar"), shadow=True)])
    assert policies_in(text) == {"foo/a", "bar/b"}


def test_what_is_being_warmed_decides_nothing_yet() -> None:
    assert policies_in(dump([rbac(name("old"))], warming=[rbac(name("new"))])) == {"foo/old"}


@pytest.mark.parametrize("text", ["", "no healthy upstream", "{}", "[]"])
def test_what_is_no_dump_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        policies_in(text)


class Api:
    """An API with one pod, that keeps what is written; `late`: dumps that do not have it yet."""

    def __init__(self, late: int = 0) -> None:
        self.labels = dict(LABELS)
        self.policies: dict[str, dict[str, Any]] = {}
        self.written: list[dict[str, Any]] = []
        self.late = late
        self.stale: dict[str, str] = {}  # labels that the mesh still believes in

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

    def dump(self, pod: str, deadline: float) -> str:
        self.late -= 1
        known = {**self.labels, **self.stale}
        found = [
            name(policy)
            for policy, document in self.policies.items()
            if document["spec"]["selector"]["matchLabels"].items() <= known.items()
        ]
        return dump([rbac(*(found if self.late < 0 else []))])


def barrier(api: Api) -> ConfigDump:
    return ConfigDump(cast("Kube", api), dump=api.dump, awaited_kinds=("AuthorizationPolicy", "Pod"))


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
