"""Types docs/walkthrough.md into a real shell with the real kubectl and compares what is printed."""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from conformance.campaign import Campaign
from conformance.shell import Shell
from conformance.state import campaign_of, is_worker, owner_of
from conformance.walkthrough import WALKTHROUGH, Step, in_namespace, read_walkthrough
from conformance.walkthrough_place import (
    choose_kubeconfig,
    choose_namespace,
    label_command,
    place_manifests,
    why_left_out,
)

BLOCK_DEADLINE = 180.0  # seconds; longer than any --timeout in the document
REPEAT_DEADLINE = 60.0  # seconds for what has to be repeated until it holds
CANNOT_START = 4


class Cluster(Protocol):
    @property
    def kubeconfig(self) -> Path: ...


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Campaign:
    return campaign_of(request.config)


@pytest.fixture
def place_for_files() -> Iterator[Path]:
    # Not pytest's tmp_path: that one does not survive a session that ends in a fixture.
    with tempfile.TemporaryDirectory(prefix="authz-walkthrough-") as directory:
        yield Path(directory)


@pytest.fixture
def shell(cluster: Cluster, campaign: Campaign, place_for_files: Path) -> Iterator[Shell]:
    # The tools of the environment that runs this test come first: kubectl above all.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    kubeconfig = choose_kubeconfig(cluster.kubeconfig, campaign.options.context, place_for_files)
    environment = {**os.environ, "PATH": path, "KUBECONFIG": kubeconfig}
    directory = WALKTHROUGH.parent.parent
    if campaign.guest and campaign.image:
        directory = place_manifests(campaign.image, place_for_files)
    with Shell(environment=environment, directory=directory) as shell:
        yield shell


@pytest.fixture
def bundled(shell: Shell, campaign: Campaign, request: pytest.FixtureRequest) -> bool:
    """Whether it is the bundled mesh; skips where the document cannot be typed. Nobody asked for anything
    else: then it ends the session as bad input does."""
    found = has_bundled_mesh(shell)
    why = why_left_out(campaign, lambda text: shell.type(text, deadline=BLOCK_DEADLINE), bundled=found)
    if why and not is_worker(request.config) and owner_of(request.config).recorder is None:
        pytest.exit(why, returncode=CANNOT_START)
    if why:
        pytest.skip(why)
    return found


@pytest.fixture
def namespace(shell: Shell, campaign: Campaign) -> Iterator[str]:
    name = choose_namespace(campaign, uuid.uuid4().hex[:8])
    yield name
    shell.type(f"kubectl delete namespace {name} --ignore-not-found --wait=false", deadline=BLOCK_DEADLINE)


def test_walkthrough(
    shell: Shell,
    campaign: Campaign,
    bundled: bool,
    namespace: str,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    steps = in_namespace(read_walkthrough(WALKTHROUGH.read_text(encoding="utf-8")), namespace)
    for number, step in enumerate(steps):
        if step.bundled_only and not bundled:
            left_out = f"{place(step)} needs the bundled mesh and was left out"
            record_property("left out", left_out)
            with capsys.disabled():
                print(f"\n{left_out}")
            continue
        # Another mesh offers nothing to wait for: there, as its own documents say, one repeats.
        repeat = step.repeat or (not bundled and step.expected is not None)
        if complaint := type_step(shell, step, repeat=repeat):
            pytest.fail(complaint, pytrace=False)
        if number == 0 and campaign.guest:
            shell.type(label_command(campaign, namespace), deadline=BLOCK_DEADLINE)


def has_bundled_mesh(shell: Shell) -> bool:
    printed, code = shell.type(
        "kubectl get deployment enforcer -n authz-system --ignore-not-found -o name",
        deadline=BLOCK_DEADLINE,
    )
    assert code == 0, printed
    return printed == "deployment.apps/enforcer\n"


def type_step(shell: Shell, step: Step, *, repeat: bool) -> str | None:
    """Types one step. Returns what is wrong with what it printed, or None."""
    deadline = time.monotonic() + (REPEAT_DEADLINE if repeat else 0.0)
    while complaint := judge(step, *shell.type(step.command, deadline=BLOCK_DEADLINE)):
        if time.monotonic() >= deadline:
            return complaint
    return None


def judge(step: Step, printed: str, code: int) -> str | None:
    """None when the step printed, to the letter, what the document says, or where it says nothing, did not
    fail; else a complaint with the difference."""
    if step.expected is None:
        wrong = f"exit code {code}:\n{printed}" if code else ""
    elif printed == step.expected:
        wrong = ""
    else:
        rows = difflib.unified_diff(
            step.expected.splitlines(), printed.splitlines(), "expected", "printed", lineterm=""
        )
        wrong = "\n".join(rows)
    return f"{place(step)}\n{step.command}{wrong}" if wrong else None


def place(step: Step) -> str:
    return f"docs/{WALKTHROUGH.name}:{step.line} ({step.heading})"
