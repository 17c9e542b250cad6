"""The ways to external authorizers follow Services and policies, and the condition says who is not asked."""

from typing import Any

import pytest
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from enforcer.mesh import MeshOptions, read_options
from enforcer.watch import Key, Listed
from enforcer.world import KINDS, World
from tests.enforcer.test_snapshot import (
    bytes_of,
    chains,
    change,
    clusters,
    filter_names,
    listeners,
    pod_document,
    policy_document,
    service,
    snapshot,
)

WAY = "authorizer|80||echo.foo.svc.cluster.local"
RBAC, EXT_AUTHZ = "envoy.filters.network.rbac", "envoy.filters.network.ext_authz"


def provider(name: str, kind: str = "envoyExtAuthzGrpc", *, port: int = 80) -> dict[str, Any]:
    return {"name": name, kind: {"service": "echo.foo.svc.cluster.local", "port": port}}


OPTIONS: MeshOptions = read_options(
    {
        "extensionProviders": [
            provider("a"),
            provider("same-way"),
            provider("other-port", port=81),
            provider("http", "envoyExtAuthzHttp"),
        ]
    }
)


def world(*policies: dict[str, Any], authorizer: dict[str, Any] | None = None) -> World:
    """One workload, foo/x with a sidecar, which is the endpoint of Service echo, too."""
    made = World(OPTIONS)
    for name in KINDS:
        made.apply(Listed(kind=name, documents={}))
    made.apply(change("Pod", pod_document()))
    if authorizer is not None:
        made.apply(change("Service", authorizer))
    for document in policies:
        made.apply(change("AuthorizationPolicy", document))
    return made


def ask(provider: str = "a", name: str = "p", **spec: Any) -> dict[str, Any]:
    return policy_document(name, action="CUSTOM", provider={"name": provider}, rules=[{}], **spec)


def plaintext_filters(made: World) -> list[str]:
    return filter_names(chains(listeners(snapshot(made))["inbound"])["plaintext"])


def addresses(made: World, way: str = WAY) -> list[tuple[str, int]]:
    endpoints = clusters(snapshot(made))[way].load_assignment.endpoints
    found = [each.endpoint.address.socket_address for group in endpoints for each in group.lb_endpoints]
    return [(address.address, address.port_value) for address in found]


def test_who_asks_has_the_way_and_nobody_else() -> None:
    assert WAY not in clusters(snapshot(world(authorizer=service())))
    assert WAY not in clusters(snapshot(world(ask("http"), authorizer=service())))
    made = world(ask(), authorizer=service())
    assert addresses(made) == [("10.96.0.9", 80)]
    assert plaintext_filters(made)[:2] == [RBAC, EXT_AUTHZ]
    cluster = clusters(snapshot(made))[WAY]
    assert cluster.upstream_bind_config.socket_options[0].int_value == 1337
    [packed] = cluster.typed_extension_protocol_options.values()
    options = HttpProtocolOptions()
    assert packed.Unpack(options)
    assert options.explicit_http_config.HasField("http2_protocol_options")


def test_an_authorizer_of_the_mesh_is_asked_by_mutual_tls_and_one_without_a_sidecar_in_plaintext() -> None:
    made = world(ask(), authorizer=service())
    context = UpstreamTlsContext()
    assert clusters(snapshot(made))[WAY].transport_socket.typed_config.Unpack(context)
    validation = context.common_tls_context.combined_validation_context.default_validation_context
    assert [name.matcher.exact for name in validation.match_typed_subject_alt_names] == [
        "spiffe://cluster.local/ns/foo/sa/default"
    ]
    made.apply(change("Pod", pod_document("bare", spec={"containers": [{"name": "app"}]})))
    assert not clusters(snapshot(made))[WAY].HasField("transport_socket")


def test_a_service_that_comes_is_asked_from_then_on_and_one_that_goes_is_not() -> None:
    made = world(ask())
    closed = bytes_of(snapshot(made))
    assert plaintext_filters(made) == [RBAC, "envoy.filters.network.tcp_proxy"]
    made.apply(change("Service", service()))
    assert plaintext_filters(made)[:2] == [RBAC, EXT_AUTHZ]
    made.apply(change("Service", service(clusterIP="10.96.0.10")))
    assert addresses(made) == [("10.96.0.10", 80)]
    made.apply(change("Service", service(), gone=True))
    assert bytes_of(snapshot(made)) == closed


def test_a_port_or_an_address_that_is_not_there_is_an_authorizer_that_is_down() -> None:
    other = "authorizer|81||echo.foo.svc.cluster.local"
    assert addresses(world(ask("other-port"), authorizer=service()), other) == []
    assert addresses(world(ask(), authorizer=service(clusterIP="None"))) == []


def test_a_change_of_the_authorizer_leaves_others_alone() -> None:
    made = world(authorizer=None)
    before = snapshot(made).versions
    made.apply(change("Service", service(selector={"app": "nobody"})))
    assert snapshot(made).versions == before


@pytest.mark.parametrize(
    ("policies", "problem"),
    [
        ([ask("a")], None),
        (
            [ask("nobody")],
            'the mesh configuration has no extension provider "nobody", so what the rules match',
        ),
        ([ask("http")], '"http" speaks HTTP, so on TCP the policy is ignored and denies nothing'),
        ([ask("a"), ask("same-way", "q")], '"a" stands beside "same-way" on one workload, so what the rules'),
        ([ask("a"), ask("same-way", "q", selector={"matchLabels": {"app": "other"}})], None),
        ([ask("nobody", targetRefs=[{"kind": "Gateway", "name": "g"}])], None),
        ([policy_document(action="DENY", rules=[{}])], None),
    ],
)
def test_who_is_not_asked(policies: list[dict[str, Any]], problem: str | None) -> None:
    made = world(*policies, authorizer=service())
    told = made.asks_nobody(Key(kind="AuthorizationPolicy", namespace="foo", name="p"))
    assert (told is None) if problem is None else told is not None and problem in told


def test_a_service_that_is_not_there_is_told() -> None:
    told = world(ask()).asks_nobody(Key(kind="AuthorizationPolicy", namespace="foo", name="p"))
    assert told == 'spec.provider.name: the Service of "a" does not exist, so what the rules match is denied'
