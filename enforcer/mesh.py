"""Mesh-wide options, from the ConfigMap `mesh`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from enforcer.errors import MeshError
from enforcer.providers import Provider, read_providers


class Exempt(Enum):
    """How capture tells Envoy's own connections from the application's."""

    MARK = "mark"
    """By socket mark: works where a user namespace maps a single user. Envoy needs NET_RAW."""
    UID = "uid"
    """By user: Envoy runs as its own user and needs no capability."""


CLUSTER_LOCAL = "cluster.local"
"""The trust domain of a mesh that names none; in a policy's principals it stands for the mesh's own."""
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whose identities a policy can mean: `domain` is the mesh's own, `aliases` are its other names."""

    domain: str = CLUSTER_LOCAL
    aliases: tuple[str, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """All of them, the mesh's own first, each once."""
        return tuple(dict.fromkeys((self.domain, *self.aliases)))


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
    trust_domain: str = CLUSTER_LOCAL
    trust_domain_aliases: tuple[str, ...] = ()
    certificate_seconds: int = 24 * 3600
    """How long a workload's certificate is valid; it is replaced after half of that."""
    extension_providers: tuple[Provider, ...] = ()
    """The external authorizers that CUSTOM policies may name."""

    @property
    def trust(self) -> Trust:
        return Trust(domain=self.trust_domain, aliases=self.trust_domain_aliases)


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
    if name == "extension_providers":
        return read_providers(value)
    if isinstance(default, tuple):
        if not isinstance(value, list):
            raise MeshError(f"mesh option {key} must be a list, not {value!r}")
        return tuple(_trust_domain(key, item) for item in value)
    if name == "trust_domain":
        return _trust_domain(key, value)
    if isinstance(default, int):
        # bool is an int, too, to Python.
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise MeshError(f"mesh option {key} must be a number of seconds, not {value!r}")
        return value
    if not isinstance(value, str) or not value:
        raise MeshError(f"mesh option {key} must be text, not {value!r}")
    return value


def _trust_domain(key: str, value: object) -> str:
    """SPIFFE's rule for the name of a trust domain; without it a name could reach into the path behind it."""
    if not isinstance(value, str) or not _TRUST_DOMAIN.fullmatch(value):
        rule = "1 to 255 lower-case letters, digits, dots, dashes or underscores"
        raise MeshError(f"mesh option {key}: {value!r} is not a trust domain ({rule})")
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
