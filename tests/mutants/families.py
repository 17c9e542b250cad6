"""Mutants of the second address family: IPv6 past the sidecar, blocks of one family taken for the other's."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import replace
from typing import Any

from envoy.config.rbac.v3.rbac_pb2 import Principal

from enforcer import capture, inject, rbac
from enforcer.policy import Condition
from tests.mutants.peers import conditions_as
from tests.mutants.seams import around, mutant, principal_matcher

NFT_META_NFPROTO, NFPROTO_IPV6 = 15, 10
ADDRESSES = ("source.ip", "remote.ip", "destination.ip")


def _past(chain: str) -> bytes:
    family = capture._meta(NFT_META_NFPROTO) + capture._equals(struct.pack("B", NFPROTO_IPV6))
    return capture._rule(chain, family, capture._return())


def _init_as(name: str) -> None:
    """The init container of every pod is of this mutant, too."""

    @around(inject, "_init_container")
    def _init_container(original: Any, *arguments: Any) -> Any:
        return {**original(*arguments), "command": ["python3", "-m", "tests.mutants.run", name]}


@mutant
def ipv6_not_captured() -> None:
    """Connections over IPv6 reach the workload past its sidecar."""
    _init_as("ipv6_not_captured")

    @around(capture, "inbound_rules")
    def _inbound_rules(original: Any, options: Any) -> list[bytes]:
        return [_past(capture.INBOUND_CHAIN), *original(options)]


@mutant
def ipv6_blocks_ignored() -> None:
    """Addresses and blocks of IPv6 are left out; where nothing is left, everybody matches."""

    def without(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(value for value in values if ":" not in value)

    def change(each: Condition) -> Condition | None:
        if each.key not in ADDRESSES:
            return each
        left = replace(each, values=without(each.values), not_values=without(each.not_values))
        return left if left.values or left.not_values else None

    conditions_as(change)


@mutant
def everybody_of_any_family() -> None:
    """A block of every address of one family is taken for everybody."""

    def matcher(value: str) -> Principal:
        if ipaddress.ip_network(value, strict=False).prefixlen == 0:
            return Principal(any=True)
        return Principal(direct_remote_ip=rbac._cidr(value))

    principal_matcher("source.ip", matcher)
