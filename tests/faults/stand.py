"""The stand: an embedded cluster with the real enforcer, a rig whose way to the API is a proxy, and moments.

Faults come from outside: signals, hosts files, packets, the proxy, other writers. The product has no switch.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from conformance import stage
from conformance.barrier import EnforcerStatus
from conformance.cluster.embedded.cluster import start_embedded
from conformance.cluster.kube import Kube
from conformance.profile import Deadlines, Profile, find_profile, load_profile
from conformance.rig import Rig
from conformance.run import run_case
from conformance.steps import Hand
from conformance.topology import Names, Ref
from tests.faults import processes
from tests.faults.api_proxy import ApiProxy
from tests.faults.scenes import Scene, load_scene

# No case may take longer than all its deadlines together; far above, as this machine may be busy.
HANG_SECONDS = 120.0
API_SECONDS = 3.0
# For what no fault runs into: a busy machine must not matter.
PATIENCE = 20.0


class When(Enum):
    """The moment of a case at which something breaks. The value is what the tally calls it."""

    BEGINNING = "before the baseline"
    CHANGE = "before the change"
    LANDED = "between landing and sweep"
    SWEEP = "in mid-sweep"
    RECOVERY = "before the recovery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a case said: its status, or `hang` or `traceback`, and the reasons of its verdict and controls."""

    status: str
    reason: str
    line: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Stand:
    """`kube` goes straight to the API, `rig` by the proxy. `node` is a process inside the cluster."""

    node: int
    kube: Kube
    proxy: ApiProxy
    rig: Rig
    profile: Profile
    uncaught: list[str] = field(default_factory=list)  # exceptions of threads

    def process(self, ref: str, program: str) -> int:
        return processes.find_one(self.node, self.rig.pods[Ref.parse(ref)].name, program)

    def enforcer(self) -> int:
        pods, _ = self.kube.list("v1", "Pod", namespace=self.profile.root_namespace, selector="app=enforcer")
        return processes.find_one(self.node, pods[0]["metadata"]["name"], "enforcer controller")


@contextmanager
def open_stand() -> Iterator[Stand]:
    with ExitStack() as stack:
        cluster = stack.enter_context(start_embedded())
        profile = load_profile(find_profile("bundled"))
        straight = Kube(cluster.kubeconfig)
        stack.callback(straight.close)
        stage.prepare(straight, profile, _say)
        content = yaml.safe_load(cluster.kubeconfig.read_text())
        settings = content["clusters"][0]["cluster"]
        ca = base64.b64decode(settings.pop("certificate-authority-data"))
        proxy = ApiProxy(settings["server"], ca)
        stack.callback(proxy.close)
        settings["server"] = proxy.url
        kube = stack.enter_context(_kube(json.dumps(content)))
        names = Names(run="faults", worker="", root=profile.root_namespace)
        rig = stage.open_rig(kube, profile, names, _say)
        stack.callback(rig.close)
        stand = Stand(node=cluster._node.pid, kube=straight, proxy=proxy, rig=rig, profile=profile)

        def uncaught(given: threading.ExceptHookArgs) -> None:
            stand.uncaught.append("".join(traceback.format_exception(given.exc_value)))

        stack.enter_context(mock.patch.object(threading, "excepthook", uncaught))
        yield stand


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@contextmanager
def _kube(content: str) -> Iterator[Kube]:
    with tempfile.NamedTemporaryFile("w", suffix=".kubeconfig") as file:
        file.write(content)
        file.flush()
        kube = Kube(Path(file.name), timeout=API_SECONDS)
        yield kube
        kube.close()


Inject = Callable[[Stand], Any]  # a context manager: what breaks, and how it is undone


def play(
    stand: Stand, scene: Scene, *, when: When | None = None, inject: Inject | None = None, **deadlines: float
) -> Told:
    """One case; what `inject` does happens once, at `when`, and is undone after the case."""
    found = {name: getattr(stand.profile.deadlines, name) for name in Deadlines.__slots__}
    found |= {"baseline": PATIENCE, "converge": PATIENCE, "recovery": PATIENCE, **deadlines}
    stand.rig.profile = replace(stand.profile, deadlines=Deadlines(**found))
    scenario = load_scene(scene)
    with ExitStack() as broken:
        fired: list[When] = []

        def reached(moment: When) -> None:
            if inject and moment is when and not fired:
                fired.append(moment)
                broken.enter_context(inject(stand))

        reached(When.BEGINNING)
        with moments(reached), ThreadPoolExecutor(max_workers=1) as pool:
            future = pool.submit(run_case, scenario, stand.rig)
            try:
                line = future.result(HANG_SECONDS).line
                told = Told(status=line["status"], reason=line["reason"], line=line)
            except TimeoutError:
                told = Told(status="hang", reason=f"no end within {HANG_SECONDS} s")
            except Exception:  # noqa: BLE001 - whatever comes out of a case is a traceback for its user
                told = Told(status="traceback", reason=traceback.format_exc())
        assert not inject or fired, f"{when} was never reached: {told.reason}"
    if stand.uncaught:
        told = Told(status="traceback", reason=stand.uncaught.pop())
    return told


@contextmanager
def moments(reached: Callable[[When], None]) -> Iterator[None]:
    """Calls `reached` at each moment of a case."""
    make, undo, wait, finish = Hand.make, Hand.undo, EnforcerStatus.wait, Rig.session_in_use
    landed: list[bool] = []

    def on_make(self: Hand, *given: Any) -> Any:
        reached(When.CHANGE)
        return make(self, *given)

    def on_undo(self: Hand) -> Any:
        reached(When.RECOVERY)
        return undo(self)

    def on_wait(self: EnforcerStatus, *given: Any, **more: Any) -> Any:
        waited = wait(self, *given, **more)
        landed.append(True)
        reached(When.LANDED)
        return waited

    def on_sweep(self: Rig, ref: Ref) -> Any:
        if landed:
            reached(When.SWEEP)
        return finish(self, ref)

    with (
        mock.patch.object(Hand, "make", on_make),
        mock.patch.object(Hand, "undo", on_undo),
        mock.patch.object(EnforcerStatus, "wait", on_wait),
        mock.patch.object(Rig, "session_in_use", on_sweep),
    ):
        yield
