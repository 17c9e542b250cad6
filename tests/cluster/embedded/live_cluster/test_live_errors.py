"""Bad input: the Status object and the HTTP code that a real API server gives."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.embedded.live import STAY, Space, deployment, pod, refusal, request


def told(status: dict[str, Any]) -> tuple[int, str, str]:
    assert status["kind"] == "Status"
    assert status["status"] == "Failure"
    return status["code"], status["reason"], status["message"]


def test_an_unknown_kind(space: Space) -> None:
    thing = {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x"}}
    assert 'no matches for kind "Thing" in version "v1"' in space.error("apply", "-f", "-", stdin=thing)
    code, reason, message = told(space.refusal("POST", "things", thing))
    assert (code, reason, message) == (404, "NotFound", "the server could not find the requested resource")
    assert space.error("get", "things") == 'error: the server doesn\'t have a resource type "things"'


def test_a_kind_that_is_not_the_paths(space: Space) -> None:
    code, reason, message = told(space.refusal("POST", "pods", {"kind": "Service", "apiVersion": "v1"}))
    assert (code, reason) == (400, "BadRequest")
    assert "does not match the expected" in message


def test_a_manifest_without_a_name(space: Space) -> None:
    nameless = pod("", STAY)
    code, reason, message = told(space.refusal("POST", "pods", nameless))
    assert (code, reason) == (422, "Invalid")
    assert message == 'Pod "" is invalid: metadata.name: Required value: name or generateName is required'
    assert "resource name may not be empty" in space.error("apply", "-f", "-", stdin=nameless)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"containers": []}, "spec.containers"),
        ({"restartPolicy": "Sometimes"}, "spec.restartPolicy"),
        ({"containers": [{"name": "Bad_Name", "image": "x"}]}, "spec.containers[0].name"),
        ({"containers": [{"name": "a"}]}, "spec.containers[0].image"),
        ({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]}, "spec.volumes[1].name"),
    ],
)
def test_a_schema_violation(space: Space, change: dict[str, Any], field: str) -> None:
    status = space.refusal("POST", "pods", pod("p", STAY, spec=change))
    code, reason, message = told(status)
    assert (code, reason) == (422, "Invalid")
    assert message.startswith('Pod "p" is invalid: ')
    assert field in [cause["field"] for cause in status["details"]["causes"]]


def test_a_field_of_the_wrong_type(space: Space) -> None:
    wrong = pod("p", STAY, env=[{"name": "A", "value": 1}])
    code, reason, message = told(space.refusal("POST", "pods", wrong))
    assert (code, reason) == (400, "BadRequest")
    assert "cannot unmarshal number into Go struct field" in message


def test_a_selector_that_does_not_select_its_template(space: Space) -> None:
    wrong = deployment("d", STAY, spec={"selector": {"matchLabels": {"app": "other"}}})
    code, reason, message = told(space.refusal("POST", "deployments", wrong))
    assert (code, reason) == (422, "Invalid")
    assert "spec.template.metadata.labels" in message


def test_conflicts(space: Space) -> None:
    space.create("configmaps", {"metadata": {"name": "c"}})
    code, reason, message = told(space.refusal("POST", "configmaps", {"metadata": {"name": "c"}}))
    assert (code, reason, message) == (409, "AlreadyExists", 'configmaps "c" already exists')
    stale = {"metadata": {"name": "c", "resourceVersion": "1"}, "data": {"a": "1"}}
    code, reason, message = told(space.refusal("PUT", "configmaps/c", stale))
    assert (code, reason) == (409, "Conflict")
    assert message.startswith('Operation cannot be fulfilled on configmaps "c": the object has been modified')


def test_what_is_not_there(space: Space) -> None:
    code, reason, message = told(space.refusal("GET", "pods/absent"))
    assert (code, reason, message) == (404, "NotFound", 'pods "absent" not found')
    missing = refusal(
        lambda: request(
            space.live.api, "POST", "/api/v1/namespaces/absent/configmaps", {"metadata": {"name": "c"}}
        )
    )
    assert told(missing) == (404, "NotFound", 'namespaces "absent" not found')


def test_exec_into_a_pod_that_is_not_there_or_does_not_run(space: Space) -> None:
    status = space.refusal("GET", "pods/absent/exec", command="true", stdout="true")
    assert told(status) == (404, "NotFound", 'pods "absent" not found')
    space.run("done", "exit 0", spec={"restartPolicy": "Never"})
    space.until(lambda: space.get("pods/done")["status"].get("phase") == "Succeeded")
    complaint = space.error("exec", "done", "--", "true")
    assert "cannot exec into a container in a completed pod; current phase is Succeeded" in complaint


def test_an_invalid_token_is_nobody(space: Space) -> None:
    done = space.live.kubectl("get", "pods", token="not-a-token", code=1)
    assert "Unauthorized" in done.stderr or "logged in to the server" in done.stderr


def test_a_quota_is_enforced_and_tells_what_is_used(space: Space) -> None:
    space.kubectl(
        "create", "quota", "few", "--hard=pods=1,configmaps=5,count/roles.rbac.authorization.k8s.io=3"
    )
    space.run("one", STAY)
    code, reason, message = told(space.refusal("POST", "pods", pod("two", STAY)))
    assert (code, reason) == (403, "Forbidden")
    assert "exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1" in message

    def used() -> dict[str, str]:
        status = space.get("resourcequotas/few").get("status") or {}
        return {**status.get("used", {})}

    expected = {"pods": "1", "configmaps": "1", "count/roles.rbac.authorization.k8s.io": "0"}
    space.until(lambda: used() == expected)
    space.create("configmaps", {"metadata": {"name": "c"}})
    space.core.delete_namespaced_pod("one", space.name, grace_period_seconds=0)
    space.until(lambda: used() == {**expected, "pods": "0", "configmaps": "2"})
    assert "pods" in space.kubectl("describe", "quota", "few")
