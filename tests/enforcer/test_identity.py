"""The authority, what it signs, and how it is kept; tokens and whom they prove."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from enforcer.certificate import issue_server, issue_workload, make_authority
from enforcer.identity import SECRET, AuthorityError, Identity, keep_authority, read_authority
from enforcer.kube import KubeError
from enforcer.tokens import AUDIENCE, REVIEWS, TokenError, review

SECRETS = "/api/v1/namespaces/authz-system/secrets"
NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


class Store:
    """An API that keeps secrets; `status`: what it answers instead."""

    def __init__(self, status: int = 0) -> None:
        self.objects: dict[str, Any] = {}
        self.status = status
        self.late: Any = None
        """Stored by somebody else between a look and a write."""

    def get(self, path: str) -> Any:
        if self.status:
            raise KubeError(status=self.status, message="no")
        if path not in self.objects:
            raise KubeError(status=404, message="not found")
        return self.objects[path]

    def create(self, path: str, body: Any) -> Any:
        where = f"{path}/{body['metadata']['name']}"
        if self.late is not None:
            self.objects[where] = self.late
            raise KubeError(status=409, message="already exists")
        self.objects[where] = body
        return body


def test_an_identity_is_a_spiffe_uri() -> None:
    identity = Identity(namespace="foo", service_account="sleep.b")
    assert identity.uri("mesh.example") == "spiffe://mesh.example/ns/foo/sa/sleep.b"


def test_a_workloads_certificate_says_its_identity_and_ends_when_it_should() -> None:
    uri = "spiffe://cluster.local/ns/foo/sa/sleep"
    authority = make_authority("a")
    made = issue_workload(authority, uri, now=NOW, lifetime=timedelta(seconds=3))
    certificate = x509.load_pem_x509_certificate(made.chain)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [uri]
    assert names.get_values_for_type(x509.DNSName) == []
    assert certificate.not_valid_after_utc == NOW + timedelta(seconds=3)
    certificate.verify_directly_issued_by(authority.certificate)


def test_a_servers_certificate_names_no_workload() -> None:
    made = issue_server(make_authority("a"), ("enforcer.authz-system.svc", "10.96.0.7"))
    certificate = x509.load_pem_x509_certificate(made.chain)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == []
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.96.0.7"]


def test_the_authority_is_made_once_and_found_again() -> None:
    store = Store()
    first = keep_authority(store, "authz-system")
    assert keep_authority(store, "authz-system").pem == first.pem


def test_of_two_controllers_the_faster_ones_authority_stays() -> None:
    theirs = Store()
    kept = keep_authority(theirs, "authz-system")
    store = Store()
    store.late = theirs.objects[f"{SECRETS}/{SECRET}"]
    assert keep_authority(store, "authz-system").pem == kept.pem


def test_without_the_right_to_a_secret_the_authority_lives_in_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert b"CERTIFICATE" in keep_authority(Store(status=403), "authz-system").pem
    assert "lives in memory" in caplog.text


@pytest.mark.parametrize("status", [0, 500, 503])
def test_an_api_that_cannot_answer_makes_no_second_authority(status: int) -> None:
    class Away(Store):
        def get(self, path: str) -> Any:
            raise KubeError(status=status, message="away")

    with pytest.raises(KubeError):
        keep_authority(Away(), "authz-system")


def stored(**changes: bytes) -> dict[str, Any]:
    store = Store()
    keep_authority(store, "authz-system")
    secret: dict[str, Any] = store.objects[f"{SECRETS}/{SECRET}"]
    data = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in changes.items()}
    return {**secret, "data": {**secret["data"], **data}}


def test_a_stored_authority_that_cannot_be_used_is_never_replaced() -> None:
    other = stored()["data"]["tls.key"]
    swapped = stored()
    swapped["data"]["tls.key"] = other
    ended = make_authority("old", now=datetime(2001, 1, 1, tzinfo=UTC))
    unusable: list[dict[str, Any]] = [
        stored(tls_crt=b"x"),
        stored(tls_key=b""),
        stored(tls_crt=ended.pem),
        swapped,
        {"data": {}},
    ]
    for secret in unusable:
        with pytest.raises(AuthorityError, match=SECRET):
            read_authority(secret)


class Reviewer:
    """Answers every review with this status."""

    def __init__(self, **status: Any) -> None:
        self.status = status
        self.asked: list[Any] = []

    def create(self, path: str, body: Any) -> Any:
        assert path == REVIEWS
        self.asked.append(body["spec"])
        return {"status": self.status}


def good(**changes: Any) -> dict[str, Any]:
    extra = {
        "authentication.kubernetes.io/pod-name": ["sleep-1"],
        "authentication.kubernetes.io/pod-uid": ["u1"],
    }
    user = {"username": "system:serviceaccount:foo:sleep", "extra": extra}
    return {"authenticated": True, "audiences": [AUDIENCE], "user": user, **changes}


def test_a_token_tells_the_pod_and_its_service_account() -> None:
    reviewer = Reviewer(**good())
    caller = review(reviewer, "t")
    assert (caller.node, caller.uid) == ("foo/sleep-1", "u1")
    assert caller.identity == Identity(namespace="foo", service_account="sleep")
    assert reviewer.asked == [{"token": "t", "audiences": [AUDIENCE]}]


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"error": "expired"}, "expired"),
        (good(authenticated=False), "not valid"),
        (good(authenticated="true"), "not valid"),
        (good(audiences=["https://kubernetes.default.svc"]), AUDIENCE),
        (good(audiences=None), AUDIENCE),
        (good(user={"username": "admin"}), "not a service account"),
        (good(user={"username": "foo:sleep"}), "not a service account"),
        (good(user={"username": "system:serviceaccount:foo:sleep"}), "not bound to a pod"),
    ],
)
def test_what_proves_no_pod_is_refused(status: dict[str, Any], why: str) -> None:
    with pytest.raises(TokenError, match=why):
        review(Reviewer(**status), "t")
