"""A stock kubectl against the API server, over TLS: what it prints is what a real server makes it print."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.embedded.api_server import api_server
from tests.cluster.embedded.widgets import CRD, widget

KUBECTL = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or "kubectl"
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "echo"},
    "spec": {
        "selector": {"matchLabels": {"app": "echo"}},
        "template": {
            "metadata": {"labels": {"app": "echo"}},
            "spec": {
                "containers": [
                    {
                        "name": "one",
                        "image": "authz-conformance:dev",
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                        "ports": [{"containerPort": 9000}],
                    },
                    {"name": "two", "image": "authz-conformance:dev"},
                ]
            },
        },
    },
}


class Kubectl:
    def __init__(self, directory: Path) -> None:
        self.environment = os.environ | {
            "KUBECONFIG": str(directory / "kubeconfig"),
            "HOME": str(directory),
        }

    def run(self, *words: str, stdin: Any = None, code: int = 0) -> subprocess.CompletedProcess[str]:
        text = stdin if isinstance(stdin, str) or stdin is None else json.dumps(stdin)
        done = subprocess.run(
            [KUBECTL, *words],
            input=text,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (code, "") == (done.returncode, done.stderr if code == 0 and "rror" in done.stderr else "")
        return done

    def __call__(self, *words: str, stdin: Any = None) -> str:
        return self.run(*words, stdin=stdin).stdout.strip()

    def error(self, *words: str, stdin: Any = None) -> str:
        return self.run(*words, stdin=stdin, code=1).stderr.strip()

    def apply(self, obj: Any, *words: str) -> str:
        return self("apply", "-n", "foo", *words, "-f", "-", stdin=obj)

    def json(self, *words: str) -> Any:
        return json.loads(self("get", "-n", "foo", "-o", "json", *words))


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    directory = tmp_path_factory.mktemp("api")
    with api_server(directory):
        run = Kubectl(directory)
        run("create", "namespace", "foo")
        run("create", "-f", "-", stdin=CRD)
        run("wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=60s")
        yield run


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("configmap", "made", "--from-literal=a=b"), "configmap"),
        (("serviceaccount", "made"), "serviceaccount"),
        (("secret", "generic", "made", "--from-literal=a=b"), "secret"),
        (("deployment", "made", "--image=authz-conformance:dev"), "deployment.apps"),
        (("service", "clusterip", "made", "--tcp=80:9000"), "service"),
        (("role", "made", "--verb=get", "--resource=pods"), "role.rbac.authorization.k8s.io"),
        (("rolebinding", "made", "--role=made", "--user=u"), "rolebinding.rbac.authorization.k8s.io"),
        (("quota", "made", "--hard=pods=9"), "resourcequota"),
    ],
)
def test_create_in_protobuf(kubectl: Kubectl, words: tuple[str, ...], kind: str) -> None:
    assert kubectl("create", "-n", "foo", *words) == f"{kind}/made created"


def test_create_token_and_ask_for_rights(kubectl: Kubectl) -> None:
    kubectl("create", "serviceaccount", "holder", "-n", "foo")
    assert len(kubectl("create", "token", "holder", "-n", "foo").split(".")) == 3
    assert kubectl("auth", "can-i", "delete", "pods", "-n", "foo") == "yes"


def test_apply_twice_removes_what_was_left_out(kubectl: Kubectl) -> None:
    assert kubectl.apply(DEPLOYMENT) == "deployment.apps/echo created"
    changed = json.loads(json.dumps(DEPLOYMENT))
    containers = changed["spec"]["template"]["spec"]["containers"]
    del containers[1], containers[0]["ports"], containers[0]["env"][1]
    assert kubectl.apply(changed) == "deployment.apps/echo configured"
    spec = kubectl.json("deployment", "echo")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert (container["name"], container["env"]) == ("one", [{"name": "A", "value": "1"}])
    assert "ports" not in container
    assert kubectl.apply(changed) == "deployment.apps/echo unchanged"


@pytest.mark.parametrize("how", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_apply_of_a_custom_resource(kubectl: Kubectl, how: tuple[str, ...]) -> None:
    name = f"applied{len(how)}"
    kubectl.apply(widget(name, action="ALLOW", rules=[{"to": [{"ports": ["1"]}]}]), *how)
    kubectl.apply(widget(name, action="ALLOW"), *how)
    found = kubectl.json("widget", name)
    assert (found["spec"], found["metadata"]["generation"]) == ({"action": "ALLOW"}, 2)


def test_server_side_apply_of_a_built_in_kind(kubectl: Kubectl) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "side", "labels": {"a": "1", "b": "2"}},
        "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}, {"port": 81, "name": "b"}]},
    }
    service["spec"]["ports"][0]["name"] = "a"  # type: ignore[index]
    kubectl.apply(service, "--server-side")
    address = kubectl.json("service", "side")["spec"]["clusterIP"]
    service["metadata"]["labels"] = {"a": "1"}  # type: ignore[index]
    service["spec"]["ports"] = [{"port": 80, "name": "a"}]  # type: ignore[index]
    kubectl.apply(service, "--server-side")
    found = kubectl.json("service", "side")
    assert found["metadata"]["labels"] == {"a": "1"}
    assert [port["port"] for port in found["spec"]["ports"]] == [80]
    assert found["spec"]["clusterIP"] == address
    assert "conflict with" in kubectl.error(
        *("apply", "--server-side", "--field-manager=other", "-n", "foo", "-f", "-"),
        stdin=service | {"spec": {"selector": {"app": "y"}, "ports": [{"port": 80, "name": "a"}]}},
    )


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("strategic", {"spec": {"template": {"spec": {"containers": [{"name": "one", "image": "p:1"}]}}}}),
        ("merge", {"spec": {"paused": True}}),
        ("json", [{"op": "replace", "path": "/spec/replicas", "value": 5}]),
    ],
)
def test_patch(kubectl: Kubectl, kind: str, patch: Any) -> None:
    kubectl.apply(DEPLOYMENT | {"metadata": {"name": f"patched-{kind}"}})
    words = ("patch", "deployment", f"patched-{kind}", "-n", "foo", "--type", kind, "-p", json.dumps(patch))
    assert kubectl(*words) == f"deployment.apps/patched-{kind} patched"
    spec = kubectl.json("deployment", f"patched-{kind}")["spec"]
    first, second = spec["template"]["spec"]["containers"]
    assert second["name"] == "two"
    assert {
        "strategic": first["image"] == "p:1",
        "merge": spec.get("paused") is True,
        "json": spec["replicas"] == 5,
    }[kind]


def test_label_annotate_scale(kubectl: Kubectl) -> None:
    kubectl.apply(widget("marked", action="DENY"))
    kubectl("label", "widget", "marked", "-n", "foo", "tier=x")
    kubectl("annotate", "widget", "marked", "-n", "foo", "note=y")
    kubectl("scale", "widget", "marked", "-n", "foo", "--replicas=3")
    found = kubectl.json("widget", "marked")
    assert found["metadata"]["labels"] == {"tier": "x"}
    assert found["metadata"]["annotations"]["note"] == "y"
    assert found["spec"]["replicas"] == 3
    assert [w["metadata"]["name"] for w in kubectl.json("wd", "-l", "tier=x")["items"]] == ["marked"]
    kubectl("label", "widget", "marked", "-n", "foo", "tier-")
    assert "labels" not in kubectl.json("widget", "marked")["metadata"]


def test_tables(kubectl: Kubectl) -> None:
    kubectl.apply(widget("shown", action="DENY"))
    lines = kubectl("get", "widget", "shown", "-n", "foo").splitlines()
    assert lines[0].split() == ["NAME", "ACTION", "READY", "AGE"]
    assert lines[1].split()[:2] == ["shown", "DENY"]
    service = kubectl("get", "service", "kubernetes").splitlines()[1].split()
    assert service[:5] == ["kubernetes", "ClusterIP", "10.96.0.1", "<none>", "443/TCP"]


def test_two_versions_of_one_object(kubectl: Kubectl) -> None:
    kubectl.apply(widget("old", version="v1beta1", action="DENY"))
    for version in ("v1", "v1beta1"):
        found = kubectl.json(f"widgets.{version}.example.com", "old")
        assert (found["apiVersion"], found["spec"]) == (f"example.com/{version}", {"action": "DENY"})


def test_wait(kubectl: Kubectl) -> None:
    kubectl.apply(widget("awaited", action="DENY"))
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    words = ("--subresource=status", "--type=merge", "-p", json.dumps(status))
    waiting = subprocess.Popen(
        [KUBECTL, "wait", "widget/awaited", "-n", "foo", "--for=condition=Ready", "--timeout=60s"],
        env=kubectl.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    kubectl("patch", "widget", "awaited", "-n", "foo", *words)
    assert waiting.communicate(timeout=120)[0] == "widget.example.com/awaited condition met\n"
    path = "--for=jsonpath={.spec.action}=DENY"
    assert "condition met" in kubectl("wait", "widget/awaited", "-n", "foo", path, "--timeout=60s")
    deletion = subprocess.Popen(
        [KUBECTL, "wait", "widget/awaited", "-n", "foo", "--for=delete", "--timeout=60s"],
        env=kubectl.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    kubectl("delete", "widget", "awaited", "-n", "foo")
    deletion.communicate(timeout=120)
    assert deletion.returncode == 0


def test_status_writes_change_no_generation(kubectl: Kubectl) -> None:
    kubectl.apply(widget("counted", action="DENY"))
    patch = json.dumps({"status": {"x": 1}, "spec": {"action": "ALLOW"}})
    kubectl(*("patch", "widget", "counted", "-n", "foo", "--subresource=status", "--type=merge", "-p", patch))
    found = kubectl.json("widget", "counted")
    assert (found["metadata"]["generation"], found["status"], found["spec"]) == (
        1,
        {"x": 1},
        {"action": "DENY"},
    )


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (
            widget("bad", action="NO"),
            'spec.action: Unsupported value: "NO": supported values: "ALLOW", "DENY"',
        ),
        (widget("bad", actoin="DENY"), 'strict decoding error: unknown field "spec.actoin"'),
        (
            widget("bad") | {"kind": "Wodget"},
            'no matches for kind "Wodget" in version "example.com/v1"',
        ),
        (
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Bad_Name"}},
            "a lowercase RFC 1123 subdomain must consist of",
        ),
        (
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "p"},
                "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": 1}]}]},
            },
            "json: cannot unmarshal number into Go struct field",
        ),
    ],
)
def test_bad_objects_are_refused(kubectl: Kubectl, obj: dict[str, Any], message: str) -> None:
    assert message in kubectl.error("apply", "-n", "foo", "-f", "-", stdin=obj)
    assert "bad" not in kubectl("get", "widgets", "-n", "foo", "-o", "name")


def test_a_manifest_without_a_name(kubectl: Kubectl) -> None:
    nameless = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}
    error = kubectl.error("create", "-n", "foo", "-f", "-", stdin=nameless)
    assert error == (
        'The ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required'
    )


def test_what_is_not_there(kubectl: Kubectl) -> None:
    missing = kubectl.error("get", "pod", "x", "-n", "foo")
    assert missing == 'Error from server (NotFound): pods "x" not found'
    assert kubectl.error("create", "configmap", "x", "-n", "nope").endswith('namespaces "nope" not found')
    assert kubectl.error("get", "wodgets") == 'error: the server doesn\'t have a resource type "wodgets"'
    again = kubectl.error("create", "namespace", "foo")
    assert again == 'Error from server (AlreadyExists): namespaces "foo" already exists'


def test_a_terminating_namespace_takes_nothing(kubectl: Kubectl) -> None:
    kubectl("create", "namespace", "ending")
    kubectl("delete", "namespace", "ending", "--wait=false")
    assert kubectl("get", "namespace", "ending").splitlines()[1].split()[1] == "Terminating"
    assert "because it is being terminated" in kubectl.error("create", "configmap", "x", "-n", "ending")
