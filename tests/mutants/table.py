"""Which mutant breaks which requirement, and which scenarios must notice.

Every core and extended requirement that a sidecar mesh can keep stands here: with mutants, as implied by
another one, or with the reason why nothing here can break it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Part(Enum):
    """Where a mutant sits: the file of manifests/ and the command in it that it replaces; without a file it
    sits in what the suite itself starts, and the suite's own command is replaced."""

    ENFORCER = ("enforcer/30-controller.yaml", "[python3, -m, enforcer]", "")
    WORKLOAD = ("workloads/tcp-echo.yaml", "command: [tcp-echo]", "workload")
    CLUSTER = ("", "", "cluster")
    """The embedded cluster: API server and controllers."""
    PROBER = ("", "", "prober")
    """The client that runs inside the workloads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A requirement, a mutant that breaks it, and what must turn red."""

    requirement: str
    mutant: str
    scenarios: str
    """For -k: few."""
    part: Part = Part.ENFORCER
    without: tuple[str, ...] = ()
    """What the CRD must not promise either: keywords taken out of its schema, `+keyword` put into it, and the
    name of a version, which does not know the `to` of a rule."""
    unjudged: str = ""
    """Why no failure can come of it, but only no verdict. Such a row is no kill: another one of the same
    requirement is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Implied:
    """A requirement that cannot be broken alone."""

    requirement: str
    by: str
    reason: str


CEL = "x-kubernetes-validations"


def broken(requirement: str, mutant: str, scenarios: str, *without: str) -> Broken:
    return Broken(requirement=requirement, mutant=mutant, scenarios=scenarios, without=without)


def cluster(requirement: str, mutant: str, scenarios: str) -> Broken:
    return Broken(requirement=requirement, mutant=mutant, scenarios=scenarios, part=Part.CLUSTER)


BROKEN: tuple[Broken, ...] = (
    Broken(requirement="DOC-01", mutant="echo_says_something_else", scenarios="doc/01", part=Part.WORKLOAD),
    broken("DOC-01", "closed_after_a_policy", "doc/01"),
    broken("DOC-02", "allow_miss_allowed", "doc/02 or order/02 or order/03 or doc/18"),
    broken("DOC-02", "never_pushed", "doc/02"),
    broken("DOC-03", "allow_rules_lost", "doc/02 or order/02"),
    broken("DOC-04", "one_workload_for_the_namespace", "doc/04"),
    broken("DOC-05", "selector_ignored", "doc/05 or doc/02 or scope/03"),
    broken("DOC-06", "http_rule_matches_all", "doc/06"),
    broken("DOC-07", "http_rule_matches_all", "doc/07 or doc/02"),
    broken("DOC-08", "http_rule_matches_all", "doc/08"),
    broken("DOC-09", "http_rule_drops_its_policy", "doc/09"),
    broken("DOC-11", "dry_run_enforced", "doc/11"),
    broken("DOC-12", "dry_run_forgotten", "doc/11"),
    # Alone: what this one leaves behind is in the way of every case after the first.
    broken("DOC-13", "deletion_ignored", "doc/13"),
    Broken(requirement="DOC-14", mutant="echo_starts_anew", scenarios="doc/14", part=Part.WORKLOAD),
    broken("DOC-15", "namespaces_ignored", "doc/15"),
    broken("DOC-16", "version_of_another_content", "doc/16 or doc/02", "v1beta1"),
    broken("DOC-18", "allow_miss_allowed", "doc/18"),
    broken("DOC-18", "http_deny_rule_dropped", "doc/18"),
    broken("EMPTY-01", "allow_without_rules_ignored", "empty/01 or doc/02"),
    broken("EMPTY-02", "empty_rule_matches_nothing", "empty/02"),
    broken("EMPTY-03", "empty_rule_matches_nothing", "empty/03"),
    broken("EMPTY-04", "allow_without_rules_ignored", "empty/04"),
    broken("EMPTY-05", "absent_action_is_deny", "empty/05"),
    broken("EMPTY-06", "empty_list_matches_nothing", "empty/06"),
    broken("EMPTY-07", "absent_from_matches_nobody", "empty/07"),
    broken("EMPTY-08", "no_spec_is_no_policy", "empty/08"),
    broken("EMPTY-09", "empty_rule_matches_nothing", "empty/09"),
    broken("EMPTY-10", "warnings_unsaid", "empty/10"),
    broken("EMPTY-10", "one_workload_for_the_namespace", "empty/10"),
    broken("ORDER-01", "deny_ignored", "order/01 or order/03"),
    broken("ORDER-02", "deny_alone_closes", "order/02"),
    # The outcomes are right, and only who decided is not.
    broken("ORDER-02", "allowed_by_a_policy_of_its_own", "order/02"),
    broken("ORDER-03", "allow_miss_allowed", "order/03"),
    broken("ORDER-04", "first_allow_wins", "order/04"),
    broken("ORDER-05", "demands_are_alternatives", "order/05"),
    broken("ORDER-05", "values_must_all_match", "order/05"),
    broken("ORDER-06", "demands_are_alternatives", "order/06"),
    broken("ORDER-07", "rules_are_merged", "order/07"),
    broken("ORDER-08", "own_overrides_root", "order/08"),
    broken("ORDER-09", "audit_denies", "order/09"),
    broken("SCOPE-01", "any_label_is_enough", "scope/01"),
    broken("SCOPE-02", "root_is_a_namespace", "scope/02"),
    broken("SCOPE-03", "selector_ignored", "scope/03"),
    broken("SCOPE-04", "labels_of_birth", "scope/04"),
    broken("SCOPE-05", "target_refs_ignored", "scope/05"),
    broken("SCOPE-06", "outbound_governed", "scope/06"),
    broken("SCOPE-07", "undeclared_port_open", "scope/07 or doc/02"),
    broken("SCOPE-08", "new_pods_uncovered", "scope/08"),
    broken("SCOPE-09", "mutual_tls_chain_open", "scope/09"),
    broken("SCOPE-09", "plaintext_chain_open", "scope/09"),
    broken("PORT-01", "ports_of_the_service", "port/01 or doc/02"),
    broken("PORT-02", "first_value_only", "port/02"),
    broken("PORT-03", "not_ports_as_ports", "port/03 or port/02"),
    broken("PORT-04", "demands_are_alternatives", "port/04"),
    broken("PORT-05", "port_key_ignored", "port/05"),
    broken("PORT-06", "ports_compared_as_text", "port/06"),
    broken("SRC-01", "principals_by_part", "src/11-never[part-of-a-principal]"),
    broken("SRC-01", "identity_of_plaintext_peers", "src/01-identity-fields[principal-exact]"),
    broken("SRC-02", "principal_wildcards_literal", "src/01-identity-fields[principal-prefix]"),
    broken("SRC-03", "principal_wildcards_literal", "src/01-identity-fields[principal-suffix]"),
    broken("SRC-04", "any_principal_literal", "src/04-any-identity[principals]"),
    broken("SRC-05", "namespace_wildcards_literal", "src/01-identity-fields[namespace"),
    broken("SRC-06", "account_dots_match_anything", "dot-in or account-dot"),
    broken("SRC-07", "accounts_of_any_namespace", "src/01-identity-fields[account"),
    broken("SRC-08", "trust_domain_wildcards_literal", "src/04-any-identity[trust-domain"),
    broken("SRC-08", "trust_domain_ignored", "src/11-never[another-trust-domain]"),
    broken("SRC-09", "negated_identity_forgotten", "src/01-identity-fields[principal-exact]"),
    broken("SRC-10", "identity_keys_ignored", "src/10"),
    broken("SRC-11", "scheme_stripped", "src/11-never[scheme-in-front]"),
    broken("SRC-12", "case_ignored", "another-case"),
    broken("SRC-13", "stars_anywhere", "src/11-never[wildcard"),
    broken("PLAIN-01", "identity_of_plaintext_peers", "src/01-identity-fields[principal-exact]"),
    broken("PLAIN-02", "negation_needs_identity", "src/01-identity-fields[principal-exact]"),
    broken("PLAIN-03", "negation_needs_identity", "plain/03"),
    broken("PLAIN-04", "strict_is_permissive", "plain/04"),
    # As with ORDER-02.
    broken("PLAIN-04", "strict_as_a_policy", "plain/04-selector"),
    broken("PLAIN-04", "disable_is_permissive", "plain/04-disable"),
    broken("PLAIN-04", "port_modes_ignored", "plain/04"),
    broken("PLAIN-04", "newest_peer_authentication_wins", "plain/04-oldest"),
    broken("PLAIN-05", "plaintext_matches_no_rule", "plain/05"),
    broken("IP-01", "blocks_are_addresses", "ip/01"),
    broken("IP-02", "negated_addresses_forgotten", "ip/02"),
    broken("IP-03", "remote_address_unknown", "ip/03"),
    broken("IP-04", "destination_address_ignored", "ip/04"),
    broken("IP-05", "ipv6_not_captured", "ip/05-ipv6-ports or ip/05-ipv6-identity"),
    broken("IP-05", "ipv6_blocks_ignored", "ip/05-ipv6-blocks or ip/05-ipv6-remote or ip/05-ipv6-dest"),
    broken("IP-05", "everybody_of_any_family", "ip/05-ipv6-families"),
    broken("WHEN-01", "server_name_wildcards_literal", "when/01"),
    broken("WHEN-01", "absent_server_name_is_any", "when/01-any-sni"),
    broken("WHEN-02", "demands_are_alternatives", "when/02"),
    broken("WHEN-03", "http_keys_ignored", "http/01-allow-request-headers or request-auth-claims"),
    broken("HTTP-01", "http_rule_matches_all", "http/01-allow-hosts or http/01-allow-not-paths"),
    broken("HTTP-02", "http_deny_rule_dropped", "http/02-deny-methods or http/02-deny-http-only"),
    broken("HTTP-03", "http_audit_rule_dropped", "http/03-audit[methods]"),
    broken("HTTP-04", "http_rule_matches_all", "http/04-dry-run-allow[methods]"),
    broken("HTTP-05", "http_entry_dropped_alone", "http/05"),
    broken("HTTP-06", "http_deny_entry_dropped", "http/06"),
    broken("DRY-01", "dry_run_one_spelling", "dry/01"),
    broken("DRY-02", "dry_run_suspends_the_others", "dry/02"),
    broken("DRY-03", "dry_run_forgotten", "dry/03"),
    broken("DRY-04", "dry_run_enforced", "dry/03"),
    broken("DRY-05", "dry_run_sticks", "dry/05"),
    broken("DRY-06", "bad_dry_run_admitted", "dry/06"),
    broken("VALID-01", "unknown_action_admitted", "valid/01", "enum"),
    broken("VALID-02", "deny_without_rules_admitted", "valid/02"),
    broken("VALID-03", "bad_port_admitted", "valid/03"),
    broken("VALID-04", "bad_address_admitted", "valid/04"),
    broken("VALID-05", "empty_string_admitted", "valid/05"),
    broken("VALID-06", "empty_entry_admitted", "valid/06"),
    broken("VALID-07", "bad_condition_admitted", "valid/07"),
    broken("VALID-08", "bad_selector_admitted", "valid/08", CEL),
    broken("VALID-09", "bad_service_account_admitted", "valid/09", CEL, "maxItems", "maxLength"),
    broken("VALID-10", "bad_trust_domain_admitted", "valid/10"),
    broken("VALID-11", "bad_provider_admitted", "valid/11", CEL),
    broken("VALID-12", "limits_unknown", "valid/12", "maxItems"),
    broken("VALID-13", "null_item_admitted", "valid/13", "+nullable"),
    broken("VALID-15", "unknown_field_admitted", "valid/15", "+x-kubernetes-preserve-unknown-fields"),
    broken("VALID-16", "warnings_unsaid", "valid/16"),
    broken("LIFE-01", "change_ignored", "life/01"),
    broken("LIFE-02", "updates_unjudged", "life/02"),
    broken("LIFE-03", "open_without_control_plane", "test_control_plane_away"),
    broken("LIFE-03", "open_for_a_moment", "test_control_plane_away"),
    broken("LIFE-04", "injection_optional", "test_nothing_opens_without_control_plane"),
    broken("LIFE-05", "open_after_a_restart", "test_sidecar_restarts"),
    broken("LIFE-06", "open_while_policies_change", "test_policy_replaced"),
    broken("LIFE-09", "names_shared", "life/09"),
    broken("RUN-01", "deny_ignored", "run/01"),
    Broken(
        requirement="RUN-01",
        mutant="denied_clients_hang",
        scenarios="run/01",
        unjudged="a connection without an end is no rejection, and anything on its way could have caused it",
    ),
    Broken(
        requirement="RUN-01",
        mutant="ends_called_refusals",
        scenarios="run/01",
        part=Part.PROBER,
        unjudged="nobody else knows how the client's connection ended",
    ),
    Broken(requirement="RUN-01", mutant="answers_lost", scenarios="run/01", part=Part.PROBER),
    Broken(requirement="RUN-02", mutant="answers_invented", scenarios="run/01", part=Part.PROBER),
    Broken(
        requirement="RUN-02",
        mutant="echo_keeps_no_log",
        scenarios="run/01",
        part=Part.WORKLOAD,
        unjudged="who answered is not known without a log, before any policy is there",
    ),
    broken("RUN-03", "answer_withheld", "run/01 or order/02"),
    broken("RUN-07", "decisions_counted_twice", "test_counters"),
    broken("RUN-06", "wrong_rule_named", "run/06"),
    broken("ORDER-10", "custom_ignored", "order/10-authorizer-first or order/10-unknown"),
    broken("ORDER-10", "custom_after_the_others", "order/10-authorizer-first"),
    broken("ORDER-10", "custom_admission_is_final", "order/10-authorizer"),
    broken("ORDER-10", "custom_rules_ignored", "order/10-only"),
    broken("ORDER-10", "unknown_provider_ignored", "order/10-unknown"),
    broken("ORDER-10", "authorizer_that_is_down_admits", "order/10-provider-down"),
    broken("ORDER-10", "authorizer_that_is_late_admits", "order/10-authorizer-silent"),
    broken("ORDER-10", "fail_open_unknown", "order/10-fail-open"),
    broken("ORDER-11", "http_provider_denies", "order/11 or test_http_authorizer"),
    broken("ORDER-11", "http_provider_asked", "order/11"),
    broken("ORDER-12", "one_of_several_providers_asked", "order/12"),
    broken("HTTP-03", "http_custom_rule_dropped", "http/03-custom[methods]"),
    broken("SRC-14", "aliases_unknown", "src/14"),
    broken("SRC-14", "any_trust_domain_is_an_alias", "src/14"),
    broken("LIFE-10", "probes_are_judged", "test_kubelet_probes"),
    cluster("VALID-01", "schema_unenforced", "valid/01"),
    cluster("VALID-12", "schema_unenforced", "valid/12"),
    cluster("EMPTY-09", "nothing_pruned", "empty/09"),
    cluster("VALID-15", "nothing_pruned", "valid/15"),
    cluster("VALID-15", "strictness_ignored", "test_strict_field_validation"),
    cluster("VALID-16", "warnings_lost", "valid/16"),
    cluster("EMPTY-10", "warnings_lost", "empty/10"),
    cluster("VALID-02", "validation_unasked", "valid/02"),
    cluster("DRY-06", "validation_unasked", "dry/06"),
    cluster("LIFE-02", "refused_updates_stored", "life/02"),
    cluster("LIFE-04", "absent_webhooks_ignored", "test_nothing_opens_without_control_plane"),
    cluster("LIFE-09", "policies_outlive_their_namespace", "test_deleted_namespace"),
    cluster("SCOPE-04", "labels_of_creation", "scope/04"),
    cluster("DOC-16", "read_as_stored", "doc/16"),
)

IMPLIED: tuple[Implied, ...] = (
    Implied(
        requirement="DOC-10",
        by="DOC-03",
        reason="the client sends JSON: how the YAML was written is not to be seen behind it",
    ),
    Implied(requirement="VALID-14", by="DRY-06", reason="the same sentence in the catalogue's other chapter"),
)

ROUTING = (
    "the bundled enforcer reads no VirtualService and no DestinationRule, so that there is none to break"
)

ELSEWHERE: Mapping[str, str] = {
    "AMB": "it speaks of ztunnel, which is not the bundled data plane",
    "DOC-17": ROUTING,
    "PLAIN-06": ROUTING,
}
"""Requirements, and whole groups of them, that no mutant of the bundled enforcer can break, and why."""
