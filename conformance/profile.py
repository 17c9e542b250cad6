"""Profiles: what is known about a mesh before anything is measured.

A profile says how denials look there, which features it has, how the landing of a policy can be proven,
and every deadline. The file format is that of profiles/bundled.yaml, each key of which is explained there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from conformance.deviations import KnownDeviation, read_deviations
from conformance.errors import InputError
from conformance.evidence import Kind
from conformance.reading import Node, Problems, read_documents
from conformance.scenario import FEATURES

__all__ = [
    "ATTRIBUTIONS",
    "BUDGETS",
    "CONFIG_DUMP",
    "ENFORCER_STATUS",
    "PROFILES",
    "UNAVAILABLE",
    "ZTUNNEL_PORT",
    "Deadlines",
    "Profile",
    "find_profile",
    "load_profile",
]

PROFILES = Path(__file__).parent / "profiles"
KEYS = {
    "name", "title", "dataplane", "root_namespace", "install_enforcer", "injection_labels", "barrier",
    "awaited_kinds", "trust_domain", "attribution", "sidecar_container", "features", "unsupported", "denials",
    "asserts_messages", "rounds", "deadlines", "budgets", "drain_seconds", "known_deviations",
}  # fmt: skip

# How it can be known who decided: by rule, or only that RBAC did.
# The barriers: how the landing of a change is proven.
ENFORCER_STATUS, CONFIG_DUMP, ZTUNNEL_PORT = "enforcer-status", "istio-config-dump", "ztunnel-port"
ATTRIBUTIONS = ("access-log", "counters")
UNAVAILABLE = "unavailable"
# How a denied connection may end. An answer is no denial, and what could not be asked is no evidence.
DENIALS = tuple(kind for kind in Kind if kind not in (Kind.ANSWERED, Kind.UNKNOWN))
# What a profile may promise, in milliseconds; docs/record.md says what is measured.
BUDGETS = tuple(
    f"{what}_{part}" for what in ("time_to_enforce", "time_to_recover") for part in ("p50", "p95", "max")
)
# What the barrier must tell of, or a step's policies could be missing without anybody noticing.
AWAITED = ("AuthorizationPolicy", "Pod")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds. Each one ends a wait for a condition; none is ever slept through."""

    ready: float = 60.0
    probe: float = 2.0
    baseline: float = 10.0
    barrier: float = 10.0
    converge: float = 5.0
    testimony: float = 5.0
    attribution: float = 2.0
    recovery: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    name: str
    title: str
    dataplane: str  # sidecar | ztunnel
    root_namespace: str
    install_enforcer: bool
    injection_labels: Mapping[str, str]
    barrier: str  # enforcer-status | istio-config-dump | ztunnel-port
    awaited_kinds: tuple[str, ...]
    attribution: tuple[str, ...]  # of ATTRIBUTIONS, the first that works is taken; none = unavailable
    sidecar_container: str
    features: tuple[str, ...]
    unsupported: Mapping[str, str]  # feature -> why
    denials: tuple[Kind, ...]
    asserts_messages: bool
    rounds: int
    drain_seconds: float
    deadlines: Deadlines = field(default_factory=Deadlines)
    budgets: Mapping[str, float] = field(default_factory=dict)
    known_deviations: tuple[KnownDeviation, ...] = ()
    trust_domain: str = "cluster.local"

    def why_not(self, features: tuple[str, ...]) -> tuple[str, str] | None:
        """(`unsupported` | `skipped`, reason) where a case needs what this mesh does not have."""
        for feature in features:
            if feature in self.unsupported:
                return "unsupported", f"{feature}: {self.unsupported[feature]}"
        for feature in features:
            if feature not in self.features:
                return "skipped", f"the profile {self.name} does not declare the feature {feature}"
        return None


def find_profile(text: str) -> Path:
    """A name in profiles/ or the path of a file. Raises InputError."""
    named = PROFILES / f"{text}.yaml"
    if named.is_file():
        return named
    file = Path(text)
    if file.is_file():
        return file
    known = ", ".join(sorted(path.stem for path in PROFILES.glob("*.yaml")))
    raise InputError(f"there is no profile {text!r}", hint=f"a file, or one of: {known}")


def load_profile(file: Path) -> Profile:
    """Raises InputError with every problem as file:line."""
    problems = Problems()
    documents = read_documents(file, problems)
    problems.raise_any()
    if len(documents) != 1:
        raise InputError(f"{file}: a profile is one YAML document")
    profile = _profile(documents[0])
    problems.raise_any()
    return profile


def _profile(node: Node) -> Profile:
    node.only_keys(KEYS)
    if not isinstance(node.value, dict):
        node.problems.raise_any()
    features = node.texts("features")
    unsupported = {str(key): str(value) for key, value in node.mapping("unsupported").items()}
    for feature in (*features, *unsupported):
        if feature not in FEATURES:
            node.problem(f"unknown feature {feature!r}; known: {', '.join(FEATURES)}", key="features")
        if feature in features and feature in unsupported:
            node.problem(f"{feature!r} is declared and unsupported at once", key="unsupported")
    kinds = {kind.value: kind for kind in DENIALS}
    denials = node.texts("denials")
    for denial in denials:
        if denial not in kinds:
            node.problem(f"unknown way of denying {denial!r}; known: {', '.join(kinds)}", key="denials")
    if not denials:
        node.problem("'denials' is missing: how does a denied connection end here?")
    rounds = node.integer("rounds", default=3) or 0
    if rounds < 1:
        node.problem("'rounds' must be 1 or more", key="rounds")
    awaited = node.texts("awaited_kinds")
    for kind in AWAITED:
        if kind not in awaited:
            node.problem(f"'awaited_kinds' lacks {kind}: its landing must be proven", key="awaited_kinds")
    return Profile(
        name=node.text("name"),
        title=node.text("title"),
        dataplane=node.choice("dataplane", ("sidecar", "ztunnel")),
        root_namespace=node.text("root_namespace"),
        install_enforcer=node.flag("install_enforcer", default=False),
        injection_labels={str(k): str(v) for k, v in node.mapping("injection_labels").items()},
        barrier=node.choice("barrier", (ENFORCER_STATUS, CONFIG_DUMP, ZTUNNEL_PORT)),
        awaited_kinds=awaited,
        attribution=_attribution(node),
        sidecar_container=node.text("sidecar_container", default="istio-proxy"),
        features=features,
        unsupported=unsupported,
        denials=tuple(kinds[denial] for denial in denials if denial in kinds),
        asserts_messages=node.flag("asserts_messages", default=False),
        rounds=rounds,
        drain_seconds=node.number("drain_seconds", default=45),
        deadlines=_deadlines(node.child("deadlines")),
        budgets=_budgets(node.child("budgets")),
        trust_domain=node.text("trust_domain", default="cluster.local"),
        known_deviations=read_deviations(node.child("known_deviations")),
    )


def _attribution(node: Node) -> tuple[str, ...]:
    """One of ATTRIBUTIONS, a list of them in the order of preference, or `none`."""
    child = node.child("attribution")
    if child is None:
        return ()
    if not isinstance(child.value, list):
        found = node.choice("attribution", (*ATTRIBUTIONS, "none"), default="none")
        return () if found == "none" else (found,)
    wanted = node.texts("attribution")
    for name in wanted:
        if name not in ATTRIBUTIONS or wanted.count(name) > 1:
            node.problem(
                f"'attribution' lists {name!r}; each of {', '.join(ATTRIBUTIONS)} once, or none",
                key="attribution",
            )
    return wanted


def _deadlines(node: Node | None) -> Deadlines:
    defaults = Deadlines()
    if node is None or not node.only_keys(set(Deadlines.__slots__)):
        return defaults
    return Deadlines(
        **{name: node.number(name, default=getattr(defaults, name)) for name in Deadlines.__slots__}
    )


def _budgets(node: Node | None) -> dict[str, float]:
    if node is None or not isinstance(node.value, dict):
        if node is not None:
            node.problem("'budgets' must be a mapping of name to milliseconds")
        return {}
    node.only_keys(set(BUDGETS))
    return {str(name): node.number(str(name), default=0) for name in node.value if name in BUDGETS}
