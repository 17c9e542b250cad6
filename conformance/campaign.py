"""One run as the plugin drives it: its plan and its cases. No pytest in here.

The process that started the run has a `campaign_owner` with cluster and record, too; a worker of pytest-xdist
has only a rig.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from conformance.absence import is_checked, judge_absence
from conformance.act import Act, Body, run_function
from conformance.agreement import disagreements
from conformance.attributing import settle_attribution
from conformance.authorizer import FEATURE, with_authorizer
from conformance.campaign_options import Options, suite_version
from conformance.catalogue import Requirement, load_catalogue
from conformance.cluster.images import named_image
from conformance.cluster.kube import Kube
from conformance.cluster.two_apis import TwoApis
from conformance.deviations import check_deviations, deviate, load_known
from conformance.errors import InputError
from conformance.functions import load_functions
from conformance.fuzz.run import GENERATED, Asked, generate
from conformance.guest import bounds_of, check_guest, is_guest, names_of, profile_of, why_left_out
from conformance.lines import case_line
from conformance.locks import mesh_lock
from conformance.preflight import hindrance
from conformance.profile import ENFORCER_STATUS, Profile, find_profile, load_profile
from conformance.reading import Problems
from conformance.record import Line
from conformance.rig import Rig
from conformance.run import run_case
from conformance.scenario import Level, Scenario
from conformance.scenario_reader import load_scenarios
from conformance.stage import clear_stage, environment, open_rig
from conformance.telemetry import log_connections
from conformance.verdict import Status

__all__ = ["Campaign"]


class Campaign:
    """What every process of a run has. Raises InputError where the options or files cannot be used."""

    def __init__(self, options: Options, *, run: str, worker: str = "") -> None:
        self.options = options
        self.run = run
        self.worker = worker
        check_guest(options)
        self.profile: Profile = profile_of(options, load_profile(find_profile(options.profile)))
        self.catalogue: Mapping[str, Requirement] = load_catalogue()
        scenarios, functions = load_scenarios(), load_functions()
        # What is written down wrong would be blamed on the mesh.
        Problems(found=disagreements(scenarios)).raise_any()
        self.known = self.profile.known_deviations
        if options.known is not None:
            self.known += load_known(options.known, self.profile.name)
        check_deviations(self.known, scenarios + functions)
        self.every = {item.id: item for item in scenarios + functions}  # of all levels
        self.scenarios = [item for item in scenarios if self._in_level(item)]
        self.functions = {
            item.id: item
            for item in functions
            if self._in_level(item) and (options.fuzz or item.id != GENERATED)
        }
        self.cases = {item.id: item for item in self.scenarios} | self.functions
        self.names = names_of(options, self.profile, run=run, worker=worker)
        self.bounds = bounds_of(options, self.profile, run=run)
        self.guest = is_guest(options)
        # What stands for the image that the manifests name; of a kind cluster it is known when that is up.
        self.image = named_image(options.image, options.image_registry, version=suite_version())
        self.rig: Rig | None = None
        self._kube: Kube | None = None
        self.hindrance = ""  # what others have there that nothing can be told beside
        self.locks: Path | None = None

    def _in_level(self, scenario: Scenario) -> bool:
        return self.options.level == Level.EXTENDED.value or scenario.level is Level.CORE

    def connect(self, kubeconfig: Path) -> Kube:
        """To the run's cluster. Raises InputError."""
        options = self.options
        if options.mesh_kubeconfig is None:
            kube = Kube(kubeconfig, options.context)
            kube.image = self.image
            return kube
        if self.profile.barrier == ENFORCER_STATUS:
            raise InputError(f"the mesh of the profile {self.profile.name} has no API of its own")
        mesh = Kube(options.mesh_kubeconfig, options.mesh_context)
        both = TwoApis(kubeconfig, options.context, mesh=mesh)
        both.image = self.image
        return both

    def open_rig(self, kube: Kube, say: Callable[[str], None]) -> None:
        self._kube = kube
        kube.bounds = self.bounds
        if self.guest:
            there = environment(kube, self.profile, self.names)
            self.hindrance = hindrance(there, root=self.names.root)
        self.rig = open_rig(kube, self.profile, self.names, say, manifests=self.options.manifests)
        switched_on = self.options.telemetry and log_connections(kube, self.names, say)
        settle_attribution(self.rig, say, patience=self.profile.deadlines.ready if switched_on else 0.0)

    def close_rig(self) -> None:
        """Also where the rig could not be opened, so that its halves are not left on somebody's cluster."""
        rig, self.rig = self.rig, None
        kube, self._kube = self._kube, None
        if kube is None or (rig is None and not self.guest):
            return
        if not self.options.keep:
            clear_stage(kube, self.names, rig)
        elif rig is not None:
            rig.close()

    def conduct(self, scenario: Scenario, body: Body | None = None) -> Line:
        """Runs one case, or says why not; its line of the record. `body`: of a case that is a function."""
        why_not = self.profile.why_not(scenario.features)
        left_out = why_left_out(self.options, self.profile, self.names, scenario)
        if left_out and (not why_not or why_not[0] == Status.SKIPPED.value):
            why_not = (Status.SKIPPED.value, left_out)
        status, reason = why_not or ("", "")
        unsupported = status == Status.UNSUPPORTED.value and not body and not left_out
        tried = unsupported and is_checked(scenario, self.profile)
        if why_not and not tried:
            return case_line(scenario, worker=self.worker, result={"status": status, "reason": reason})
        if self.rig is None:
            raise RuntimeError("no rig is open")
        if lacking := self.rig.why_not(scenario.features):
            # Not a gap of the profile's: nobody can ask it here, and nothing is left open by that.
            result = {"status": Status.UNSUPPORTED.value, "reason": lacking}
            return case_line(scenario, worker=self.worker, result=result)
        if self.hindrance and (body or any(step.expect for step in scenario.steps)):
            reason = f"not told from what others have on the cluster: {self.hindrance}"
            result = {"status": Status.INCONCLUSIVE.value, "reason": reason}
            return case_line(scenario, worker=self.worker, result=result)
        if scenario.id == GENERATED:
            body = self._generate
        with mesh_lock(self.locks, exclusive=scenario.mesh_wide or scenario.id == GENERATED):
            result = self._play(scenario, self.rig, body)
        line = case_line(scenario, worker=self.worker, result=result)
        if tried:
            return judge_absence(line, reason)
        return deviate(line, self.known, datetime.now(UTC).date())

    def _play(self, scenario: Scenario, rig: Rig, body: Body | None) -> Line:
        def play() -> Line:
            return (run_function(scenario, rig, body) if body else run_case(scenario, rig)).line

        if FEATURE in scenario.features:
            return with_authorizer(rig, play, manifests=self.options.manifests)
        return play()

    def _generate(self, act: Act) -> None:
        options = self.options
        asked = Asked(
            count=options.fuzz,
            seed=secrets.randbelow(10**6) if options.fuzz_seed is None else options.fuzz_seed,
            directory=options.report_dir.absolute() / self.run,
            manifests=options.manifests,
            keep=options.keep,
        )
        generate(act, asked)

    def sentences(self) -> dict[str, str]:
        return {name: requirement.sentence() for name, requirement in self.catalogue.items()}
