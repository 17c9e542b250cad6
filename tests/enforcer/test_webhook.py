"""The admission webhooks over real TLS: what they answer, and that they never say yes by mistake."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from enforcer import ports
from enforcer.certificate import Certificate, make_certificate, server_context
from enforcer.mesh import MeshOptions, read_options
from enforcer.webhook import create_app, create_health_app, trust_patch

NAME = "enforcer.authz-system.svc"
ROOT = "-----BEGIN CERTIFICATE-----"


class Local(aiohttp.abc.AbstractResolver):
    """Every name is this machine, as the API server dials an address and verifies a name."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Holds nothing."""


@asynccontextmanager
async def serving(*, ready: bool = True) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    certificate = make_certificate((NAME,))
    runner = web.AppRunner(
        create_app(options=MeshOptions(), root=ROOT, ready=lambda: ready), shutdown_timeout=0.1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(certificate)).start()
    trust = ssl.create_default_context(cadata=certificate.authority.decode())
    connector = aiohttp.TCPConnector(resolver=Local(), ssl=trust)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session, f"https://{NAME}:{runner.addresses[0][1]}"
    await runner.cleanup()


def review(kind: str, document: Any, old: Any = None) -> dict[str, Any]:
    request = {
        "uid": "u1",
        "kind": {"kind": kind},
        "operation": "CREATE",
        "object": document,
        "oldObject": old,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def ask(path: str, body: Any, **options: Any) -> tuple[int, Any]:
    """The HTTP status, and the response of the review (the text where there is none)."""

    async def main() -> tuple[int, Any]:
        async with serving(**options) as (session, url):
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            async with session.post(url + path, data=data) as answer:
                text = await answer.text()
        return answer.status, json.loads(text)["response"] if answer.status == 200 else text

    return asyncio.run(main())


POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app"}]}}


def policy(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "foo"},
        "spec": spec,
    }


def to_ports(*values: str) -> list[dict[str, Any]]:
    return [{"to": [{"operation": {"ports": list(values)}}]}]


def test_a_pod_is_answered_with_a_patch() -> None:
    status, response = ask("/inject", review("Pod", POD))
    assert (status, response["uid"], response["allowed"]) == (200, "u1", True)
    assert response["patchType"] == "JSONPatch"
    patch = json.loads(base64.b64decode(response["patch"]))
    assert [operation["path"] for operation in patch] == [
        "/spec/initContainers",
        "/spec/containers/-",
        "/spec/volumes",
        "/metadata/annotations",
    ]


def test_a_pod_that_opts_out_is_answered_without_a_patch() -> None:
    out = {**POD, "metadata": {"labels": {"sidecar.istio.io/inject": "false"}}}
    _, response = ask("/inject", review("Pod", out))
    assert response == {"uid": "u1", "allowed": True}


def test_a_pod_that_cannot_have_its_sidecar_is_refused() -> None:
    annotations = {"traffic.sidecar.istio.io/excludeInboundPorts": "ssh"}
    _, response = ask("/inject", review("Pod", {**POD, "metadata": {"annotations": annotations}}))
    assert response["allowed"] is False
    assert "excludeInboundPorts" in response["status"]["message"]


def test_a_good_policy_is_admitted_and_a_bad_one_refused_with_its_field() -> None:
    assert (
        ask("/validate", review("AuthorizationPolicy", policy(rules=to_ports("9000"))))[1]["allowed"] is True
    )
    _, response = ask("/validate", review("AuthorizationPolicy", policy(rules=to_ports("http"))))
    assert response["allowed"] is False
    assert "spec.rules[0].to[0].operation.ports[0]" in response["status"]["message"]


def test_a_policy_that_needs_identity_is_admitted() -> None:
    rules = [{"from": [{"source": {"principals": ["*"]}}]}]
    _, response = ask("/validate", review("AuthorizationPolicy", policy(rules=rules)))
    assert response["allowed"] is True


@pytest.mark.parametrize(("mode", "allowed"), [("STRICT", True), ("MAYBE", False)])
def test_peer_authentications_are_judged(mode: str, allowed: bool) -> None:
    peer = {"kind": "PeerAuthentication", "metadata": {"name": "d"}, "spec": {"mtls": {"mode": mode}}}
    assert ask("/validate", review("PeerAuthentication", peer))[1]["allowed"] is allowed


def test_warnings_reach_the_author() -> None:
    rules = [{"to": [{"operation": {"methods": ["GET"]}}]}]
    _, response = ask("/validate", review("AuthorizationPolicy", policy(action="DENY", rules=rules)))
    assert response["allowed"] is True
    assert response["warnings"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/", review("Pod", POD), 404),
        ("/mutate", review("Pod", POD), 404),
        ("/inject/", review("Pod", POD), 404),
        ("/inject", review("AuthorizationPolicy", policy()), 400),
        ("/inject", b"", 400),
        ("/inject", b"[]", 400),
        ("/inject", {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}, 400),
        ("/inject", {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}, 400),
        ("/validate", review("AuthorizationPolicy", None), 400),
    ],
)
def test_what_is_not_understood_is_never_allowed(path: str, body: Any, status: int) -> None:
    assert ask(path, body)[0] == status


@pytest.mark.parametrize(
    "document", [{**POD, "spec": "x"}, {**POD, "metadata": 7}, {**POD, "spec": {"containers": "x"}}]
)
def test_a_pod_of_no_known_shape_is_never_allowed(document: Any) -> None:
    assert ask("/inject", review("Pod", document))[0] == 400


def test_a_policy_of_no_known_shape_is_refused() -> None:
    assert ask("/validate", review("AuthorizationPolicy", {**policy(), "spec": "x"}))[1]["allowed"] is False


def test_before_the_first_list_nothing_is_allowed() -> None:
    assert ask("/inject", review("Pod", POD), ready=False)[0] == 503
    assert ask("/validate", review("AuthorizationPolicy", policy()), ready=False)[0] == 503


def shake_hands(certificate: Certificate, name: str) -> None:
    """A TLS handshake in memory. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trust = ssl.create_default_context(cadata=certificate.authority.decode())
    client = trust.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context(certificate).wrap_bio(to_server, to_client, server_side=True)
    sides = [client, server]
    while sides:
        side = sides.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            sides.append(side)


def test_the_certificate_is_for_the_service_only() -> None:
    certificate = make_certificate((NAME,))
    shake_hands(certificate, NAME)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(certificate, "other.authz-system.svc")


def configuration(*bundles: str | None) -> dict[str, Any]:
    hooks = [{"clientConfig": {} if bundle is None else {"caBundle": bundle}} for bundle in bundles]
    return {"webhooks": hooks}


def test_trust_is_patched_where_it_is_missing_or_another() -> None:
    authority = b"pem"
    ours = base64.b64encode(authority).decode()
    patch = trust_patch(configuration(None, ours, "b2xk"), authority)
    assert [(operation["path"], operation["value"]) for operation in patch] == [
        ("/webhooks/0/clientConfig/caBundle", ours),
        ("/webhooks/2/clientConfig/caBundle", ours),
    ]
    assert trust_patch(configuration(ours), authority) == []


MANIFESTS = Path(__file__).resolve().parents[2] / "manifests" / "enforcer"


def manifests(kind: str) -> list[dict[str, Any]]:
    documents = [
        document
        for file in sorted(MANIFESTS.glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
    ]
    return [document for document in documents if document["kind"] == kind]


def test_the_manifests_and_the_options_speak_of_the_same() -> None:
    [mesh] = manifests("ConfigMap")
    options = read_options(yaml.safe_load(mesh["data"]["mesh.yaml"]))
    [mutating] = manifests("MutatingWebhookConfiguration")
    [validating] = manifests("ValidatingWebhookConfiguration")
    assert (mutating["metadata"]["name"], validating["metadata"]["name"]) == (
        options.mutating_webhook,
        options.validating_webhook,
    )
    [service] = manifests("Service")
    address = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    assert address == options.webhook_service
    assert options.xds_address == f"{address}:{ports.XDS}"
    assert {port["targetPort"] for port in service["spec"]["ports"]} == {ports.WEBHOOK, ports.XDS}


@pytest.mark.parametrize("kind", ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"])
def test_the_webhooks_fail_closed_and_lead_somewhere(kind: str) -> None:
    app = create_app(options=MeshOptions(), root=ROOT, ready=lambda: True)
    paths = {resource.canonical for resource in app.router.resources()}
    [configuration] = manifests(kind)
    for hook in configuration["webhooks"]:
        assert (hook["failurePolicy"], hook["sideEffects"]) == ("Fail", "None")
        assert hook["timeoutSeconds"] <= 10
        assert hook["clientConfig"]["service"]["path"] in paths


def test_two_authorities_are_never_the_same() -> None:
    certificates: list[Certificate] = [make_certificate((NAME,)) for _ in range(2)]
    assert certificates[0].authority != certificates[1].authority


def probe(play: Callable[[aiohttp.ClientSession, str], Coroutine[Any, Any, None]], *, ready: bool) -> None:
    async def main() -> None:
        app = create_health_app(ready=lambda: ready, reason=lambda: "waiting for a list")
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as session:
            await play(session, f"http://127.0.0.1:{runner.addresses[0][1]}")
        await runner.cleanup()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("ready", "status", "text"), [(True, 200, "ok\n"), (False, 503, "waiting for a list\n")]
)
def test_readiness_says_what_is_missing(ready: bool, status: int, text: str) -> None:
    async def play(session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(f"{url}/readyz") as answer:
            assert (answer.status, await answer.text()) == (status, text)
        async with session.get(f"{url}/livez") as answer:
            assert answer.status == 200

    probe(play, ready=ready)
