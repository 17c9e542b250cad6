"""The pod patch, applied and looked at."""

import copy
from typing import Any

import pytest

from enforcer.errors import MeshError
from enforcer.inject import Injection, InjectionError, inject
from enforcer.mesh import Exempt, MeshOptions, read_options

OPTIONS = MeshOptions()
ROOT = "-----BEGIN CERTIFICATE-----"


def injected(document: dict[str, Any], options: MeshOptions = OPTIONS) -> Injection:
    return inject(document, options, root=ROOT)


def pod(**changes: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "tcp-echo", "image": "x"}]} | changes.pop("spec", {})
    return {"metadata": {"name": "p", **changes}, "spec": spec}


def patched(document: dict[str, Any], options: MeshOptions = OPTIONS) -> dict[str, Any]:
    """Applies the patch: `add` to a member or to the end of a list is all it uses."""
    result = copy.deepcopy(document)
    for operation in injected(document, options).patch:
        assert operation["op"] == "add"
        *parents, last = operation["path"].split("/")[1:]
        target = result
        for name in parents:
            target = target[name]
        if last == "-":
            target.append(operation["value"])  # type: ignore[attr-defined]
        else:
            target[last] = operation["value"]
    return result


def names(containers: list[dict[str, Any]]) -> list[str]:
    return [container["name"] for container in containers]


def container(document: dict[str, Any], name: str) -> dict[str, Any]:
    spec = document["spec"]
    return next(entry for entry in [*spec["initContainers"], *spec["containers"]] if entry["name"] == name)


def test_a_pod_gets_capture_and_envoy() -> None:
    result = patched(pod())
    assert names(result["spec"]["initContainers"]) == ["authz-init"]
    assert names(result["spec"]["containers"]) == ["tcp-echo", "istio-proxy"]


def test_the_pods_own_init_containers_run_before_capture() -> None:
    result = patched(pod(spec={"initContainers": [{"name": "migrate"}]}))
    assert names(result["spec"]["initContainers"]) == ["migrate", "authz-init"]


def test_capabilities_are_the_least() -> None:
    result = patched(pod())
    rights = {name: container(result, name)["securityContext"] for name in ("authz-init", "istio-proxy")}
    assert rights["authz-init"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    assert rights["istio-proxy"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_RAW"]}
    assert all(context["readOnlyRootFilesystem"] for context in rights.values())
    assert not any(context["allowPrivilegeEscalation"] for context in rights.values())


def test_exempt_by_user_needs_no_capability() -> None:
    result = patched(pod(), MeshOptions(exempt=Exempt.UID))
    sidecar = container(result, "istio-proxy")
    assert sidecar["securityContext"]["runAsUser"] == 1337
    assert sidecar["securityContext"]["runAsNonRoot"] is True
    assert sidecar["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"name": "PROXY_MARK", "value": "0"} in sidecar["env"]
    assert container(result, "authz-init")["args"] == ["capture", "--exempt-uid", "1337"]


def test_the_sidecar_knows_its_pod_and_its_control_plane() -> None:
    sidecar = container(patched(pod()), "istio-proxy")
    fields = {
        entry["name"]: entry["valueFrom"]["fieldRef"]["fieldPath"]
        for entry in sidecar["env"]
        if "valueFrom" in entry
    }
    assert fields == {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_IP": "status.podIP",
    }
    assert {"name": "XDS_ADDRESS", "value": OPTIONS.xds_address} in sidecar["env"]
    assert sidecar["readinessProbe"]["httpGet"] == {"path": "/healthz/ready", "port": 15021}


def test_the_sidecar_alone_gets_a_token_for_the_control_plane_and_for_nobody_else() -> None:
    result = patched(pod(spec={"volumes": [{"name": "data", "emptyDir": {}}]}))
    volumes = {volume["name"]: volume for volume in result["spec"]["volumes"]}
    [source] = volumes["authz-token"]["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "authz-enforcer"
    assert set(volumes) == {"data", "authz-token", "authz-run"}
    mounts = {entry["name"]: entry.get("volumeMounts", []) for entry in result["spec"]["containers"]}
    assert [mount["name"] for mount in mounts["istio-proxy"]] == ["authz-token", "authz-run"]
    assert mounts["tcp-echo"] == []


def test_the_sidecar_knows_whom_to_trust() -> None:
    assert {"name": "MESH_ROOT", "value": ROOT} in container(patched(pod()), "istio-proxy")["env"]


def test_annotations_are_added_to_those_there() -> None:
    annotations = patched(pod(annotations={"team": "a/b~c"}))["metadata"]["annotations"]
    assert annotations["team"] == "a/b~c"
    assert annotations["kubectl.kubernetes.io/default-container"] == "tcp-echo"
    assert "istio-proxy" in annotations["sidecar.istio.io/status"]


def test_a_default_container_of_the_pods_own_stays() -> None:
    chosen = {"kubectl.kubernetes.io/default-container": "other"}
    assert patched(pod(annotations=chosen))["metadata"]["annotations"].items() >= chosen.items()


@pytest.mark.parametrize("place", ["labels", "annotations"])
def test_opting_out_leaves_the_pod_alone(place: str) -> None:
    assert injected(pod(**{place: {"sidecar.istio.io/inject": "false"}})).patch == ()


def test_the_label_wins_over_the_annotation() -> None:
    document = pod(
        labels={"sidecar.istio.io/inject": "true"}, annotations={"sidecar.istio.io/inject": "false"}
    )
    assert injected(document).patch != ()


def test_an_injected_pod_is_left_alone() -> None:
    assert injected(patched(pod())).patch == ()


def test_a_pod_in_the_hosts_network_is_left_alone_and_said_so() -> None:
    injection = injected(pod(spec={"hostNetwork": True}))
    assert injection.patch == ()
    assert injection.warning is not None
    assert "host's network" in injection.warning


def test_excluded_ports_reach_capture() -> None:
    annotations = {
        "traffic.sidecar.istio.io/excludeInboundPorts": "22, 8080",
        "traffic.sidecar.istio.io/excludeOutboundPorts": "3306",
    }
    arguments = container(patched(pod(annotations=annotations)), "authz-init")["args"]
    assert arguments[-4:] == ["--exclude-inbound-ports", "22,8080", "--exclude-outbound-ports", "3306"]


@pytest.mark.parametrize("text", ["http", "1-5", "0", "65536", "80;22"])
def test_ports_that_are_none_refuse_the_pod(text: str) -> None:
    annotations = {"traffic.sidecar.istio.io/excludeInboundPorts": text}
    with pytest.raises(InjectionError, match="excludeInboundPorts"):
        injected(pod(annotations=annotations))


def test_mesh_options_are_read_by_their_names() -> None:
    options = read_options({"rootNamespace": "istio-system", "exempt": "uid", "image": "r/i:1"})
    assert (options.root_namespace, options.exempt, options.image) == ("istio-system", Exempt.UID, "r/i:1")
    assert read_options({"certificateSeconds": 3}).certificate_seconds == 3
    assert read_options(None) == MeshOptions()


@pytest.mark.parametrize(
    "document",
    [
        {"rootNamespaces": "x"},
        {"exempt": "gid"},
        {"image": 7},
        {"image": ""},
        {"certificateSeconds": 0},
        {"certificateSeconds": True},
        {"certificateSeconds": "1h"},
    ],
)
def test_a_bad_mesh_option_is_named(document: dict[str, Any]) -> None:
    with pytest.raises(MeshError, match=next(iter(document))):
        read_options(document)
