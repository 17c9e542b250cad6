"""`python -m tests.fuzz.mutants [FAMILY ...]`: for each family of the grammar a mesh that is wrong about
it; generated policies must find that, and shrink what they find to one rule at most.

With several enforcers it takes minutes; the tests run two of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.mutants.suite import PROJECT, manifests_with

FAMILIES = {
    "ports": "not_ports_as_ports",
    "principals": "principal_wildcards_literal",
    "negation": "negated_identity_forgotten",
    "namespaces": "namespace_wildcards_literal",
    "ip": "negated_addresses_forgotten",
    "when": "identity_keys_ignored",
    "dry-run": "dry_run_enforced",
    "http-only": "http_rule_matches_all",
    "scope": "selector_ignored",
    "peer-authentication": "strict_is_permissive",
}
SETS = {"peer-authentication": 80, "principals": 60, "namespaces": 80}
SEED = 1
RUN_SECONDS = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunt:
    """What a run of generated policies said. `shrunk`: the documents of each set that was shrunk."""

    code: int
    output: str
    case: dict[str, Any]
    shrunk: list[list[dict[str, Any]]]
    files: list[Path]

    @property
    def generated(self) -> dict[str, Any]:
        return dict(self.case.get("generated") or {})


def hunt(manifests: Path, reports: Path, *, sets: int, seed: int = SEED) -> Hunt:
    """Generated policies against the enforcer of these manifests, on a cluster of its own."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "conformance", "run", "--cluster=embedded", "-k", "generated/policies"),
            *("--fuzz", str(sets), "--fuzz-seed", str(seed)),
            *("--manifests", str(manifests), "--report-dir", str(reports)),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    lines = [
        json.loads(line)
        for record in reports.glob("[0-9]*/record.jsonl")
        for line in record.read_text().splitlines()
    ]
    case: dict[str, Any] = next((line for line in lines if line["line"] == "case"), {})
    found = (case.get("generated") or {}).get("disagreements") or []
    return Hunt(
        code=done.returncode,
        output=done.stdout + done.stderr,
        case=case,
        shrunk=[one["shrunk"] for one in found if one["again"]],
        files=sorted(reports.glob("[0-9]*/scenarios/generated/*.yaml")),
    )


def rules(documents: list[dict[str, Any]]) -> int:
    """Of all policies of a set together."""
    return sum(len((item.get("spec") or {}).get("rules") or []) for item in documents)


def main(families: list[str]) -> int:
    missed = 0
    for family in families or list(FAMILIES):
        mutant = FAMILIES[family]
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            found = hunt(manifests_with(place, mutant), place / "reports", sets=SETS.get(family, 40))
            smallest = min(found.shrunk, key=lambda one: (rules(one), len(yaml.safe_dump(one))), default=None)
        good = smallest is not None and rules(smallest) <= 1
        missed += not good
        count = len(found.generated.get("disagreements") or [])
        said = json.dumps(smallest) if smallest else found.case.get("reason", found.output[-1500:])
        print(
            f"{family:20} {mutant:30} exit {found.code} {count:3} found, {'ok' if good else 'MISSED'}: {said}"
        )
        sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
