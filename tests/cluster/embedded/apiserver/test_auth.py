"""Tokens, roles and the reviews that ask about them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import pytest

from conformance.cluster.embedded.apiserver import rbac
from conformance.cluster.embedded.apiserver.auth import Authenticator, User, token_request, token_review
from conformance.cluster.embedded.apiserver.auth import service_account_user as account
from conformance.cluster.embedded.apiserver.status import ApiError

ISSUER = "https://kubernetes.default.svc.cluster.local"
ADMIN = User(name="admin", groups=("system:masters", "system:authenticated"))
Objects = dict[str, list[dict[str, Any]]]


class World:
    """A storage of a few objects, and a clock that stands still."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.objects: Objects = {
            "serviceaccounts": [{"metadata": {"namespace": "foo", "name": "sleep", "uid": "sa-1"}}],
            "pods": [
                {
                    "metadata": {"namespace": "foo", "name": "p", "uid": "pod-1"},
                    "spec": {"serviceAccountName": "sleep"},
                }
            ],
        }
        self.authenticator = Authenticator(
            static_tokens={"secret": ADMIN}, find=self.find, issuer=ISSUER, clock=lambda: self.now
        )

    def find(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        for obj in self.objects.get(resource, []):
            if (obj["metadata"].get("namespace", ""), obj["metadata"]["name"]) == (namespace, name):
                return obj
        return None

    def list_objects(self, resource: str) -> Iterable[dict[str, Any]]:
        return iter(self.objects.get(resource, []))

    def token(self, **more: Any) -> str:
        return self.authenticator.issue(namespace="foo", service_account="sleep", **more)[0]


@pytest.fixture
def world() -> World:
    return World()


def test_a_static_token_is_its_user_and_nothing_else_is(world: World) -> None:
    assert world.authenticator.authenticate("secret") == ADMIN
    assert world.authenticator.authenticate("secret", ["istio-ca"]) is None
    for wrong in ("", "Secret", "a.b.c", "é.ü.ß"):
        assert world.authenticator.authenticate(wrong) is None


def test_a_service_account_token_names_account_groups_and_pod(world: World) -> None:
    user = world.authenticator.authenticate(world.token(bound={"kind": "Pod", "name": "p", "uid": "pod-1"}))
    assert user is not None
    assert user.name == "system:serviceaccount:foo:sleep"
    assert user.uid == "sa-1"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:foo", "system:authenticated")
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("p",)


def test_a_token_is_for_its_audiences_only(world: World) -> None:
    token = world.token(audiences=["istio-ca"])
    assert world.authenticator.authenticate(token) is None
    assert world.authenticator.authenticate(token, ["istio-ca", "other"]) is not None


def test_a_token_ends_when_its_time_is_over(world: World) -> None:
    token = world.token(expiration_seconds=600)
    world.now += 599
    assert world.authenticator.authenticate(token) is not None
    world.now += 1
    assert world.authenticator.authenticate(token) is None


@pytest.mark.parametrize("kind", ["serviceaccounts", "pods"])
def test_a_token_dies_with_what_it_is_bound_to(world: World, kind: str) -> None:
    token = world.token(bound={"kind": "Pod", "name": "p"})
    world.objects[kind][0]["metadata"]["uid"] = "born again"
    assert world.authenticator.authenticate(token) is None
    world.objects[kind].clear()
    assert world.authenticator.authenticate(token) is None


def test_a_token_cannot_be_altered_or_signed_by_another(world: World) -> None:
    head, claims, signature = world.token().split(".")
    raw = json.loads(base64.urlsafe_b64decode(claims + "=="))
    raw["sub"] = "system:serviceaccount:kube-system:admin"
    forged = base64.urlsafe_b64encode(json.dumps(raw).encode()).rstrip(b"=").decode()
    assert world.authenticator.authenticate(f"{head}.{forged}.{signature}") is None
    assert world.authenticator.authenticate(f"{head}.{claims}.") is None
    assert world.authenticator.authenticate(World().token()) is None


def test_a_token_request_is_answered_with_the_token_and_its_end(world: World) -> None:
    body = {"spec": {"audiences": ["istio-ca"], "expirationSeconds": 3600}}
    answer = token_request(world.authenticator, namespace="foo", service_account="sleep", body=body)
    assert answer["status"]["expirationTimestamp"] == "1970-01-12T14:46:40Z"
    assert world.authenticator.authenticate(answer["status"]["token"], ["istio-ca"]) is not None


@pytest.mark.parametrize(
    ("account_name", "spec", "code", "words"),
    [
        ("nobody", {}, 404, 'serviceaccounts "nobody" not found'),
        ("sleep", {"expirationSeconds": 60}, 422, "may not specify a duration less than 10 minutes"),
        ("sleep", {"boundObjectRef": {"kind": "Pod", "name": "q"}}, 404, 'pods "q" not found'),
        ("sleep", {"boundObjectRef": {"kind": "Pod", "name": "p", "uid": "old"}}, 409, "does not match"),
        ("sleep", {"boundObjectRef": {"kind": "Job", "name": "p"}}, 400, "cannot bind token"),
    ],
)
def test_a_bad_token_request_is_refused(
    world: World, account_name: str, spec: dict[str, Any], code: int, words: str
) -> None:
    with pytest.raises(ApiError) as caught:
        token_request(world.authenticator, namespace="foo", service_account=account_name, body={"spec": spec})
    assert caught.value.code == code
    assert words in caught.value.message


def test_a_token_review_tells_good_from_bad(world: World) -> None:
    good = token_review(
        world.authenticator, {"spec": {"token": world.token(audiences=["a"]), "audiences": ["a"]}}
    )
    assert good["status"]["authenticated"] is True
    assert good["status"]["user"]["username"] == "system:serviceaccount:foo:sleep"
    assert good["status"]["audiences"] == ["a"]
    bad = token_review(world.authenticator, {"spec": {"token": "x.y.z"}})
    assert "authenticated" not in bad["status"]
    assert bad["status"]["error"] == "invalid bearer token"


SLEEP = account("foo", "sleep")


def role(name: str, rules: list[dict[str, Any]], namespace: str = "", **more: Any) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"metadata": metadata | more, "rules": rules}


def binding(kind: str, name: str, subject: dict[str, str], namespace: str = "") -> dict[str, Any]:
    metadata = {"name": f"b-{name}"} | ({"namespace": namespace} if namespace else {})
    return {"metadata": metadata, "roleRef": {"kind": kind, "name": name}, "subjects": [subject]}


def rule(verbs: str, resources: str, group: str = "", **more: Any) -> dict[str, Any]:
    return {"verbs": verbs.split(), "resources": resources.split(), "apiGroups": [group], **more}


def may(objects: Objects, verb: str, resource: str, namespace: str = "", **more: Any) -> bool:
    plural, _, subresource = resource.partition("/")
    return rbac.authorize(
        more.pop("user", SLEEP),
        verb=verb,
        group=more.pop("group", ""),
        resource=plural,
        subresource=subresource,
        namespace=namespace,
        name=more.pop("name", ""),
        list_objects=lambda wanted: iter(objects.get(wanted, [])),
    )


SA = {"kind": "ServiceAccount", "namespace": "foo", "name": "sleep"}
RBAC = "rbac.authorization.k8s.io"


def test_a_role_holds_in_its_namespace_for_its_verbs_and_resources() -> None:
    objects = {
        f"roles.{RBAC}": [role("r", [rule("get list", "pods pods/log")], "foo"), role("r", [], "bar")],
        f"rolebindings.{RBAC}": [binding("Role", "r", SA, "foo")],
    }
    assert may(objects, "get", "pods", "foo")
    assert may(objects, "get", "pods/log", "foo")
    assert not may(objects, "create", "pods", "foo")
    assert not may(objects, "get", "pods/exec", "foo")
    assert not may(objects, "get", "secrets", "foo")
    assert not may(objects, "get", "pods", "foo", group="apps")
    assert not may(objects, "get", "pods", "bar")
    assert not may(objects, "list", "pods")
    assert not may(objects, "get", "pods", "foo", user=account("bar", "sleep"))


def test_a_cluster_role_holds_everywhere_or_where_a_role_binding_puts_it() -> None:
    roles = [role("reader", [rule("*", "*", "*")])]
    bound = {
        f"clusterroles.{RBAC}": roles,
        f"clusterrolebindings.{RBAC}": [binding("ClusterRole", "reader", SA)],
    }
    assert may(bound, "delete", "nodes")
    assert may(bound, "create", "pods/exec", "any")
    local = {
        f"clusterroles.{RBAC}": roles,
        f"rolebindings.{RBAC}": [binding("ClusterRole", "reader", SA, "foo")],
    }
    assert may(local, "get", "pods", "foo")
    assert not may(local, "get", "pods", "bar")
    assert not may(local, "get", "nodes")


def test_resource_names_groups_and_aggregation() -> None:
    group = {"kind": "Group", "name": "system:serviceaccounts:foo"}
    selectors = {"clusterRoleSelectors": [{"matchLabels": {"to": "sum"}}]}
    objects = {
        f"clusterroles.{RBAC}": [
            {**role("sum", []), "aggregationRule": selectors},
            role("part", [rule("get", "secrets", resourceNames=["mine"])], labels={"to": "sum"}),
        ],
        f"clusterrolebindings.{RBAC}": [binding("ClusterRole", "sum", group)],
    }
    assert may(objects, "get", "secrets", "foo", name="mine")
    assert not may(objects, "get", "secrets", "foo", name="yours")
    assert not may(objects, "get", "secrets", "foo")


def test_without_any_object_masters_may_all_and_others_discover() -> None:
    assert may({}, "delete", "namespaces", user=ADMIN)
    assert not may({}, "get", "pods", "foo")
    assert may({}, "create", "selfsubjectaccessreviews", group="authorization.k8s.io")
    assert not may({}, "create", "tokenreviews", group="authentication.k8s.io")

    def reads(user: User, path: str) -> bool:
        return rbac.authorize_path(user, verb="get", path=path, list_objects=lambda _: ())

    assert reads(SLEEP, "/apis/apps/v1")
    assert reads(SLEEP, "/version")
    assert not reads(SLEEP, "/metrics")
    assert not reads(User(name="anonymous", groups=("system:unauthenticated",)), "/apis")


def test_the_bootstrap_roles_can_be_bound() -> None:
    objects = {f"rolebindings.{RBAC}": [binding("ClusterRole", "view", SA, "foo")]}
    assert may(objects, "list", "pods", "foo")
    assert not may(objects, "get", "secrets", "foo")
    assert not may(objects, "delete", "pods", "foo")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (
            {"verb": "list", "group": "", "resource": "pods", "namespace": "x"},
            'pods is forbidden: User "system:serviceaccount:foo:sleep" cannot list resource "pods" '
            'in API group "" in the namespace "x"',
        ),
        (
            {"verb": "get", "group": "apps", "resource": "deployments", "name": "d", "subresource": "scale"},
            'deployments.apps "d" is forbidden: User "system:serviceaccount:foo:sleep" cannot get resource '
            '"deployments/scale" in API group "apps" at the cluster scope',
        ),
    ],
)
def test_a_denial_is_told_in_the_servers_words(request_: dict[str, str], words: str) -> None:
    error = rbac.denied(SLEEP, **request_)
    assert (error.code, error.reason, error.message) == (403, "Forbidden", words)


def test_access_reviews_answer_as_the_server_would_decide() -> None:
    objects = {
        f"clusterroles.{RBAC}": [role("reader", [rule("list", "pods")])],
        f"clusterrolebindings.{RBAC}": [binding("ClusterRole", "reader", SA)],
    }

    def stored(resource: str) -> Iterable[dict[str, Any]]:
        return objects.get(resource, [])

    asked = {"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "foo"}}}
    mine = rbac.self_subject_access_review(SLEEP, asked, stored)
    assert mine["status"] == {
        "allowed": True,
        "reason": 'RBAC: allowed by ClusterRoleBinding "b-reader" of ClusterRole "reader" '
        'to ServiceAccount "sleep/foo"',
    }
    other = {"spec": {**asked["spec"], "user": "system:serviceaccount:bar:sleep"}}
    assert rbac.subject_access_review(other, stored)["status"] == {"allowed": False}
    with pytest.raises(ApiError) as caught:
        rbac.self_subject_access_review(SLEEP, {"spec": {}}, stored)
    assert caught.value.code == 422
