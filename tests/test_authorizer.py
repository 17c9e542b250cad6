"""A case of CUSTOM is believed only where its authorizer was there, as the same process, all along."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.authorizer import with_authorizer
from conformance.errors import SetupError

RESULT = {"status": "failed", "failure": "over-blocking", "reason": "closed"}


def pod(uid: str = "a", *, ready: bool = True, restarts: int = 0) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"uid": uid},
        "status": {"conditions": conditions, "containerStatuses": [{"restartCount": restarts}]},
    }


class Api:
    """Answers each list with the next of `looks`; one that is an error is raised."""

    def __init__(self, *looks: list[dict[str, Any]] | Exception) -> None:
        self.looks = list(looks)

    def list(self, *_: object, **__: object) -> tuple[list[dict[str, Any]], str]:
        look = self.looks.pop(0)
        if isinstance(look, Exception):
            raise look
        return look, "1"


def played(*looks: list[dict[str, Any]] | Exception, ours: bool = True) -> dict[str, Any]:
    profile = SimpleNamespace(install_enforcer=ours, root_namespace="root")
    rig: Any = SimpleNamespace(kube=Api(*looks), profile=profile, has_authorizer=True)
    return with_authorizer(rig, lambda: dict(RESULT), manifests=Path("unused"))


def test_the_same_authorizer_all_along() -> None:
    assert played([pod()], [pod()]) == RESULT


@pytest.mark.parametrize("after", [[], [pod("b")], [pod(restarts=1)], [pod(ready=False)], SetupError("away")])
def test_another_or_none_afterwards(after: Any) -> None:
    result = played([pod()], after)
    assert (result["status"], result["failure"]) == ("inconclusive", None)
    assert "external authorizer" in result["reason"]
    assert "failed: closed" in result["reason"]


@pytest.mark.parametrize("before", [[], [pod(ready=False)], SetupError("away")])
def test_none_before(before: Any) -> None:
    assert played(before)["status"] == "inconclusive"


def test_in_another_mesh_its_owner_brings_it() -> None:
    assert played(ours=False) == RESULT
