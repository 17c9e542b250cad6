"""Custom kinds, webhooks and RBAC on the whole cluster: refused is refused, whoever asks."""

from __future__ import annotations

import base64

import pytest

from conformance.cluster.embedded.apiserver.pki import Authority
from tests.cluster.embedded.live import STAY, Object, Space, pod, refusal, request, service
from tests.cluster.embedded.widgets import CRD, widget

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
# It labels each pod it is asked about, and refuses those that say `forbidden: "yes"`.
WEBHOOK = """
import base64, http.server, json, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        labels = request["object"]["metadata"].get("labels") or {}
        answer = {"uid": request["uid"], "allowed": True}
        if self.path.startswith("/mutate"):
            patch = [{"op": "add", "path": "/metadata/labels/mutated", "value": request["namespace"]}]
            encoded = base64.b64encode(json.dumps(patch).encode()).decode()
            answer |= {"patchType": "JSONPatch", "patch": encoded}
        elif labels.get("forbidden") == "yes":
            answer |= {"allowed": False, "status": {"message": "not here, " + labels["mutated"], "code": 403}}
        else:
            answer["warnings"] = ["looked at"]
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server = http.server.ThreadingHTTPServer(("", 8443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture
def widgets(space: Space) -> str:
    """The path of this test's widgets."""
    space.kubectl("apply", "-f", "-", stdin=CRD)
    space.kubectl("wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=60s")
    return f"/apis/example.com/v1/namespaces/{space.name}/widgets"


def test_the_schema_of_a_custom_kind_is_enforced(space: Space, widgets: str) -> None:
    wrong = widget("w", action="SOMETIMES")
    status = refusal(lambda: request(space.live.api, "POST", widgets, wrong))
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert 'spec.action: Unsupported value: "SOMETIMES"' in status["message"]
    assert "Unsupported value" in space.error("apply", "-f", "-", stdin=wrong)
    unknown = widget("w", action="ALLOW", colour="red")
    assert 'unknown field "spec.colour"' in space.error("apply", "-f", "-", stdin=unknown)
    pruned = request(space.live.api, "POST", widgets, unknown, fieldValidation="Ignore")
    assert "colour" not in pruned["spec"]
    assert space.kubectl("get", "widgets", "-o", "name") == "widget.example.com/w"


def test_webhooks_over_tls_change_and_refuse_pods(space: Space) -> None:
    authority = serve_webhooks(space)
    configure(space, authority.certificate)
    made = space.until(lambda: accepted(space, "welcome"))
    assert made["metadata"]["labels"]["mutated"] == space.name
    status = space.refusal("POST", "pods", pod("p", STAY, labels={"forbidden": "yes"}))
    assert status["code"] == 403
    why = f'admission webhook "validate.{space.name}.test" denied the request: not here, {space.name}'
    assert status["message"] == why
    told = space.live.kubectl(
        *("-n", space.name, "run", "seen", "--image=authz-conformance:dev", "--command", "--", "true")
    )
    assert "Warning: looked at" in told.stderr
    # Nobody answers any more: what the webhook must judge is refused, whatever it is.
    space.core.delete_namespaced_pod("webhook", space.name, grace_period_seconds=0)
    space.until(lambda: space.gone("pods/webhook"))
    status = space.refusal("POST", "pods", pod("late", STAY))
    assert (status["code"], status["reason"]) == (500, "InternalError")
    assert "failed calling webhook" in status["message"]


def test_a_webhook_with_another_authoritys_certificate_is_not_believed(space: Space) -> None:
    serve_webhooks(space)
    configure(space, Authority.create().certificate)

    def refused() -> bool:
        """For its certificate, once the node's packet rules lead to the webhook."""
        status = space.refusal("POST", "pods", pod("p", STAY))
        assert status["code"] == 500
        return "certificate" in status["message"]

    space.until(refused)


def serve_webhooks(space: Space) -> Authority:
    """A ready pod that serves WEBHOOK as Service `webhook` with a certificate of the authority."""
    authority = Authority.create()
    names = [f"webhook.{space.name}.svc"]
    certificate = authority.issue_server("webhook", names=names, addresses=())
    pair = {"tls.crt": certificate.certificate, "tls.key": certificate.key, "server.py": WEBHOOK}
    space.create("secrets", {"metadata": {"name": "tls"}, "stringData": pair})
    space.create("services", service("webhook", selector="webhook", ports=[(443, 8443)]))
    space.run(
        "webhook",
        "exec python3 -I -S /tls/server.py",
        volumeMounts=[{"name": "tls", "mountPath": "/tls"}],
        readinessProbe={"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        spec={"volumes": [{"name": "tls", "secret": {"secretName": "tls"}}]},
    )
    space.ready("webhook")
    space.until(lambda: space.get("endpoints/webhook").get("subsets"))
    return authority


def configure(space: Space, certificate: str) -> None:
    bundle = base64.b64encode(certificate.encode()).decode()
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    for kind, path in (("Mutating", "mutate"), ("Validating", "validate")):
        hook: Object = {
            "name": f"{path}.{space.name}.test",
            "clientConfig": {
                "service": {"name": "webhook", "namespace": space.name, "path": f"/{path}"},
                "caBundle": bundle,
            },
            "rules": rules,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.name}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 30,
        }
        body = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": space.name},
            "webhooks": [hook],
        }
        request(space.live.api, "POST", f"{ADMISSION}/{kind.lower()}webhookconfigurations", body)


def accepted(space: Space, name: str) -> Object | None:
    """The pod, once the node's packet rules lead to the webhook."""
    status = space.refusal("POST", "pods", pod(name, STAY))
    return space.get(f"pods/{name}") if status["code"] == 0 else None


ASK = """
import json, ssl, sys, urllib.error, urllib.request
at = "/var/run/secrets/kubernetes.io/serviceaccount"
context = ssl.create_default_context(cafile=at + "/ca.crt")
token, namespace = open(at + "/token").read(), open(at + "/namespace").read()
for method, path in (word.split("=", 1) for word in sys.argv[1:]):
    url = "https://kubernetes.default.svc/api/v1/namespaces/" + path.replace("OWN", namespace)
    request = urllib.request.Request(url, method=method, headers={"Authorization": "Bearer " + token})
    try:
        answer = urllib.request.urlopen(request, context=context, timeout=30)
        print(answer.status, json.load(answer)["kind"])
    except urllib.error.HTTPError as error:
        print(error.code, json.load(error)["message"])
"""


def test_a_pods_token_may_do_what_its_roles_say(space: Space) -> None:
    space.kubectl("create", "serviceaccount", "reader")
    space.kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods")
    space.kubectl("create", "rolebinding", "r", "--role=reader", f"--serviceaccount={space.name}:reader")
    space.run("p", STAY, spec={"serviceAccountName": "reader"})
    space.ready("p")
    asked = ("GET=OWN/pods", "GET=OWN/pods/p", "DELETE=OWN/pods/p", "GET=OWN/secrets", "GET=default/pods")
    answers = space.exec("p", "python3", "-I", "-S", "-c", ASK, *asked).splitlines()
    user = f"system:serviceaccount:{space.name}:reader"
    assert answers == [
        "200 PodList",
        "200 Pod",
        f'403 pods "p" is forbidden: User "{user}" cannot delete resource "pods" in API group "" '
        f'in the namespace "{space.name}"',
        f'403 secrets is forbidden: User "{user}" cannot list resource "secrets" in API group "" '
        f'in the namespace "{space.name}"',
        f'403 pods is forbidden: User "{user}" cannot list resource "pods" in API group "" '
        'in the namespace "default"',
    ]
    token = space.exec("p", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token")
    assert space.live.kubectl("-n", space.name, "auth", "whoami", "-o", "json", token=token)
    # The token is the pod's: it ends with it.
    space.core.delete_namespaced_pod("p", space.name, grace_period_seconds=0)
    space.until(lambda: space.gone("pods/p"))
    space.live.kubectl("-n", space.name, "get", "pods", token=token, code=1)


def test_the_api_is_closed_to_those_without_a_token(space: Space) -> None:
    space.run("p", STAY)
    space.ready("p")
    ask = ASK.replace('"Bearer " + token', '"Bearer x"')
    answer = space.exec("p", "python3", "-I", "-S", "-c", ask, "GET=OWN/pods")
    assert answer == "401 Unauthorized\n"
