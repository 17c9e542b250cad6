"""The sentences of broken fields, as k8s.io/apimachinery/pkg/util/validation/field writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from conformance.cluster.embedded.apiserver.status import FieldError


def required(path: str, why: str = "") -> FieldError:
    message = f"Required value: {why}" if why else "Required value"
    return FieldError(path=path, type="FieldValueRequired", message=message)


def invalid(path: str, value: Any, why: str) -> FieldError:
    return FieldError(path=path, type="FieldValueInvalid", message=f"Invalid value: {_shown(value)}: {why}")


def unsupported(path: str, value: Any, supported: Sequence[str]) -> FieldError:
    choices = ", ".join(f'"{choice}"' for choice in supported)
    message = f"Unsupported value: {_shown(value)}: supported values: {choices}"
    return FieldError(path=path, type="FieldValueNotSupported", message=message)


def duplicate(path: str, value: Any) -> FieldError:
    return FieldError(path=path, type="FieldValueDuplicate", message=f"Duplicate value: {_shown(value)}")


def forbidden(path: str, why: str) -> FieldError:
    return FieldError(path=path, type="FieldValueForbidden", message=f"Forbidden: {why}")


def not_found(path: str, value: Any) -> FieldError:
    return FieldError(path=path, type="FieldValueNotFound", message=f"Not found: {_shown(value)}")


def _shown(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
