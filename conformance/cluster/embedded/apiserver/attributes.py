"""What every room of admission is asked about: one write, and what else the storage holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from conformance.cluster.embedded.apiserver.auth import User

ListObjects = Callable[[str], Iterable[dict[str, Any]]]  # resource (plural.group), all namespaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """One write. `obj` is None for DELETE, `old` for CREATE; `resource` is the plural without the group."""

    operation: str  # CREATE | UPDATE | DELETE | CONNECT
    group: str
    version: str
    resource: str
    kind: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    user: User
    obj: dict[str, Any] | None = None
    old: dict[str, Any] | None = None
    dry_run: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def with_object(self, obj: dict[str, Any] | None) -> Self:
        return replace(self, obj=obj)
