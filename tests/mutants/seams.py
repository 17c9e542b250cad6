"""What mutants are made with: a registry by name, and the replacing of one function at its seam."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from enforcer import rbac
from enforcer.policy import Policy, Rule

Mutant = Callable[[], None]

MUTANTS: dict[str, Mutant] = {}
"""By name; calling one breaks the process that calls it."""


def mutant(patch: Mutant) -> Mutant:
    """Registers a mutant under its function's name; its docstring says what it does wrong."""
    if patch.__name__ in MUTANTS:
        raise ValueError(f"two mutants are named {patch.__name__}")
    MUTANTS[patch.__name__] = patch
    return patch


def around(owner: object, name: str) -> Callable[[Callable[..., Any]], None]:
    """Replaces a function or method by the decorated one, which is given the original first."""
    original = getattr(owner, name)

    def put(wrapper: Callable[..., Any]) -> None:
        @functools.wraps(original)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            return wrapper(original, *arguments, **named)

        setattr(owner, name, wrapped)

    return put


def instead(owner: object, name: str, value: object) -> None:
    """Replaces whatever stands there; fails where nothing does, so that no mutant is without effect."""
    getattr(owner, name)
    setattr(owner, name, value)


def compile_as(change: Callable[[Sequence[Policy]], Sequence[Policy]]) -> None:
    """Compiles other policies for each workload than the ones that govern it."""

    @around(rbac, "network_filters")
    def _changed(original: Any, policies: Sequence[Policy], **more: Any) -> Any:
        return original(change(policies), **more)


def compile_rules_as(change: Callable[[Rule], Rule]) -> None:
    """Compiles other rules than the written ones."""
    compile_as(lambda policies: [replace(p, rules=tuple(map(change, p.rules))) for p in policies])


def principal_matcher(key: str, matcher: Callable[[str], Any]) -> None:
    """Another meaning of an attribute of the source."""
    side: Any = rbac._PRINCIPALS
    instead(rbac, "_PRINCIPALS", replace(side, matchers={**side.matchers, key: matcher}))


def permission_matcher(key: str, matcher: Callable[[str], Any]) -> None:
    """Another meaning of an attribute of the destination."""
    side: Any = rbac._PERMISSIONS
    instead(rbac, "_PERMISSIONS", replace(side, matchers={**side.matchers, key: matcher}))
