"""A run of the suite against a mutant: the manifests with one part replaced, and what the run said."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from conformance.profile import PROFILES
from tests.mutants.table import Part

PROJECT = Path(__file__).parent.parent.parent
RUN = "tests.mutants.run"
RUN_SECONDS = 600
# Seconds. A red run waits for what never comes, case by case: not for as long as one that must not be red.
DEADLINES = {"converge": 3, "testimony": 3, "attribution": 2, "recovery": 3, "ready": 40}
CRD = "crds/authorizationpolicies.yaml"
VERSIONS = ("v1", "v1beta1")
PRESERVE = "+x-kubernetes-preserve-unknown-fields"
BREACH, INCONCLUSIVE = 1, 6
UNFINISHED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run said: its exit code, what it printed, the cases of its record by id."""

    code: int
    output: str
    cases: dict[str, dict[str, Any]]

    def with_status(self, status: str) -> dict[str, dict[str, Any]]:
        return {name: case for name, case in self.cases.items() if case["status"] == status}

    def named(self, status: str) -> set[str]:
        """The requirements of the cases that ended so."""
        return {name for case in self.with_status(status).values() for name in case["requirements"]}


def run_suite(
    manifests: Path, reports: Path, scenarios: str, *more: str, command: Sequence[str] = ("conformance",)
) -> Outcome:
    """Runs the scenarios on a cluster of its own. A run without a record has no cases. `command`: the module
    that is the suite, and what comes before the suite's own arguments; `more`: further options."""
    impatient = reports.parent / "impatient.yaml"
    impatient.write_text(yaml.safe_dump(_impatient()))
    words = [
        *(sys.executable, "-m", *command, "run", "--cluster=embedded"),
        *("--manifests", str(manifests), "--report-dir", str(reports), "-k", scenarios),
        *(() if "--profile" in more else ("--profile", str(impatient))),
        *more,
    ]
    try:
        done = subprocess.run(
            words, cwd=PROJECT, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Outcome(code=UNFINISHED, output=f"the run did not end within {RUN_SECONDS} s", cases={})
    lines = [
        json.loads(line)
        for record in reports.glob("[0-9]*/record.jsonl")
        for line in record.read_text().splitlines()
    ]
    return Outcome(
        code=done.returncode,
        output=done.stdout + done.stderr,
        cases={line["id"]: line for line in lines if line["line"] == "case"},
    )


def _impatient() -> dict[str, Any]:
    """The bundled profile with short deadlines."""
    profile: dict[str, Any] = yaml.safe_load((PROFILES / "bundled.yaml").read_text())
    return profile | {"deadlines": profile["deadlines"] | DEADLINES}


def suite_with(mutant: str, part: Part) -> tuple[str, ...]:
    """The module that is the suite where the mutant sits in what the suite itself starts."""
    file, _, option = part.value
    return ("conformance",) if file else (RUN, mutant, option)


def manifests_with(
    folder: Path, mutant: str, part: Part = Part.ENFORCER, without: Sequence[str] = ()
) -> Path:
    """A copy of the manifests in which the mutant stands for its part."""
    file, old, option = part.value
    copy = copied_manifests(folder)
    if file:
        words = ["python3", "-m", RUN, mutant, *filter(None, [option])]
        replace_once(copy / file, old, old.partition("[")[0] + json.dumps(words))
    if without:
        crd = yaml.safe_load((copy / CRD).read_text())
        loosen(crd["spec"], without)
        (copy / CRD).write_text(yaml.safe_dump(crd))
    return copy


def copied_manifests(folder: Path) -> Path:
    return Path(shutil.copytree(PROJECT / "manifests", folder / "manifests"))


def replace_once(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    if text.count(old) != 1:
        raise ValueError(f"{old!r} stands {text.count(old)} times in {file.name}")
    file.write_text(text.replace(old, new))


def loosen(spec: dict[str, Any], changes: Sequence[str]) -> None:
    """Changes a CRD as `Broken.without` says."""
    # Each version a copy: in the file they are one.
    for version in (versions := json.loads(json.dumps(spec["versions"]))):
        schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        _loosen(schema, [change for change in changes if change not in VERSIONS])
        if version["name"] in changes:
            del schema["properties"]["rules"]["items"]["properties"]["to"]
    spec["versions"] = versions


def _loosen(schema: dict[str, Any], changes: Sequence[str]) -> None:
    for change in changes:
        if change == PRESERVE and schema.get("type") != "object":
            continue
        if change.startswith("+"):
            schema[change[1:]] = True
        else:
            schema.pop(change, None)
    inner = [schema.get("items"), schema.get("additionalProperties"), *schema.get("properties", {}).values()]
    for each in filter(None, inner):
        _loosen(each, changes)
