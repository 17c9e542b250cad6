"""The query of exec and log requests: which container, which options. Everything here raises ApiError."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from conformance.cluster.embedded.apiserver.status import ApiError, FieldError, bad_request, invalid

_TRUE: Final = ("1", "true", "True", "TRUE", "t", "T")


def container_name(pod: Mapping[str, Any], asked: str) -> str:
    """The container that is meant: the asked one if the pod has it, the only one if none is asked for.
    Raises ApiError 400 with the server's words."""
    name = pod["metadata"]["name"]
    containers = [c["name"] for c in pod["spec"].get("containers") or ()]
    inits = [c["name"] for c in pod["spec"].get("initContainers") or ()]
    if asked:
        if asked not in (*containers, *inits):
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(containers) == 1:
        return str(containers[0])
    choose = f"a container name must be specified for pod {name}, choose one of: [{' '.join(containers)}]"
    if inits:
        choose += f" or one of the init containers: [{' '.join(inits)}]"
    raise bad_request(choose)


def flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "") in _TRUE


def number_of(request: web.Request, pod: str, name: str, *, least: int) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
    if number < least:
        rule = "must be greater than or equal to 0" if least == 0 else "must be greater than 0"
        raise refused("PodLogOptions", pod, name, f"Invalid value: {number}: {rule}")
    return number


def since_seconds(request: web.Request, pod: str) -> float | None:
    seconds = number_of(request, pod, "sinceSeconds", least=1)
    moment = request.query.get("sinceTime")
    if moment is None:
        return seconds
    if seconds is not None:
        why = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
        raise refused("PodLogOptions", pod, "sinceSeconds", why, problem="FieldValueForbidden")
    try:
        since = datetime.fromisoformat(moment)
    except ValueError:
        raise bad_request(f'parsing time "{moment}" as RFC 3339: cannot parse') from None
    return max(0.0, (datetime.now(UTC) - since.astimezone(UTC)).total_seconds())


def refused(kind: str, pod: str, path: str, message: str, *, problem: str = "FieldValueInvalid") -> ApiError:
    error = FieldError(path=path, type=problem, message=message)
    return invalid(kind, pod, [error])
