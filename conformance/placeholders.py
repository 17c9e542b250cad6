"""`${foo}` and its relatives in manifests and steps: real names and addresses, put in just before sending."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from conformance.topology import NAMESPACES, Names, Ref

__all__ = ["resolve"]

TOKEN = re.compile(r"\$\$\{|\$\{([^}]*)\}")


def resolve(
    value: Any,
    *,
    names: Names,
    pod_address: Callable[[Ref], str],
    pod_address6: Callable[[Ref], str],
    service_address: Callable[[Ref], str],
) -> Any:
    """The value with every text in it, keys included, filled in. `$${` stands for a literal `${`.

    Raises KeyError for an unknown placeholder; the scenario reader has refused those before."""

    def one(match: re.Match[str]) -> str:
        text = match[1]
        if text is None:
            return "${"
        head, _, rest = text.partition(":")
        if head == "ip":
            return pod_address(Ref.parse(rest))
        if head == "ip6":
            return pod_address6(Ref.parse(rest))
        if head == "clusterip":
            return service_address(Ref.parse(rest))
        if text == "root":
            return names.root
        if text == "run":
            return names.run
        if head in NAMESPACES:
            return {"": names.real, "head": names.head, "tail": names.tail}[rest](head)
        raise KeyError(text)

    def walk(item: Any) -> Any:
        if isinstance(item, str):
            return TOKEN.sub(one, item)
        if isinstance(item, dict):
            return {walk(key): walk(child) for key, child in item.items()}
        if isinstance(item, list):
            return [walk(child) for child in item]
        return item

    return walk(value)
