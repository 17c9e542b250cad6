"""Admission: webhooks over real TLS, and the built-in checks."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from conformance.cluster.embedded.apiserver.admission import Admission
from conformance.cluster.embedded.apiserver.attributes import Attributes
from conformance.cluster.embedded.apiserver.auth import User
from conformance.cluster.embedded.apiserver.pki import Authority, server_context
from conformance.cluster.embedded.apiserver.quota import quota_status
from conformance.cluster.embedded.apiserver.status import ApiError

USER = User(name="admin", groups=("system:masters",))
SERVER_NAME = "enforcer.mesh.svc"
MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"
POLICIES = {"apiGroups": ["security.istio.io"], "resources": ["authorizationpolicies"]}
Answer = dict[str, Any] | None


@dataclass
class World:
    """Stored objects by resource, and a webhook server that answers as told and keeps what it was asked."""

    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    bundle: str = ""
    port: int = 0

    def list_objects(self, resource: str) -> Iterable[dict[str, Any]]:
        return iter(self.objects.get(resource, []))

    def find(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        for obj in self.objects.get(resource, []):
            if (obj["metadata"].get("namespace", ""), obj["metadata"]["name"]) == (namespace, name):
                return obj
        return None

    def add(self, resource: str, name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
        metadata = {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            **more.pop("metadata", {}),
        }
        obj = {"metadata": metadata, **more}
        self.objects.setdefault(resource, []).append(obj)
        return obj

    def hook(self, resource: str, name: str, path: str = "/", **more: Any) -> None:
        """One webhook, in a configuration of its own."""
        rule = {"operations": ["*"], "apiVersions": ["*"], "scope": "*", **POLICIES}
        service = {"namespace": "mesh", "name": "enforcer", "path": path}
        config = {
            "name": name,
            "clientConfig": {"service": service, "caBundle": self.bundle},
            "rules": [rule],
            "sideEffects": "None",
            **more,
        }
        self.add(resource, f"c-{name}", webhooks=[config])

    async def handle(self, request: web.Request) -> web.Response:
        review = await request.json()
        self.asked.append(review["request"])
        response = {"uid": review["request"]["uid"], "allowed": True}
        if request.path in self.answers:
            response |= self.answers[request.path](review["request"])
        if (status := response.pop("http", 200)) != 200:
            return web.Response(status=status, text="broken")
        return web.json_response(
            {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        )


@asynccontextmanager
async def webhook_server(world: World, directory: Path) -> AsyncIterator[None]:
    authority = Authority.create()
    context = server_context(authority.issue_server(names=[SERVER_NAME], addresses=[]), directory)
    application = web.Application()
    application.router.add_post("/{path:.*}", world.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    world.port = runner.addresses[0][1]
    world.bundle = base64.b64encode(authority.certificate.encode()).decode()
    world.add("services", "enforcer", "mesh", spec={"ports": [{"name": "webhook", "port": 443}]})
    subset = {"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "webhook", "port": world.port}]}
    world.add("endpoints", "enforcer", "mesh", subsets=[subset])
    world.add("namespaces", "foo", metadata={"labels": {"istio-injection": "enabled"}})
    try:
        yield
    finally:
        await runner.cleanup()


def policy(**more: Any) -> Attributes:
    obj = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "foo", "labels": {"a": "b"}},
        "spec": {},
    }
    values: dict[str, Any] = {
        "operation": "CREATE",
        "group": "security.istio.io",
        "version": "v1",
        "resource": "authorizationpolicies",
        "kind": "AuthorizationPolicy",
        "namespace": "foo",
        "name": "p",
        "user": USER,
        "obj": obj,
    }
    return Attributes(**values | more)


def run(tmp_path: Path, scenario: Callable[[World, Admission], Awaitable[None]]) -> World:
    world = World()

    async def main() -> None:
        async with webhook_server(world, tmp_path):
            admission = Admission(list_objects=world.list_objects, find=world.find)
            try:
                await scenario(world, admission)
            finally:
                await admission.close()

    asyncio.run(main())
    return world


async def refusal(call: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await call
    return caught.value


def patch(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(steps).encode()).decode()}


def test_an_allowing_webhook_is_asked_in_full_and_its_warnings_come_back(tmp_path: Path) -> None:
    async def scenario(world: World, admission: Admission) -> None:
        world.hook(VALIDATING, "v.x.io")
        world.answers["/"] = lambda _: {"warnings": ["denies all TCP in scope"]}
        assert await admission.validate(policy(dry_run=True)) == ["denies all TCP in scope"]

    (asked,) = run(tmp_path, scenario).asked
    assert asked["kind"] == {
        "group": "security.istio.io",
        "version": "v1",
        "kind": "AuthorizationPolicy",
    }
    assert asked["object"]["metadata"]["name"] == "p"
    assert (asked["oldObject"], asked["dryRun"], asked["operation"]) == (None, True, "CREATE")
    assert asked["userInfo"] == {"username": "admin", "groups": ["system:masters"]}


@pytest.mark.parametrize(
    ("status", "code", "reason", "words"),
    [
        ({"code": 422, "reason": "Invalid", "message": "rules"}, 422, "Invalid", ": rules"),
        ({"message": "no"}, 400, "", ": no"),
        (None, 400, "", " without explanation"),
    ],
)
def test_a_denial_carries_what_the_webhook_said(
    tmp_path: Path, status: Answer, code: int, reason: str, words: str
) -> None:
    async def scenario(world: World, admission: Admission) -> None:
        world.hook(VALIDATING, "v.x.io")
        world.answers["/"] = lambda _: {"allowed": False, "status": status}
        error = await refusal(admission.validate(policy()))
        assert error.message == f'admission webhook "v.x.io" denied the request{words}'
        assert (error.code, error.reason) == (code, reason)

    run(tmp_path, scenario)


def test_mutating_webhooks_see_each_others_patches_and_leave_the_given_object_alone(tmp_path: Path) -> None:
    async def scenario(world: World, admission: Admission) -> None:
        world.hook(MUTATING, "a.x.io", "/a", reinvocationPolicy="IfNeeded")
        world.hook(MUTATING, "b.x.io", "/b")
        world.answers["/a"] = lambda _: patch({"op": "add", "path": "/spec/action", "value": "DENY"})
        world.answers["/b"] = lambda request: patch(
            {"op": "test", "path": "/spec/action", "value": "DENY"},
            {"op": "add", "path": "/metadata/labels/seen~1by", "value": request["name"]},
        )
        attributes = policy()
        mutated, _ = await admission.mutate(attributes)
        assert mutated["spec"] == {"action": "DENY"}
        assert mutated["metadata"]["labels"] == {"a": "b", "seen/by": "p"}
        assert attributes.obj is not None
        assert attributes.obj["spec"] == {}
        assert len(world.asked) == 3, "the first is asked again, because the second changed the object"

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("config", "attributes", "called"),
    [
        ({}, {}, True),
        ({"namespaceSelector": {"matchLabels": {"istio-injection": "enabled"}}}, {}, True),
        ({"namespaceSelector": {"matchLabels": {"istio-injection": "disabled"}}}, {}, False),
        ({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}}, {}, False),
        (
            {"objectSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}},
            {},
            True,
        ),
        ({"rules": [{**POLICIES, "operations": ["UPDATE"], "apiVersions": ["*"]}]}, {}, False),
        ({"rules": [{**POLICIES, "operations": ["*"], "apiVersions": ["*"], "scope": "Cluster"}]}, {}, False),
        ({}, {"subresource": "status"}, False),
        ({"rules": [{**POLICIES, "operations": ["*"], "apiVersions": ["v1beta1"]}]}, {}, True),
        (
            {
                "rules": [{**POLICIES, "operations": ["*"], "apiVersions": ["v1beta1"]}],
                "matchPolicy": "Exact",
            },
            {},
            False,
        ),
    ],
)
def test_who_is_asked(
    tmp_path: Path, config: dict[str, Any], attributes: dict[str, Any], called: bool
) -> None:
    async def scenario(world: World, admission: Admission) -> None:
        versions = [{"name": "v1", "served": True}, {"name": "v1beta1", "served": True}]
        world.add(
            "customresourcedefinitions.apiextensions.k8s.io",
            "authorizationpolicies.security.istio.io",
            spec={"versions": versions},
        )
        world.hook(VALIDATING, "v.x.io", **config)
        await admission.validate(policy(**attributes))
        assert bool(world.asked) is called
        for asked in world.asked:
            version = asked["kind"]["version"]
            assert asked["object"]["apiVersion"] == f"security.istio.io/{version}"
            assert asked["requestKind"]["version"] == "v1"

    run(tmp_path, scenario)


async def _no_service(world: World) -> str:
    world.objects["services"].clear()
    return 'service "enforcer" not found'


async def _no_endpoints(world: World) -> str:
    world.objects["endpoints"].clear()
    return 'no endpoints available for service "enforcer"'


async def _closed_port(world: World) -> str:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    world.objects["endpoints"][0]["subsets"][0]["ports"][0]["port"] = port
    return f"dial tcp 127.0.0.1:{port}: connect: connection refused"


async def _stranger(world: World) -> str:
    bundle = base64.b64encode(Authority.create().certificate.encode()).decode()
    world.objects[VALIDATING][0]["webhooks"][0]["clientConfig"]["caBundle"] = bundle
    return "tls: failed to verify certificate"


async def _broken(world: World) -> str:
    world.answers["/"] = lambda _: {"http": 500}
    return 'an error on the server ("broken") has prevented the request from succeeding'


async def _wrong_uid(world: World) -> str:
    world.answers["/"] = lambda _: {"uid": "other"}
    return "received invalid webhook response: expected response.uid="


@pytest.mark.parametrize("break_", [_no_service, _no_endpoints, _closed_port, _stranger, _broken, _wrong_uid])
@pytest.mark.parametrize("failure_policy", ["Fail", "Ignore"])
def test_a_webhook_that_cannot_be_asked(
    tmp_path: Path, break_: Callable[[World], Awaitable[str]], failure_policy: str
) -> None:
    async def scenario(world: World, admission: Admission) -> None:
        world.hook(VALIDATING, "v.x.io", failurePolicy=failure_policy)
        words = await break_(world)
        if failure_policy == "Ignore":
            assert await admission.validate(policy()) == []
            return
        error = await refusal(admission.validate(policy()))
        assert (error.code, error.reason) == (500, "InternalError")
        assert error.message.startswith('Internal error occurred: failed calling webhook "v.x.io": ')
        assert words in error.message

    run(tmp_path, scenario)


def test_a_webhook_that_does_not_answer_in_time(tmp_path: Path) -> None:
    async def scenario(world: World, admission: Admission) -> None:
        world.hook(VALIDATING, "v.x.io", timeoutSeconds=1)
        released = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await released.wait()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        world.objects["endpoints"][0]["subsets"][0]["ports"][0]["port"] = server.sockets[0].getsockname()[1]
        error = await refusal(admission.validate(policy()))
        assert error.message.endswith(
            'failed to call webhook: Post "https://enforcer.mesh.svc:443/?timeout=1s": '
            "context deadline exceeded"
        )
        released.set()
        server.close()

    run(tmp_path, scenario)


def test_a_webhook_with_side_effects_is_not_asked_in_a_dry_run(tmp_path: Path) -> None:
    async def scenario(world: World, admission: Admission) -> None:
        world.hook(VALIDATING, "v.x.io", sideEffects="Some")
        error = await refusal(admission.validate(policy(dry_run=True)))
        assert error.message == 'admission webhook "v.x.io" does not support dry run'

    assert run(tmp_path, scenario).asked == []


def test_configurations_never_go_to_webhooks_and_match_conditions_are_refused(tmp_path: Path) -> None:
    rule = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
    group, plural = "admissionregistration.k8s.io", "validatingwebhookconfigurations"

    def configuration(**more: Any) -> Attributes:
        obj = {"metadata": {"name": "x"}, "webhooks": [{"name": "a.b.c", "clientConfig": {}, **more}]}
        return policy(
            group=group,
            resource=plural,
            kind="ValidatingWebhookConfiguration",
            namespace="",
            name="x",
            obj=obj,
        )

    async def scenario(world: World, admission: Admission) -> None:
        world.hook(VALIDATING, "v.x.io", rules=[rule])
        assert await admission.validate(configuration()) == []
        error = await refusal(admission.validate(configuration(matchConditions=[{"name": "n"}])))
        assert error.code == 422
        assert "webhooks[0].matchConditions: Forbidden" in error.message

    assert run(tmp_path, scenario).asked == []


def pod(spec: dict[str, Any] | None = None, **more: Any) -> Attributes:
    spec = {"containers": [{"name": "c"}]} if spec is None else spec
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "foo"}, "spec": spec}
    return policy(**{"group": "", "resource": "pods", "kind": "Pod", "obj": obj} | more)


def test_a_pod_gets_its_account_and_token_also_in_injected_containers(tmp_path: Path) -> None:
    async def scenario(world: World, admission: Admission) -> None:
        world.add("serviceaccounts", "default", "foo")
        rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
        world.hook(MUTATING, "inject.x.io", rules=[rule])
        world.answers["/"] = lambda _: patch(
            {"op": "add", "path": "/spec/containers/-", "value": {"name": "istio-proxy"}}
        )
        mutated, _ = await admission.mutate(pod())
        spec = mutated["spec"]
        assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
        (volume,) = spec["volumes"]
        assert volume["projected"]["sources"][0] == {
            "serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}
        }
        for container in spec["containers"]:
            (mount,) = container["volumeMounts"]
            assert mount["name"] == volume["name"]
            assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
        assert [c["name"] for c in spec["containers"]] == ["c", "istio-proxy"]

    run(tmp_path, scenario)


@pytest.mark.parametrize("where", ["pod", "account"])
def test_a_token_is_not_mounted_where_it_is_not_wanted(tmp_path: Path, where: str) -> None:
    async def scenario(world: World, admission: Admission) -> None:
        refused = {"automountServiceAccountToken": False}
        world.add("serviceaccounts", "default", "foo", **(refused if where == "account" else {}))
        mutated, _ = await admission.mutate(
            pod({"containers": [{"name": "c"}], **(refused if where == "pod" else {})})
        )
        assert "volumes" not in mutated["spec"]

    run(tmp_path, scenario)


def test_a_pod_waits_for_its_account_and_is_refused_without(tmp_path: Path) -> None:
    async def scenario(world: World, admission: Admission) -> None:
        asyncio.get_running_loop().call_later(0.05, world.add, "serviceaccounts", "default", "foo")
        mutated, _ = await admission.mutate(pod())
        assert mutated["spec"]["serviceAccountName"] == "default"
        error = await refusal(admission.mutate(pod({"serviceAccountName": "x", "containers": []})))
        assert error.code == 403
        assert error.message == (
            'pods "p" is forbidden: error looking up service account foo/x: serviceaccount "x" not found'
        )

    run(tmp_path, scenario)


RESTRICTED_PLAIN = (
    'violates PodSecurity "restricted:latest": '
    'allowPrivilegeEscalation != false (container "c" must set '
    "securityContext.allowPrivilegeEscalation=false), "
    'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), '
    'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), '
    'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to '
    '"RuntimeDefault" or "Localhost")'
)
TAME = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
NET_ADMIN = {"capabilities": {"add": ["NET_ADMIN"]}}


@pytest.mark.parametrize(
    ("level", "spec", "words"),
    [
        ("restricted", {"containers": [{"name": "c"}]}, RESTRICTED_PLAIN),
        ("restricted", {"containers": [{"name": "c", "securityContext": TAME}]}, ""),
        ("baseline", {"containers": [{"name": "c"}]}, ""),
        ("privileged", {"hostNetwork": True, "containers": []}, ""),
        (
            "baseline",
            {"hostNetwork": True, "containers": [{"name": "c", "securityContext": {"privileged": True}}]},
            'violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true), '
            'privileged (container "c" must not set securityContext.privileged=true)',
        ),
        (
            "baseline",
            {
                "initContainers": [{"name": "init", "securityContext": NET_ADMIN}],
                "containers": [{"name": "c"}],
            },
            'violates PodSecurity "baseline:latest": non-default capabilities '
            '(container "init" must not include "NET_ADMIN" in securityContext.capabilities.add)',
        ),
        (
            "baseline",
            {"volumes": [{"name": "v", "hostPath": {"path": "/"}}], "containers": [{"name": "c"}]},
            'violates PodSecurity "baseline:latest": hostPath volumes (volume "v")',
        ),
    ],
)
def test_pod_security_levels(tmp_path: Path, level: str, spec: dict[str, Any], words: str) -> None:
    async def scenario(world: World, admission: Admission) -> None:
        world.objects["namespaces"][0]["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": level}
        if not words:
            assert await admission.validate(pod(spec)) == []
            return
        error = await refusal(admission.validate(pod(spec)))
        assert (error.code, error.message) == (403, f'pods "p" is forbidden: {words}')

    run(tmp_path, scenario)


def test_the_warn_level_warns_of_templates_and_an_unknown_level_is_refused(tmp_path: Path) -> None:
    async def scenario(world: World, admission: Admission) -> None:
        labels = {"pod-security.kubernetes.io/warn": "restricted"}
        world.objects["namespaces"][0]["metadata"]["labels"] = labels
        template = {
            "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}},
            "metadata": {"name": "d"},
        }
        warnings = await admission.validate(
            pod(group="apps", resource="deployments", kind="Deployment", obj=template)
        )
        assert warnings == [RESTRICTED_PLAIN.replace("violates", "would violate")]
        namespace = {"metadata": {"name": "n", "labels": {"pod-security.kubernetes.io/enforce": "strict"}}}
        error = await refusal(
            admission.validate(pod(resource="namespaces", kind="Namespace", namespace="n", obj=namespace))
        )
        assert "must be one of privileged, baseline, restricted" in error.message

    run(tmp_path, scenario)


def test_a_quota_counts_what_is_there(tmp_path: Path) -> None:
    async def scenario(world: World, admission: Admission) -> None:
        hard = {"pods": "1", "count/pods": "3", "requests.cpu": "1"}
        quota = world.add("resourcequotas", "q", "foo", spec={"hard": hard})
        world.add("pods", "elsewhere", "bar")
        world.add("pods", "done", "foo", status={"phase": "Succeeded"})
        assert await admission.validate(pod()) == []
        world.add("pods", "running", "foo", status={"phase": "Running"})
        assert quota_status(quota, world.list_objects)["used"] == {"pods": "1", "count/pods": "2"}
        error = await refusal(admission.validate(pod()))
        assert error.code == 403
        assert error.message == (
            'pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
        )
        assert await admission.validate(pod(operation="UPDATE")) == []

    run(tmp_path, scenario)
