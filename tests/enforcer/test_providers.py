"""The external authorizers of the mesh configuration are read, or refused with the entry named."""

from typing import Any

import pytest

from enforcer.errors import MeshError
from enforcer.mesh import read_options
from enforcer.providers import Provider

HOST = "ext-authz.mesh.svc.cluster.local"


def providers(*entries: Any) -> tuple[Provider, ...]:
    return read_options({"extensionProviders": list(entries)}).extension_providers


def grpc(**changes: Any) -> dict[str, Any]:
    return {"name": "a", "envoyExtAuthzGrpc": {"service": HOST, "port": 9191, **changes}}


def test_a_mesh_that_names_none() -> None:
    assert read_options({}).extension_providers == ()


def test_both_kinds_are_read() -> None:
    http = {
        "service": f"mesh/{HOST}",
        "port": 80,
        "pathPrefix": "/check",
        "includeRequestHeadersInCheck": ["x"],
    }
    assert providers(grpc(), {"name": "b", "envoyExtAuthzHttp": http}) == (
        Provider(name="a", grpc=True, service="ext-authz", namespace="mesh", port=9191),
        Provider(name="b", grpc=False, service="ext-authz", namespace="mesh", port=80),
    )


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(None, 600), ("500ms", 0.5), ("0.5s", 0.5), ("2s", 2), ("1m", 60), ("1h", 3600)]
)
def test_timeouts(timeout: Any, seconds: float) -> None:
    assert providers(grpc(timeout=timeout))[0].timeout_seconds == seconds


def test_failing_open_is_said() -> None:
    assert not providers(grpc())[0].fail_open
    assert providers(grpc(failOpen=True))[0].fail_open


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("a", r"extensionProviders\[0\] must be a mapping"),
        ({"envoyExtAuthzGrpc": {}}, r"extensionProviders\[0\] needs a name"),
        ({"name": ""}, "needs a name"),
        ({"name": "a"}, "one of envoyExtAuthzGrpc and envoyExtAuthzHttp"),
        ({"name": "a", "zipkin": {}}, "one of envoyExtAuthzGrpc and envoyExtAuthzHttp"),
        ({**grpc(), "envoyExtAuthzHttp": {}}, "one of envoyExtAuthzGrpc and envoyExtAuthzHttp"),
        ({"name": "a", "envoyExtAuthzGrpc": None}, "must be a mapping, not None"),
        (grpc(failopen=True), "has no option 'failopen'"),
        (grpc(pathPrefix="/"), "has no option 'pathPrefix'"),
        (grpc(service="ext-authz"), "is no Service of the cluster"),
        (grpc(service=f"other/{HOST}"), "is no Service of the cluster"),
        (grpc(service="a.example.com"), "is no Service of the cluster"),
        (grpc(service=None), "is no Service of the cluster"),
        (grpc(port=0), r"port: 0 is not a port \(1..65535\)"),
        (grpc(port="9191"), "is not a port"),
        (grpc(port=True), "is not a port"),
        (grpc(failOpen="yes"), "failOpen: 'yes' is not a boolean"),
        (grpc(timeout="0s"), "is not a duration"),
        (grpc(timeout=2), "is not a duration"),
        (grpc(timeout="soon"), "is not a duration"),
    ],
)
def test_what_could_not_be_meant(entry: Any, message: str) -> None:
    with pytest.raises(MeshError, match=message):
        providers(entry)


def test_names_are_unique_and_the_option_is_a_list() -> None:
    with pytest.raises(MeshError, match="a second provider is named 'a'"):
        providers(grpc(), grpc())
    with pytest.raises(MeshError, match="extensionProviders must be a list"):
        read_options({"extensionProviders": grpc()})
