"""The official `kubernetes` client against the API server, and what only plain HTTP shows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch

from tests.cluster.embedded.api_server import (
    ADMIN_TOKEN,
    READER_TOKEN,
    ApiServer,
    api_server,
)
from tests.cluster.embedded.widgets import CRD, widget

HISTORY = 8
WIDGETS = "/apis/example.com/v1/namespaces/foo/widgets"
CONFIG_MAPS = "/api/v1/namespaces/foo/configmaps"


class Http:
    """Requests with a token; answers are (code, document, headers)."""

    def __init__(self, api: Any, token: str = ADMIN_TOKEN) -> None:
        self.api = api
        self.token = token

    def __call__(
        self, method: str, path: str, body: Any = None, *, type_: str = "application/json"
    ) -> tuple[int, Any, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": type_}
        answer = self.api.rest_client.pool_manager.request(
            method,
            self.api.configuration.host + path,
            body=None if body is None else json.dumps(body).encode(),
            headers=headers,
        )
        text = answer.data
        return answer.status, json.loads(text) if text[:1] == b"{" else text, answer.headers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiServer, Path]]:
    directory = tmp_path_factory.mktemp("api")
    with api_server(directory, history=HISTORY) as running:
        yield running, directory


@pytest.fixture(scope="module")
def api(server: tuple[ApiServer, Path]) -> Iterator[Any]:
    made = config.new_client_from_config(str(server[1] / "kubeconfig"))
    http = Http(made)
    assert http("POST", "/api/v1/namespaces", {"metadata": {"name": "foo"}})[0] == 201
    assert http("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)[0] == 201
    yield made
    made.rest_client.pool_manager.clear()


@pytest.fixture
def http(api: Any) -> Http:
    return Http(api)


@pytest.fixture
def core(api: Any) -> Any:
    return client.CoreV1Api(api)


def config_map(name: str, **data: str) -> Any:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name), data=data)


def test_a_stale_update_is_a_conflict(core: Any) -> None:
    first = core.create_namespaced_config_map("foo", config_map("stale", a="1"))
    first.data = {"a": "2"}
    core.replace_namespaced_config_map("stale", "foo", first)
    with pytest.raises(client.ApiException) as caught:
        core.replace_namespaced_config_map("stale", "foo", first)
    assert caught.value.status == 409
    assert json.loads(caught.value.body)["message"] == (
        'Operation cannot be fulfilled on configmaps "stale": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


def test_an_update_that_changes_nothing_writes_nothing(core: Any) -> None:
    first = core.create_namespaced_config_map("foo", config_map("same", a="1"))
    again = core.replace_namespaced_config_map("same", "foo", first)
    assert again.metadata.resource_version == first.metadata.resource_version


def test_pages(http: Http) -> None:
    for name in ("a", "b", "c"):
        labels = {"paged": "yes"}
        http("POST", CONFIG_MAPS, {"metadata": {"name": f"page-{name}", "labels": labels}})
    names: list[str] = []
    token = ""
    while True:
        path = f"{CONFIG_MAPS}?labelSelector=paged%3Dyes&limit=2&continue={token}"
        _, page, _ = http("GET", path)
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert names == ["page-a", "page-b", "page-c"]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("labelSelector=tier+in+(x,y)", ["s-1", "s-2"]),
        ("labelSelector=tier!=x,tier", ["s-2"]),
        ("labelSelector=!tier,sel", ["s-3"]),
        ("fieldSelector=metadata.name=s-2", ["s-2"]),
        ("fieldSelector=metadata.name!=s-2&labelSelector=sel", ["s-1", "s-3"]),
    ],
)
def test_selectors(http: Http, selector: str, expected: list[str]) -> None:
    for name, labels in (("s-1", {"tier": "x"}), ("s-2", {"tier": "y"}), ("s-3", {})):
        http("POST", CONFIG_MAPS, {"metadata": {"name": name, "labels": {"sel": "1", **labels}}})
    _, found, _ = http("GET", f"{CONFIG_MAPS}?{selector}")
    assert [item["metadata"]["name"] for item in found["items"]] == expected


def test_unknown_field_selectors_are_refused(http: Http) -> None:
    assert http("GET", f"{CONFIG_MAPS}?fieldSelector=spec.x=1")[0] == 400


def test_a_watch_follows_selectors_and_deletions(core: Any) -> None:
    seen: list[tuple[str, str]] = []
    ready = threading.Event()

    def follow() -> None:
        stream = watch.Watch()
        version = core.list_namespaced_config_map("foo").metadata.resource_version
        ready.set()
        for event in stream.stream(
            core.list_namespaced_config_map,
            "foo",
            label_selector="watched=yes",
            resource_version=version,
            timeout_seconds=60,
        ):
            seen.append((event["type"], event["object"].metadata.name))
            if event["object"].metadata.name == "last":
                stream.stop()

    thread = threading.Thread(target=follow)
    thread.start()
    assert ready.wait(60)
    watched = client.V1ObjectMeta(name="w", labels={"watched": "yes"})
    core.create_namespaced_config_map("foo", client.V1ConfigMap(metadata=watched))
    core.patch_namespaced_config_map("w", "foo", {"data": {"a": "1"}})
    core.patch_namespaced_config_map("w", "foo", {"metadata": {"labels": {"watched": "no"}}})
    core.delete_namespaced_config_map("w", "foo")
    last = client.V1ObjectMeta(name="last", labels={"watched": "yes"})
    core.create_namespaced_config_map("foo", client.V1ConfigMap(metadata=last))
    thread.join(timeout=60)
    assert seen == [("ADDED", "w"), ("MODIFIED", "w"), ("DELETED", "w"), ("ADDED", "last")]


def test_initial_events_end_with_a_bookmark(http: Http) -> None:
    http("POST", CONFIG_MAPS, {"metadata": {"name": "initial", "labels": {"initial": "1"}}})
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    path = f"{CONFIG_MAPS}?{query}&timeoutSeconds=1&labelSelector=initial"
    headers = {"Authorization": f"Bearer {http.token}"}
    answer = http.api.rest_client.pool_manager.request(
        "GET", http.api.configuration.host + path, headers=headers
    )
    events = [json.loads(line) for line in answer.data.splitlines()]
    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK", "BOOKMARK"]
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_watch_from_a_forgotten_version_is_gone(http: Http) -> None:
    _, first, _ = http("POST", CONFIG_MAPS, {"metadata": {"name": "forgotten"}})
    for number in range(HISTORY + 1):
        patch = {"data": {"n": str(number)}}
        http("PATCH", f"{CONFIG_MAPS}/forgotten", patch, type_="application/merge-patch+json")
    version = first["metadata"]["resourceVersion"]
    code, status, _ = http("GET", f"{CONFIG_MAPS}?watch=1&resourceVersion={version}")
    assert (code, status["reason"]) == (410, "Expired")


def test_finalizers_hold_an_object(http: Http) -> None:
    path = f"{WIDGETS}/held"
    held = widget("held", action="DENY") | {"metadata": {"name": "held", "finalizers": ["example.com/x"]}}
    assert http("POST", WIDGETS, held)[0] == 201
    code, marked, _ = http("DELETE", path)
    assert code == 200
    assert "deletionTimestamp" in marked["metadata"]
    merge = "application/merge-patch+json"
    more = {"metadata": {"finalizers": ["example.com/x", "example.com/y"]}}
    assert http("PATCH", path, more, type_=merge)[0] == 422
    assert http("PATCH", path, {"metadata": {"finalizers": []}}, type_=merge)[0] == 200
    assert http("GET", path)[0] == 404


def test_preconditions_of_a_delete(http: Http) -> None:
    http("POST", CONFIG_MAPS, {"metadata": {"name": "guarded"}})
    code, status, _ = http("DELETE", f"{CONFIG_MAPS}/guarded", {"preconditions": {"uid": "other"}})
    assert (code, status["reason"]) == (409, "Conflict")
    assert http("GET", f"{CONFIG_MAPS}/guarded")[0] == 200


def test_a_namespace_goes_when_it_is_finalized(http: Http) -> None:
    http("POST", "/api/v1/namespaces", {"metadata": {"name": "leaving"}})
    code, namespace, _ = http("DELETE", "/api/v1/namespaces/leaving")
    assert (code, namespace["status"]["phase"]) == (200, "Terminating")
    namespace["spec"]["finalizers"] = []
    assert http("PUT", "/api/v1/namespaces/leaving/finalize", namespace)[0] == 200
    assert http("GET", "/api/v1/namespaces/leaving")[0] == 404
    assert http("DELETE", "/api/v1/namespaces/default")[0] == 403


def test_a_running_pod_is_given_time_to_end(http: Http) -> None:
    pods = "/api/v1/namespaces/foo/pods"
    http("POST", "/api/v1/namespaces/foo/serviceaccounts", {"metadata": {"name": "default"}})
    container = {"name": "c", "image": "authz-conformance:dev"}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container], "nodeName": "embedded"}}
    code, made, _ = http("POST", pods, pod)
    assert (code, made["status"]["phase"]) == (201, "Pending")
    assert (made["spec"]["restartPolicy"], made["spec"]["terminationGracePeriodSeconds"]) == ("Always", 30)
    _, found, _ = http("GET", f"{pods}?fieldSelector=spec.nodeName=embedded")
    assert [item["metadata"]["name"] for item in found["items"]] == ["p"]
    assert http("GET", f"{pods}/p/log")[1] == b"log of p/c\n"
    code, leaving, _ = http("DELETE", f"{pods}/p?gracePeriodSeconds=7")
    assert (code, leaving["metadata"]["deletionGracePeriodSeconds"]) == (200, 7)
    assert http("GET", f"{pods}/p")[0] == 200
    assert http("DELETE", f"{pods}/p", {"gracePeriodSeconds": 0})[0] == 200
    assert http("GET", f"{pods}/p")[0] == 404


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"name": "x", "labels": {"a": 1}}, "cannot unmarshal number into Go struct field"),
        ({"name": 5}, "cannot unmarshal number into Go struct field"),
        ([], "cannot unmarshal array into Go struct field"),
    ],
)
def test_metadata_of_the_wrong_type(http: Http, metadata: Any, message: str) -> None:
    for path, obj in ((CONFIG_MAPS, {}), (WIDGETS, widget("x"))):
        code, status, _ = http("POST", path, obj | {"metadata": metadata})
        assert (code, message in status["message"]) == (400, True)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"containers": []}, "spec.containers: Required value"),
        ({"containers": [{"name": "c"}]}, "spec.containers[0].image: Required value"),
        (
            {"containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]},
            'spec.containers[0].volumeMounts[0].name: Not found: "v"',
        ),
    ],
)
def test_a_pod_that_cannot_run(http: Http, spec: dict[str, Any], message: str) -> None:
    http("POST", "/api/v1/namespaces/foo/serviceaccounts", {"metadata": {"name": "default"}})
    code, status, _ = http("POST", "/api/v1/namespaces/foo/pods", {"metadata": {"name": "p"}, "spec": spec})
    assert (code, status["message"]) == (422, f'Pod "p" is invalid: {message}')


def test_dry_run_stores_nothing(http: Http) -> None:
    code, made, _ = http("POST", f"{CONFIG_MAPS}?dryRun=All", {"metadata": {"generateName": "dry-"}})
    assert (code, made["metadata"]["name"][:4], len(made["metadata"]["name"])) == (201, "dry-", 9)
    assert http("GET", f"{CONFIG_MAPS}/{made['metadata']['name']}")[0] == 404


def test_unknown_fields_warn_by_default(http: Http) -> None:
    code, made, headers = http("POST", WIDGETS, widget("warned", actoin="x"))
    assert (code, made["spec"]) == (201, {})
    assert headers["Warning"] == '299 - "unknown field \\"spec.actoin\\""'
    code, _, headers = http("POST", f"{WIDGETS}?fieldValidation=Ignore", widget("silent", actoin="x"))
    assert (code, headers.get("Warning")) == (201, None)
    assert http("POST", f"{WIDGETS}?fieldValidation=Strict", widget("strict", actoin="x"))[0] == 400


def test_nulls_as_a_real_server_takes_them(http: Http) -> None:
    nothing = widget("null-spec") | {"spec": None}
    assert http("POST", WIDGETS, nothing)[0] == 201
    assert http("POST", WIDGETS, widget("null-to", rules=[{"to": None}]))[1]["spec"] == {"rules": [{}]}


def test_custom_objects_need_a_version_to_be_replaced(http: Http) -> None:
    http("POST", WIDGETS, widget("replaced", action="DENY"))
    code, status, _ = http("PUT", f"{WIDGETS}/replaced", widget("replaced", action="ALLOW"))
    assert (code, status["reason"]) == (422, "Invalid")
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in status["message"]


def test_immutable_fields(http: Http) -> None:
    services = "/api/v1/namespaces/foo/services"
    made = http("POST", services, {"metadata": {"name": "fixed"}, "spec": {"ports": [{"port": 80}]}})[1]
    assert made["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    moved = made | {"spec": made["spec"] | {"clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"]}}
    code, status, _ = http("PUT", f"{services}/fixed", moved)
    assert (code, "may not change once set" in status["message"]) == (422, True)
    spec = {"ports": [{"port": 1}], "clusterIP": made["spec"]["clusterIP"]}
    taken = {"metadata": {"name": "taken"}, "spec": spec}
    assert http("POST", services, taken)[0] == 422


@pytest.mark.parametrize(
    ("token", "path", "code"),
    [
        ("nobody", "/api/v1/pods", 401),
        (READER_TOKEN, "/api/v1/pods", 403),
        (READER_TOKEN, "/version", 200),
    ],
)
def test_who_may(api: Any, token: str, path: str, code: int) -> None:
    assert Http(api, token)("GET", path)[0] == code


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/wodgets", 404),
        ("GET", "/apis/none.example.com/v1", 404),
        ("POST", f"{CONFIG_MAPS}/x", 405),
        ("PUT", CONFIG_MAPS, 405),
        ("POST", "/api/v1/configmaps", 405),
    ],
)
def test_paths_that_lead_nowhere(http: Http, method: str, path: str, code: int) -> None:
    got, status, _ = http(method, path, {} if method != "GET" else None)
    assert (got, status["kind"]) == (code, "Status")


def test_the_client_reads_what_it_needs(api: Any, core: Any) -> None:
    assert {n.metadata.name for n in core.list_namespace().items} >= {"default", "kube-system", "foo"}
    custom = client.CustomObjectsApi(api)
    made = custom.create_namespaced_custom_object(
        "example.com", "v1", "foo", "widgets", widget("official", action="DENY")
    )
    assert made["metadata"]["generation"] == 1
    groups = {group.name for group in client.ApisApi(api).get_api_versions().groups}
    assert {"apps", "example.com"} <= groups


def test_removing_a_definition_takes_its_objects_along(http: Http) -> None:
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    other = json.loads(json.dumps(CRD).replace("example.com", "gone.example.com"))
    assert http("POST", crds, other)[0] == 201
    path = "/apis/gone.example.com/v1/namespaces/foo/widgets"
    obj = widget("x") | {"apiVersion": "gone.example.com/v1"}
    assert http("POST", path, obj)[0] == 201
    assert http("DELETE", f"{crds}/widgets.gone.example.com")[0] == 200
    assert http("GET", path)[0] == 404
    assert http("POST", crds, other)[0] == 201
    assert http("GET", path)[1]["items"] == []
