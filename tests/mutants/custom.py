"""Mutants of what asks an external authorizer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from enforcer import ext_authz, rbac
from enforcer.policy import Action, Rule
from tests.mutants.policies import has_http, of
from tests.mutants.seams import around, compile_as, mutant


def custom_filters_as(change: Any) -> None:
    """Other filters for CUSTOM than the written ones."""

    @around(rbac, "_custom_filters")
    def _changed(original: Any, policies: Any, trust: Any, providers: Any) -> Any:
        return change(original, policies, trust, providers)


def ask_as(change: Any) -> None:
    """Asks another provider than the named one."""

    @around(ext_authz, "ask")
    def _ask(original: Any, provider: Any, **more: Any) -> Any:
        return original(change(provider), **more)


@mutant
def custom_ignored() -> None:
    """A CUSTOM policy is no policy."""
    compile_as(lambda policies: [policy for policy in policies if policy.action is not Action.CUSTOM])


@mutant
def custom_after_the_others() -> None:
    """The authorizer is asked when DENY and ALLOW have admitted the connection."""

    @around(rbac, "network_filters")
    def _last(original: Any, policies: Any, **more: Any) -> Any:
        custom = [policy for policy in policies if policy.action is Action.CUSTOM]
        others = [policy for policy in policies if policy.action is not Action.CUSTOM]
        return [*original(others, **more), *original(custom, **more)]


@mutant
def custom_admission_is_final() -> None:
    """What the authorizer is asked about is no business of DENY and ALLOW any more."""

    def alone(policies: Any) -> Any:
        custom = [policy for policy in policies if policy.action is Action.CUSTOM]
        return custom or policies

    compile_as(alone)


@mutant
def custom_rules_ignored() -> None:
    """The authorizer is asked about every connection."""
    compile_as(of(Action.CUSTOM, lambda policy: replace(policy, rules=(Rule(),))))


@mutant
def unknown_provider_ignored() -> None:
    """A CUSTOM policy whose provider the mesh does not know is left aside."""
    custom_filters_as(
        lambda original, policies, trust, providers: original(
            [policy for policy in policies if policy.provider in providers], trust, providers
        )
    )


@mutant
def authorizer_that_is_down_admits() -> None:
    """An authorizer that does not answer admits."""
    ask_as(lambda provider: replace(provider, fail_open=True))


@mutant
def authorizer_that_is_late_admits() -> None:
    """An authorizer that takes the question and has not answered when its time is up admits."""
    ask_as(lambda provider: replace(provider, fail_open=provider.fail_open or provider.timeout_seconds < 1))


@mutant
def fail_open_unknown() -> None:
    """An authorizer that does not answer denies, though it is to fail open."""
    ask_as(lambda provider: replace(provider, fail_open=False))


@mutant
def one_of_several_providers_asked() -> None:
    """Of CUSTOM policies that name different providers those of the first one are kept."""

    def first(original: Any, policies: Any, trust: Any, providers: Any) -> Any:
        named = sorted({policy.provider for policy in policies if policy.action is Action.CUSTOM})
        return original(
            [policy for policy in policies if policy.provider in (*named[:1], "")], trust, providers
        )

    custom_filters_as(first)


@mutant
def http_provider_denies() -> None:
    """A CUSTOM policy whose provider speaks HTTP is taken for one whose provider is not known."""
    custom_filters_as(
        lambda original, policies, trust, providers: original(
            policies, trust, {name: found for name, found in providers.items() if found.grpc}
        )
    )


@mutant
def http_provider_asked() -> None:
    """A provider that speaks HTTP is taken for one that speaks gRPC."""
    custom_filters_as(
        lambda original, policies, trust, providers: original(
            policies, trust, {name: replace(found, grpc=True) for name, found in providers.items()}
        )
    )


@mutant
def http_custom_rule_dropped() -> None:
    """A CUSTOM rule with an HTTP-only field is ignored, as an ALLOW rule is."""
    compile_as(
        of(
            Action.CUSTOM,
            lambda policy: replace(policy, rules=tuple(r for r in policy.rules if not has_http(r))),
        )
    )
