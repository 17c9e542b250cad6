"""A shrunk set as a scenario file: what the documents promise of every connection, ready to be kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from conformance.agreement import JUDGED
from conformance.foresight import MESH, connect, resolve
from conformance.fuzz.cases import TABLE, TARGET, PolicySet, Row
from conformance.fuzz.values import HTTP_KEYS
from conformance.oracle import Decision, Verdict, decide
from conformance.topology import SERVICES, WORKLOADS, Ref

__all__ = ["GROUP", "features_of", "requirements_of", "scenario_text", "write_scenario"]

GROUP = "generated"
FIELDS = {
    "ports": "PORT-02",
    "notPorts": "PORT-03",
    "principals": "SRC-01",
    "namespaces": "SRC-05",
    "serviceAccounts": "SRC-07",
    "trustDomains": "SRC-08",
    "notPrincipals": "SRC-09",
    "notNamespaces": "SRC-09",
    "notServiceAccounts": "SRC-09",
    "notTrustDomains": "SRC-09",
    "ipBlocks": "IP-01",
    "notIpBlocks": "IP-02",
    "remoteIpBlocks": "IP-03",
    "notRemoteIpBlocks": "IP-03",
}
KEYS = {
    "source.principal": "SRC-10",
    "source.namespace": "SRC-10",
    "source.serviceAccount": "SRC-10",
    "source.trustDomain": "SRC-10",
    "source.ip": "IP-01",
    "remote.ip": "IP-03",
    "destination.ip": "IP-04",
    "destination.port": "PORT-05",
    "connection.sni": "WHEN-01",
}
IDENTITY = ("rincipals", "amespaces", "erviceAccounts", "rustDomains")


class _Dumper(yaml.SafeDumper):
    """Strings that another reader of YAML would take for something else are quoted by PyYAML's own rules;
    no anchors, because each document is read on its own."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def requirements_of(drawn: PolicySet) -> list[str]:
    """What the documents make use of; the rule of precedence that decides is always part of it."""
    found: dict[str, None] = {"ORDER-01": None, "ORDER-03": None}
    for document in drawn.documents:
        spec = document.get("spec") or {}
        if document["kind"] == "PeerAuthentication":
            found["PLAIN-04"] = None
        if document["metadata"]["namespace"] == "${root}":
            found["SCOPE-02"] = None
        if "selector" in spec:
            found["SCOPE-01"] = None
        if "annotations" in document["metadata"]:
            found["DRY-04"] = None
        if spec.get("action") == "AUDIT":
            found["ORDER-09"] = None
        for name in _names(spec):
            if name in FIELDS:
                found[FIELDS[name]] = None
            elif name in KEYS:
                found[KEYS[name]] = None
            elif _is_http(name):
                found["HTTP-02" if spec.get("action") == "DENY" else "HTTP-05"] = None
    return list(found)


def features_of(drawn: PolicySet) -> list[str]:
    """What a mesh must have for this scenario. The table itself has clients with identities."""
    found = {"mtls": None}
    for document in drawn.documents:
        if document["metadata"]["namespace"] == "${root}":
            found["mesh-wide"] = None
        if document["kind"] == "PeerAuthentication":
            found["peer-authentication"] = None
        if "annotations" in document["metadata"]:
            found["dry-run"] = None
        if (document.get("spec") or {}).get("action") == "AUDIT":
            found["audit"] = None
        if "alias.example" in str(document) or ".example" in str(document.get("spec")):
            found["trust-domain-alias"] = None
    return list(found)


def _names(spec: Any) -> Iterator[str]:
    """Fields of sources and operations, and keys of conditions."""
    for rule in spec.get("rules") or []:
        for part, entry in (("from", "source"), ("to", "operation")):
            for item in rule.get(part) or []:
                yield from item[entry]
        yield from (item["key"] for item in rule.get("when") or [])


def _is_http(name: str) -> bool:
    plain = name[3:].lower() if name.startswith("not") else name.lower()
    return name in HTTP_KEYS or plain in ("methods", "paths", "hosts", "requestprincipals")


def foreseen(drawn: PolicySet, row: Row) -> Decision:
    """The oracle's decision with names and addresses that stand for themselves."""
    service = SERVICES[row.service] if row.via == "service" else None
    connection = connect(
        row.source, WORKLOADS[TARGET], row.workload_port, service=service, service_port=row.port
    )
    documents = [resolve(dict(item)) for item in drawn.documents if item["kind"] in JUDGED]
    return decide(documents, connection, MESH)


def scenario_text(drawn: PolicySet, *, title: str, seed: int, number: int) -> str:
    """The file's text."""
    case: dict[str, Any] = {
        "kind": "Scenario",
        "title": title,
        "requirements": requirements_of(drawn),
        "level": "extended",
        "features": features_of(drawn),
    }
    expect, outcomes = _expectations(drawn)
    if len(outcomes) == 1:
        case["one_sided"] = "as generated: these policies decide every connection of the table alike"
    case["steps"] = [{"apply": "all", "expect": expect}]
    documents = [case, *map(_plain, drawn.documents)]
    head = f"# Generated with seed {seed}, set {number}, then shrunk. The oracle expects this.\n"
    return head + yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
    )


def _expectations(drawn: PolicySet) -> tuple[list[dict[str, Any]], set[str]]:
    """Rows of one client, target and decision together, ports in order."""
    rows: dict[str, dict[str, Any]] = {}
    outcomes: set[str] = set()
    for row in TABLE:
        decision = foreseen(drawn, row)
        outcome = "succeeded" if decision.verdict is Verdict.ALLOWED else "rejected"
        outcomes.add(outcome)
        target = Ref(name=row.service, namespace="foo")
        line: dict[str, Any] = {"from": str(row.source), "to": str(target), "outcome": outcome}
        if row.via != "service":
            line["via"] = row.via
        if (by := _by(decision)) is not None:
            line["by"] = by
        rows.setdefault(str(line), {**line, "ports": []})["ports"].append(row.port)
    return list(rows.values()), outcomes


def _by(decision: Decision) -> dict[str, Any] | str | None:
    if decision.verdict is not Verdict.DENIED:
        return None
    if not decision.matching:
        return "none"
    rule = decision.matching[0]
    namespace = {} if rule.namespace != MESH.root_namespace else {"namespace": "${root}"}
    return {"policy": rule.name, **namespace, "rule": rule.rule}


def _plain(value: Any) -> Any:
    """Mappings and lists that the YAML writer knows."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def write_scenario(drawn: PolicySet, root: Path, *, seed: int, number: int, why: Sequence[str] = ()) -> Path:
    """`root`/generated/<name>.yaml; `root` is laid out as conformance/scenarios is."""
    folder = root / GROUP
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"seed-{seed}-set-{number}.yaml"
    title = f"Generated set {number} of seed {seed} decides every connection as the documents say"
    comments = "".join(f"# {line}\n" for reason in why for line in reason.splitlines())
    file.write_text(comments + scenario_text(drawn, title=title, seed=seed, number=number), encoding="utf-8")
    return file
