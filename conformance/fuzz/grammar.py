"""Hypothesis strategies for sets of policies over the whole grammar of layer 4, and the drawing of N of them.

Only what the API takes is drawn, so that a refusal is a finding. Everything is chosen from tuples, never
from sets, because the same seed must draw the same documents in every process. For the same reason a run
draws in a process of its own (`python -m conformance.fuzz.grammar SEED COUNT FEATURE,FEATURE...`): Hypothesis
also tries constants that it finds in the project's modules, those that happen to be loaded.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from conformance.errors import InputError
from conformance.fuzz.cases import Document, PolicySet
from conformance.fuzz.values import HTTP_KEYS, HTTP_OPERATION, HTTP_SOURCE, values_of
from conformance.oracle import Invalid, validate

__all__ = ["Drawing", "acceptable", "draw_sets", "policy_sets"]

# Where it would keep what it has seen; nothing is kept, and nothing is left in the current directory.
set_hypothesis_home_dir("/dev/null")

Draw = Callable[[st.SearchStrategy[Any]], Any]
Features = frozenset[str]

IDENTITY_FIELDS = {
    "principals": "source.principal",
    "namespaces": "source.namespace",
    "serviceAccounts": "source.serviceAccount",
    "trustDomains": "source.trustDomain",
}
ADDRESS_FIELDS = {"ipBlocks": "source.ip", "remoteIpBlocks": "remote.ip"}
OPERATION_FIELDS = {"ports": "destination.port"}
# Beside these no service account may stand.
AGAINST_ACCOUNTS = ("principals", "notPrincipals", "namespaces", "notNamespaces")
SELECTORS: tuple[dict[str, Any], ...] = (
    {"matchLabels": {"app": "tcp-echo"}},
    {"matchLabels": {"app": "tcp-echo", "version": "v1"}},
    {"matchLabels": {"app": "sleep"}},
    {"matchLabels": {"app": "tcp-echo", "version": "v2"}},
    {"matchLabels": {"version": "v1"}},
    {},
)
TARGETS = [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "some"}]
TRUE, FALSE = ("true", "1", "t", "T", "TRUE", "True"), ("false", "0", "f", "F", "FALSE", "False")
MODES = ("STRICT", "STRICT", "PERMISSIVE", "DISABLE", "UNSET")


def negated(field: str) -> str:
    """notPorts of ports."""
    return f"not{field[0].upper()}{field[1:]}"


# A strategy that is made anew for each draw costs more than the draw.
pick = cache(st.sampled_from)


@cache
def one_in(count: int) -> st.SearchStrategy[bool]:
    """True once in so many draws."""
    return pick((False,) * (count - 1) + (True,))


@cache
def some(values: tuple[Any, ...], most: int = 3) -> st.SearchStrategy[list[Any]]:
    """One or more different values."""
    return st.lists(pick(values), min_size=1, max_size=most, unique=True)


@cache
@st.composite
def sources(draw: Draw, features: Features) -> dict[str, list[str]]:
    """The fields of one source."""
    fields = {**ADDRESS_FIELDS, **(IDENTITY_FIELDS if "mtls" in features else {})}
    found: dict[str, list[str]] = {}
    for field in draw(some(tuple(fields), 2)):
        values = values_of(fields[field], features)
        sign = draw(pick(("positive", "positive", "negative", "both")))
        if sign != "negative":
            found[field] = draw(some(values))
        if sign != "positive":
            found[negated(field)] = draw(some(values))
    if any(name in found for name in AGAINST_ACCOUNTS):
        found.pop("serviceAccounts", None)
        found.pop("notServiceAccounts", None)
    if draw(one_in(12)):
        found |= draw(http_fields(HTTP_SOURCE))
    return found


@cache
@st.composite
def operations(draw: Draw, features: Features) -> dict[str, list[str]]:
    """The fields of one operation."""
    values = values_of("destination.port", features)
    found: dict[str, list[str]] = {}
    what = draw(pick(("ports", "ports", "ports", "notPorts", "both", "http")))
    if what in ("ports", "both"):
        found["ports"] = draw(some(values))
    if what in ("notPorts", "both"):
        found["notPorts"] = draw(some(values))
    if what == "http" or draw(one_in(10)):
        found |= draw(http_fields(HTTP_OPERATION))
    return found


@cache
@st.composite
def http_fields(draw: Draw, fields: tuple[tuple[str, tuple[str, ...]], ...]) -> dict[str, list[str]]:
    field, values = draw(pick(fields))
    name = negated(field) if draw(pick((False, True))) else field
    return {name: draw(some(values))}


@cache
@st.composite
def conditions(draw: Draw, features: Features) -> dict[str, Any]:
    """One entry of `when`."""
    if draw(one_in(10)):
        key = draw(pick(tuple(HTTP_KEYS)))
        values = HTTP_KEYS[key]
    else:
        identity = tuple(IDENTITY_FIELDS.values()) if "mtls" in features else ()
        sni = ("connection.sni",) if "mtls" in features else ()
        addresses = ("source.ip", "remote.ip", "destination.ip")
        key = draw(pick((*identity, *addresses, "destination.port", *sni)))
        values = values_of(key, features)
    sign = draw(pick(("values", "values", "notValues", "both")))
    found: dict[str, Any] = {"key": key}
    if sign != "notValues":
        found["values"] = draw(some(values))
    if sign != "values":
        found["notValues"] = draw(some(values))
    return found


@cache
@st.composite
def rules(draw: Draw, features: Features) -> dict[str, Any]:
    """One rule; a part that is absent is sometimes written as an empty list."""
    found: dict[str, Any] = {}
    for part, entry, strategy, most in (
        ("from", "source", sources(features), 2),
        ("to", "operation", operations(features), 2),
        ("when", "", conditions(features), 2),
    ):
        count = draw(pick((0, 0, 1, 1, most) if part != "when" else (0, 0, 0, 1, most)))
        if count:
            drawn = [draw(strategy) for _ in range(count)]
            found[part] = [{entry: item} for item in drawn] if entry else drawn
        elif draw(one_in(20)):
            found[part] = []
    return found


@cache
@st.composite
def policies(draw: Draw, features: Features, name: str, namespaces: tuple[str, ...]) -> Document:
    """An AuthorizationPolicy."""
    actions = ("ALLOW", "ALLOW", "ALLOW", "", "DENY", "DENY", "DENY")
    action = draw(pick((*actions, "AUDIT") if "audit" in features else actions))
    spec: dict[str, Any] = {"action": action} if action else {}
    least = 1 if action == "DENY" else 0
    count = max(draw(pick((1, 1, 1, 2, 3, 0))), least)
    if count:
        spec["rules"] = [draw(rules(features)) for _ in range(count)]
    if draw(one_in(3)):
        spec["selector"] = dict(SELECTORS[draw(pick(tuple(range(len(SELECTORS)))))])
    elif draw(one_in(30)):
        spec["targetRefs"] = TARGETS
    metadata: dict[str, Any] = {"name": name, "namespace": draw(pick(namespaces))}
    if "dry-run" in features and action != "AUDIT" and draw(one_in(3)):
        metadata["annotations"] = {"istio.io/dry-run": draw(pick((*TRUE, *TRUE, *FALSE)))}
    version = draw(pick(("v1", "v1", "v1beta1")))
    document = {"apiVersion": f"security.istio.io/{version}", "kind": "AuthorizationPolicy"}
    blank = not spec and draw(pick((False, True)))
    return {**document, "metadata": metadata, "spec": None if blank else spec}


@cache
@st.composite
def peer_authentications(draw: Draw, name: str, namespace: str, *, selected: bool) -> Document:
    """A PeerAuthentication of a namespace, or of the workload with its ports."""
    spec: dict[str, Any] = {}
    if selected:
        spec["selector"] = {"matchLabels": {"app": "tcp-echo"}}
    if not selected or draw(pick((False, True))):
        spec["mtls"] = {"mode": draw(pick(MODES))}
    if selected and (not spec.get("mtls") or draw(pick((False, True)))):
        ports = draw(some((9000, 9001, 9002), 2))
        spec["portLevelMtls"] = {port: {"mode": draw(pick(MODES))} for port in map(str, ports)}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


@cache
@st.composite
def policy_sets(draw: Draw, features: Features) -> PolicySet:
    """What stands in a namespace, now and then with something in the root namespace or in another one.

    Of PeerAuthentication one at most for each level: of two the older would count, and two that are written
    within one second are of one age."""
    mesh_wide = "mesh-wide" in features and draw(one_in(40))
    found: list[Document] = []
    for number in range(draw(pick((1, 1, 1, 2, 2, 3)))):
        places: tuple[str, ...] = ("${foo}",) * 11 + ("${bar}",)
        if mesh_wide and number == 0:
            places = ("${root}",)
        found.append(draw(policies(features, f"p{number}", places)))
    if {"mtls", "peer-authentication"} <= features and draw(one_in(10)):
        levels = draw(pick(("namespace", "workload", "both", "mesh" if mesh_wide else "workload")))
        if levels in ("namespace", "both"):
            found.append(draw(peer_authentications("t0", "${foo}", selected=False)))
        if levels in ("workload", "both"):
            found.append(draw(peer_authentications("t1", "${foo}", selected=True)))
        if levels == "mesh":
            found.append(draw(peer_authentications("t2", "${root}", selected=False)))
    return PolicySet(documents=tuple(found))


def acceptable(drawn: PolicySet) -> bool:
    """Whether the API takes every document, as the oracle reads the documents."""
    try:
        for document in drawn.documents:
            validate(with_addresses(document))
    except Invalid:
        return False
    return True


def with_addresses(value: Any) -> Any:
    """A value whose address placeholders are addresses: a placeholder is no CIDR."""
    if isinstance(value, str):
        return (
            f"192.0.2.9{value[value.index('}') + 1 :]}"
            if value.startswith(("${ip:", "${clusterip:"))
            else value
        )
    if isinstance(value, dict):
        return {key: with_addresses(item) for key, item in value.items()}
    return [with_addresses(item) for item in value] if isinstance(value, list) else value


# Of each draw the first example is the simplest there is, the second the first by chance.
EXAMPLES = 2


def draw_sets(number: int, count: int, features: Features) -> tuple[PolicySet, ...]:
    """`count` sets; the same for the same seed and features, and the first ones whatever the count.

    Each is drawn on its own: within one draw Hypothesis makes new examples of parts of earlier ones, which
    suits the search for one failure and leaves much of the grammar out. Raises InputError for none."""
    return tuple(_draws(number, count, features))


def _draws(number: int, count: int, features: Features) -> Iterator[PolicySet]:
    if count < 1:
        raise InputError("at least one set is drawn")
    for index in range(count):
        yield _draw(f"{number}/{index}", features)


def _draw(seed_text: str, features: Features) -> PolicySet:
    drawn: list[PolicySet] = []

    @seed(int.from_bytes(sha256(seed_text.encode()).digest()[:8]))
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(policy_sets(features).filter(acceptable))
    def collect(example: PolicySet) -> None:
        drawn.append(example)

    collect()
    return drawn[-1]


class Drawing:
    """A draw that is under way in a process of its own."""

    def __init__(self, number: int, count: int, features: Features) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(number), str(count), ",".join(sorted(features))],
            cwd=Path(__file__).parent.parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: SimpleQueue[str] = SimpleQueue()
        # It draws on while nobody asks for sets, so its output must be taken.
        self._reader = Thread(target=self._read, name="drawing", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put("")

    def sets(self) -> Iterator[PolicySet]:
        """Each as soon as it is drawn, in order. Raises InputError where they cannot be drawn."""
        while line := self._lines.get():
            yield PolicySet(documents=tuple(json.loads(line)))
        said = self._process.stderr.read() if self._process.stderr else ""
        self._end()
        if self._process.returncode:
            reason = (said.strip().splitlines() or ["no reason was given"])[-1]
            raise InputError(f"no policies could be drawn: {reason}")

    def stop(self) -> None:
        """Ends it where nobody waits for the sets any more."""
        self._process.kill()
        self._end()

    def _end(self) -> None:
        self._reader.join()
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()


def main(arguments: list[str]) -> int:
    number, count, features = arguments
    for one in _draws(int(number), int(count), frozenset(features.split(","))):
        print(json.dumps(one.documents), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
