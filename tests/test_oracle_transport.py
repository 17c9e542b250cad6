"""PeerAuthentication as the oracle reads it: who wins, and what that makes of a client."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from conformance.oracle import Connection, Destination, Mesh, Mode, Source, Verdict, decide, mode_for

MESH = Mesh(root_namespace="root")
ECHO = Destination(namespace="foo", ip="10.0.0.9", port=9000, labels={"app": "tcp-echo"})
CLIENT = Source(namespace="foo", service_account="sleep", ip="10.0.0.1", meshed=True)


def peer(namespace: str, mode: str | None, *, name: str = "p", **rest: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {} if mode is None else {"mtls": {"mode": mode}}
    if "app" in rest:
        spec["selector"] = {"matchLabels": {"app": rest["app"]}}
    if "ports" in rest:
        spec["portLevelMtls"] = {port: {"mode": text} for port, text in rest["ports"].items()}
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": rest.get("age", "2")}
    return {"kind": "PeerAuthentication", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ([], Mode.PERMISSIVE),
        ([peer("root", "STRICT")], Mode.STRICT),
        ([peer("root", "STRICT"), peer("foo", "DISABLE")], Mode.DISABLE),
        ([peer("root", "STRICT"), peer("foo", "UNSET")], Mode.STRICT),
        ([peer("root", "STRICT"), peer("foo", None)], Mode.STRICT),
        ([peer("bar", "STRICT")], Mode.PERMISSIVE),
        ([peer("foo", "STRICT"), peer("foo", "PERMISSIVE", app="tcp-echo")], Mode.PERMISSIVE),
        ([peer("foo", "STRICT", app="sleep")], Mode.PERMISSIVE),
        ([peer("foo", "STRICT", app="tcp-echo", ports={9000: "DISABLE"})], Mode.DISABLE),
        ([peer("foo", "STRICT", app="tcp-echo", ports={9001: "DISABLE"})], Mode.STRICT),
        ([peer("foo", None, app="tcp-echo", ports={9000: "UNSET"}), peer("foo", "STRICT")], Mode.STRICT),
        ([peer("foo", "STRICT", age="2"), peer("foo", "DISABLE", name="old", age="1")], Mode.DISABLE),
        ([peer("root", "STRICT", app="tcp-echo")], Mode.STRICT),
    ],
)
def test_the_narrowest_wins_and_the_oldest_of_its_level(
    documents: list[dict[str, Any]], expected: Mode
) -> None:
    assert mode_for(documents, ECHO, MESH)[0] is expected


def verdict(mode: str, client: Source, rule: dict[str, Any]) -> Verdict:
    policy = {
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "foo"},
        "spec": {"rules": [rule]},
    }
    connection = Connection(source=client, destination=ECHO, sni="outbound")
    return decide([peer("foo", mode), policy], connection, MESH).verdict


def test_what_a_mode_makes_of_a_client() -> None:
    plain = replace(CLIENT, meshed=False)
    anybody: dict[str, Any] = {}
    known = {"from": [{"source": {"principals": ["*"]}}]}
    named = {"when": [{"key": "connection.sni", "values": ["*"]}]}
    assert verdict("STRICT", plain, anybody) is Verdict.REFUSED
    assert verdict("STRICT", CLIENT, known) is Verdict.ALLOWED
    assert verdict("PERMISSIVE", plain, anybody) is Verdict.ALLOWED
    assert verdict("PERMISSIVE", plain, known) is Verdict.DENIED
    assert verdict("DISABLE", CLIENT, anybody) is Verdict.ALLOWED
    assert verdict("DISABLE", CLIENT, known) is Verdict.DENIED
    assert verdict("PERMISSIVE", CLIENT, named) is Verdict.ALLOWED
    assert verdict("DISABLE", CLIENT, named) is Verdict.DENIED
