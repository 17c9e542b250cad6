"""The errors of the API server: what goes wrong in a request, as a Kubernetes `Status` object.

Codes, reasons and sentences are those of k8s.io/apimachinery/pkg/api/errors, because clients match on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One broken field. `path` is `spec.rules[0].to`, `type` the cause's reason (`FieldValueRequired`, ...),
    `message` the sentence behind the path (`Required value: name or generateName is required`)."""

    path: str
    type: str
    message: str


class ApiError(Exception):
    """A request's refusal. `details` is the Status' `details` object; `headers` go with the answer."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details) if details is not None else None
        self.headers = dict(headers or {})

    def to_status(self) -> dict[str, Any]:
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details is not None:
            status["details"] = self.details
        return status


def success(*, name: str, kind: str, group: str = "", uid: str = "") -> dict[str, Any]:
    """The Status of a delete that left nothing behind."""
    details = {"name": name, "group": group, "kind": kind, "uid": uid}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }


def qualified(plural: str, group: str) -> str:
    """`pods`, or `deployments.apps`: how errors and look-ups name a resource."""
    return f"{plural}.{group}" if group else plural


def _details(name: str, plural: str, group: str, **more: Any) -> dict[str, Any]:
    details: dict[str, Any] = {"name": name, "group": group, "kind": plural} | more
    return {key: value for key, value in details.items() if value}


def not_found(plural: str, name: str, *, group: str = "") -> ApiError:
    message = f'{qualified(plural, group)} "{name}" not found'
    return ApiError(404, "NotFound", message, _details(name, plural, group))


def no_such_resource() -> ApiError:
    """The path leads to no kind that is served here."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(plural: str, name: str, *, group: str = "") -> ApiError:
    message = f'{qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(name, plural, group))


def conflict(plural: str, name: str, why: str = "", *, group: str = "") -> ApiError:
    """`why` defaults to the sentence for a stale resourceVersion."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(name, plural, group))


def apply_conflict(message: str, causes: Sequence[Mapping[str, str]]) -> ApiError:
    """Server-side apply met fields that another manager owns."""
    return ApiError(409, "Conflict", message, {"causes": list(causes)})


def invalid(kind: str, name: str, errors: Sequence[FieldError], *, group: str = "") -> ApiError:
    sentences = [f"{error.path}: {error.message}" for error in errors]
    text = sentences[0] if len(sentences) == 1 else f"[{', '.join(sentences)}]"
    causes = [{"reason": error.type, "message": error.message, "field": error.path} for error in errors]
    return ApiError(
        422,
        "Invalid",
        f'{qualified(kind, group)} "{name}" is invalid: {text}',
        _details(name, kind, group, causes=causes),
    )


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(
    plural: str, name: str, why: str, *, group: str = "", causes: Sequence[Mapping[str, str]] = ()
) -> ApiError:
    """`why` is the sentence behind `... is forbidden: `."""
    subject = f'{qualified(plural, group)} "{name}"' if name else qualified(plural, group)
    details = _details(name, plural, group, causes=list(causes))
    return ApiError(403, "Forbidden", f"{subject} is forbidden: {why}", details)


def method_not_allowed() -> ApiError:
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message, {})


def unsupported_media_type(supported: Sequence[str]) -> ApiError:
    message = "the body of the request was in an unknown format - accepted media types include: "
    return ApiError(415, "UnsupportedMediaType", message + ", ".join(supported), {})


def expired(message: str) -> ApiError:
    """The asked resourceVersion (or continue token) is older than what is remembered: list again."""
    return ApiError(410, "Expired", message)


def too_large_resource_version(*, asked: int, current: int) -> ApiError:
    return ApiError(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {asked}, current: {current}",
        {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
        | {"retryAfterSeconds": 1},
        headers={"Retry-After": "1"},
    )


def internal(message: str) -> ApiError:
    return ApiError(
        500,
        "InternalError",
        f"Internal error occurred: {message}",
        {"causes": [{"message": message}]},
    )
