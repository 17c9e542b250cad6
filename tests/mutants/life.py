"""Mutants that open for a moment: when something goes away, comes back or is replaced."""

from __future__ import annotations

import asyncio
from typing import Any

from enforcer import capture, hooks, inject, ports, rbac
from enforcer.controller import Controller
from enforcer.policy import Policy
from enforcer.world import World
from enforcer.xds.server import Ads
from tests.mutants.seams import around, mutant

OPEN_SECONDS = 0.3
LONGER_SECONDS = 3.0  # than a restarted sidecar needs to become ready
EVERY = "*"


def with_open_nodes() -> set[str]:
    """The nodes (EVERY: all) that get a configuration without policies, from now on."""
    nodes: set[str] = set()

    @around(World, "governing")
    def _governing(original: Any, cluster: Any, workload: Any) -> Any:
        return () if nodes & {EVERY, workload.node} else original(cluster, workload)

    @around(World, "snapshot")
    def _snapshot(original: Any, cluster: Any, node: str, **more: Any) -> Any:
        # What is remembered is not told apart by what is open.
        cluster._snapshots.clear()
        return original(cluster, node, **more)

    return nodes


@mutant
def open_without_control_plane() -> None:
    """The control plane takes its policies with it when it goes."""
    nodes = with_open_nodes()

    @around(Ads, "stop")
    def _stop(original: Any, ads: Any) -> Any:
        async def stop() -> None:
            nodes.add(EVERY)
            ads.refresh()
            await asyncio.sleep(OPEN_SECONDS)
            await original(ads)

        return stop()


@mutant
def open_for_a_moment() -> None:
    """Asked to stop, the control plane pushes a configuration without policies, then the right one again."""
    nodes = with_open_nodes()

    @around(Ads, "stop")
    def _stop(original: Any, ads: Any) -> Any:
        async def stop() -> None:
            nodes.add(EVERY)
            ads.refresh()
            await asyncio.sleep(OPEN_SECONDS)
            nodes.discard(EVERY)
            ads.refresh()
            await asyncio.sleep(OPEN_SECONDS)
            await original(ads)

        return stop()


@mutant
def open_after_a_restart() -> None:
    """A sidecar that comes back accepts before it has its policies."""
    nodes = with_open_nodes()
    known: set[str] = set()

    @around(Ads, "_converse")
    def _converse(original: Any, ads: Any, requests: Any, context: Any, session: Any) -> Any:
        def close() -> None:
            nodes.discard(session.node)
            ads.refresh()

        if session.node in known:
            nodes.add(session.node)
            asyncio.get_running_loop().call_later(LONGER_SECONDS, close)
        known.add(session.node)
        return original(ads, requests, context, session)


@mutant
def open_while_policies_change() -> None:
    """A changed policy is taken away first, then its successor comes."""
    nodes = with_open_nodes()

    @around(World, "_set_policy")
    def _set_policy(original: Any, cluster: Any, key: Any, document: Any) -> None:
        epoch = cluster._epochs[key.namespace]
        original(cluster, key, document)
        if cluster._epochs[key.namespace] != epoch:
            nodes.add(EVERY)

    @around(Controller, "_after_batch")
    def _after_batch(original: Any, controller: Any) -> None:
        original(controller)
        if EVERY in nodes:
            asyncio.get_running_loop().call_later(OPEN_SECONDS, close, original, controller)

    def close(original: Any, controller: Any) -> None:
        nodes.discard(EVERY)
        original(controller)


@mutant
def injection_optional() -> None:
    """Where the control plane is away pods start without a sidecar."""

    @around(hooks, "trust_patch")
    def _trust_patch(original: Any, configuration: Any, authority: bytes) -> Any:
        patch = original(configuration, authority)
        ignore = [
            {"op": "replace", "path": f"/webhooks/{index}/failurePolicy", "value": "Ignore"}
            for index, _ in enumerate(configuration.get("webhooks") or ())
        ]
        return [*patch, *ignore] if patch else patch


@mutant
def decisions_counted_twice() -> None:
    """Each allowed connection is counted by two filters."""

    @around(rbac, "network_filters")
    def _network_filters(original: Any, *arguments: Any, **more: Any) -> Any:
        filters = original(*arguments, **more)
        return [*filters, *filters]


@mutant
def closed_after_a_policy() -> None:
    """A workload that was under a policy once is closed when it is under none."""
    governed: set[str] = set()

    @around(World, "governing")
    def _governing(original: Any, cluster: Any, workload: Any) -> Any:
        found = original(cluster, workload)
        if found:
            governed.add(workload.uid)
        return found or ((Policy(namespace="none", name="none"),) if workload.uid in governed else ())


@mutant
def probes_are_judged() -> None:
    """The port that the kubelet asks for a sidecar's readiness is captured: policies judge the kubelet."""

    @around(inject, "_init_container")
    def _init_container(original: Any, *arguments: Any) -> Any:
        command = ["python3", "-m", "tests.mutants.run", "probes_are_judged"]
        return {**original(*arguments), "command": command}

    @around(capture, "inbound_rules")
    def _inbound_rules(original: Any, options: Any) -> list[bytes]:
        spared = capture._rule(
            capture.INBOUND_CHAIN, capture._is_tcp(), capture._to_port(ports.READY), capture._return()
        )
        return [rule for rule in original(options) if rule != spared]
