"""What a Deployment's status says of its rollout: pure functions, with the words of Kubernetes."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from conformance.cluster.embedded.client import ApiClientError

Object = dict[str, Any]

HASH_LABEL = "pod-template-hash"
PROGRESS_SECONDS = 600  # that a rollout may stand still, where the Deployment does not say
COMPLETE = "NewReplicaSetAvailable"
EXCEEDED = "ProgressDeadlineExceeded"


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition is True."""
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod.get("status", {}).get("conditions", ())
    )


def share_of(value: int | str, whole: int, *, round_up: bool) -> int:
    """An IntOrString of a rolling update as a number of pods."""
    if isinstance(value, int):
        return value
    exact = int(value.rstrip("%")) * whole / 100
    return math.ceil(exact) if round_up else math.floor(exact)


def status_of(
    deployment: Object, pods: Sequence[Object], template_hash: str, failure: ApiClientError | None
) -> Object:
    """The Deployment's status as its pods and the last failure to create one tell it."""
    wanted = deployment["spec"].get("replicas", 1)
    updated = sum(pod["metadata"]["labels"].get(HASH_LABEL) == template_hash for pod in pods)
    ready = sum(map(is_ready, pods))
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    enough = ready >= wanted - share_of(rolling.get("maxUnavailable", "25%"), wanted, round_up=False)
    complete = updated == wanted == len(pods) and ready == wanted
    counts = {
        "replicas": len(pods),
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, wanted - ready),
    }
    status: Object = {
        "observedGeneration": deployment["metadata"].get("generation", 1),
        **{field: count for field, count in counts.items() if count},
    }
    previous = deployment.get("status") or {}
    before = {c["type"]: c for c in previous.get("conditions", ())}
    available = condition_of(
        "Available",
        holds=enough,
        reason="MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
        message=f"Deployment {'has' if enough else 'does not have'} minimum availability.",
        before=before.get("Available"),
    )
    progressing = progress_of(
        deployment["spec"],
        template_hash,
        complete=complete,
        moved=has_moved(previous, status),
        changed=previous.get("observedGeneration") != status["observedGeneration"],
        before=before.get("Progressing"),
    )
    conditions = [available, progressing]
    if failure is not None:
        # The first failure's words stay, as in Kubernetes: each try has a pod's name of its own in them, and
        # a status written anew would be the next reason to try.
        known = before.get("ReplicaFailure")
        failed = known or condition_of(
            "ReplicaFailure", holds=True, reason="FailedCreate", message=failure.message, before=None
        )
        conditions.append(failed)
    return {**status, "conditions": conditions}


def has_moved(before: Object, after: Object) -> bool:
    """Whether a rollout has come nearer to its end: more new pods, fewer old ones, or more that are ready."""

    def old_pods(status: Object) -> int:
        return int(status.get("replicas", 0) - status.get("updatedReplicas", 0))

    more = any(after.get(name, 0) > before.get(name, 0) for name in ("updatedReplicas", "readyReplicas"))
    return more or old_pods(after) < old_pods(before)


def progress_of(
    spec: Object, template_hash: str, *, complete: bool, moved: bool, changed: bool, before: Object | None
) -> Object:
    """The condition Progressing. A rollout that has once been complete does not time out until it changes."""
    done = complete or (not changed and before is not None and before["reason"] == COMPLETE)
    reason, tale = (COMPLETE, "are all there") if done else ("ReplicaSetUpdated", "are coming up")
    still = before is not None and not (done or moved or changed)
    if still and before is not None:
        late = before["reason"] == EXCEEDED or seconds_since(before["lastUpdateTime"]) > deadline_of(spec)
        if late:
            reason, tale = EXCEEDED, "have timed out progressing"
    return condition_of(
        "Progressing",
        holds=reason != EXCEEDED,
        reason=reason,
        message=f"The pods of template {template_hash} {tale}.",
        before=before,
        renew=moved or changed,
    )


def deadline_of(spec: Object) -> float:
    """Seconds that a rollout may stand still."""
    seconds = spec.get("progressDeadlineSeconds")
    return float(PROGRESS_SECONDS if seconds is None else seconds)


def seconds_since(time: str) -> float:
    """Since a metav1.Time."""
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()


def condition_of(
    kind: str, *, holds: bool, reason: str, message: str, before: Object | None, renew: bool = False
) -> Object:
    """A condition whose times move only when it changes, so that an unchanged status is not written again.

    `renew`: what it says has happened once more.
    """
    status = "True" if holds else "False"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    same_status = before is not None and before["status"] == status
    unchanged = (
        same_status and before is not None and (before["reason"], before["message"]) == (reason, message)
    )
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": before["lastTransitionTime"] if before and same_status else now,
        "lastUpdateTime": before["lastUpdateTime"] if before and unchanged and not renew else now,
    }
