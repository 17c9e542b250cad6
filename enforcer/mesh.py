"""Mesh-wide options, from the ConfigMap `mesh`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from enforcer.errors import EnforcerError


class MeshError(EnforcerError):
    """The mesh options cannot be used; the message names the option."""


class Exempt(Enum):
    """How capture tells Envoy's own connections from the application's."""

    MARK = "mark"
    """By socket mark: works where a user namespace maps a single user. Envoy needs NET_RAW."""
    UID = "uid"
    """By user: Envoy runs as its own user and needs no capability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshOptions:
    """Everything an operator may set. Names are the keys of `mesh.yaml` in camelCase."""

    root_namespace: str = "authz-system"
    image: str = "authz-conformance:dev"
    image_pull_policy: str = "IfNotPresent"
    exempt: Exempt = Exempt.MARK
    xds_address: str = "enforcer.authz-system.svc:15010"
    mutating_webhook: str = "enforcer-injector"
    validating_webhook: str = "enforcer-validator"
    webhook_service: str = "enforcer.authz-system.svc"


def _key(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match.group(1).upper(), name)


def read_options(document: Mapping[str, Any] | None) -> MeshOptions:
    """Options from a parsed `mesh.yaml`; what is absent keeps its default. Raises MeshError."""
    if document is None:
        return MeshOptions()
    if not isinstance(document, Mapping):
        raise MeshError(f"mesh options must be a mapping, not {type(document).__name__}")
    known = {_key(field.name): field.name for field in fields(MeshOptions)}
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key not in known:
            raise MeshError(f"unknown mesh option {key!r}; known are {', '.join(sorted(known))}")
        values[known[key]] = _typed(key, known[key], value)
    return MeshOptions(**values)


def _typed(key: str, name: str, value: object) -> object:
    default = getattr(MeshOptions(), name)
    if isinstance(default, Exempt):
        try:
            return Exempt(value)
        except ValueError:
            choices = " or ".join(choice.value for choice in Exempt)
            raise MeshError(f"mesh option {key} must be {choices}, not {value!r}") from None
    if not isinstance(value, str) or not value:
        raise MeshError(f"mesh option {key} must be text, not {value!r}")
    return value


def load_options(path: Path | None) -> MeshOptions:
    """Options from a file; None or an absent file means the defaults. Raises MeshError."""
    import yaml

    if path is None or not path.exists():
        return MeshOptions()
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise MeshError(f"{path}: {error}") from error
    return read_options(document)
