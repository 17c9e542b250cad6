"""One run as the plugin drives it: options, plan, cluster, rig, record. No pytest in here.

The process that started the run owns the cluster and the record; a worker of pytest-xdist has only a rig.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from conformance.absence import is_checked, judge_absence
from conformance.act import Act, Body, run_function
from conformance.attributing import settle_attribution
from conformance.authorizer import FEATURE, with_authorizer
from conformance.catalogue import Requirement, load_catalogue
from conformance.cluster.existing import ExistingCluster
from conformance.cluster.images import named_image
from conformance.cluster.install import MANIFESTS, check_manifests
from conformance.cluster.kind import KindCluster, start_kind
from conformance.cluster.kube import Kube
from conformance.cluster.ownership import remove_run
from conformance.cluster.two_apis import TwoApis
from conformance.deviations import check_deviations, deviate, load_known, stale
from conformance.errors import ConformanceError, InputError, SetupError
from conformance.functions import load_functions
from conformance.fuzz.run import GENERATED, Asked, generate
from conformance.guest import bounds_of, check_guest, is_guest, names_of, profile_of, why_left_out
from conformance.lines import case_line
from conformance.locks import mesh_lock
from conformance.preflight import Check, Ground, hindrance, preflight
from conformance.profile import ENFORCER_STATUS, UNAVAILABLE, Profile, find_profile, load_profile
from conformance.record import Line, Recorder, exit_code
from conformance.report.allure import write_allure
from conformance.report.console import summary_text
from conformance.report.figures import over_budget
from conformance.report.outputs import write_reports
from conformance.report.signature import write_fingerprint
from conformance.rig import Rig
from conformance.run import run_case
from conformance.scenario import Level, Scenario
from conformance.scenario_reader import load_scenarios
from conformance.stage import (
    Choice,
    Cluster,
    choose_here,
    clear_stage,
    environment,
    open_rig,
    phase,
    prepare,
    start,
)
from conformance.telemetry import log_connections
from conformance.topology import NAMESPACES
from conformance.verdict import Status

__all__ = ["Campaign", "Options", "Owner"]

REQUIREMENT_FIELDS = ("id", "level", "basis", "statement", "source", "quotation")  # in the header


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As given on the command line. Paths may be relative to the current directory."""

    cluster: str = "auto"
    kubeconfig: Path | None = None
    context: str | None = None
    mesh_kubeconfig: Path | None = None
    mesh_context: str | None = None
    allow_mesh_wide: bool = False
    namespaces: Mapping[str, str] = field(default_factory=dict)  # lent ones, real names by logical ones
    profile: str = "bundled"
    level: str = "extended"
    known: Path | None = None
    report_dir: Path = Path("reports")
    manifests: Path = MANIFESTS
    keep: bool = False
    image: str | None = None
    image_registry: str | None = None
    keep_cluster: bool = False
    reuse_cluster: bool = False
    telemetry: bool = False
    selection: str = ""
    allure_results: Path | None = None  # a second place for them, that of --alluredir
    fuzz: int = 0  # sets of policies to generate
    fuzz_seed: int | None = None


def new_run_id() -> str:
    """Short, because it becomes a part of namespace names, and sortable by time down to the second."""
    return f"{datetime.now(UTC):%m%d%H%M%S}{secrets.token_hex(1)}"


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


class Owner:
    """The cluster and the record of a run; in the process that started it only."""

    def __init__(self, campaign: Campaign, say: Callable[[str], None]) -> None:
        self.campaign = campaign
        self.say = say
        self.directory = campaign.options.report_dir.absolute() / campaign.run
        self.cluster: Cluster | None = None
        self.kube: Kube | None = None
        self.recorder: Recorder | None = None
        self.summary = ""
        self.preflight: list[Check] = []
        self._choice: Choice | None = None
        self._green = False
        self._begun = time.monotonic()

    def choose(self) -> Choice:
        """Which cluster it will be. Raises InputError; starts nothing."""
        options = self.campaign.options
        if self._choice is None:
            choice = choose_here(
                options.cluster,
                kubeconfig=options.kubeconfig,
                context=options.context,
                profile=self.campaign.profile,
                image=self.campaign.image is not None,
            )
            if choice.kind != "kind" and (options.keep_cluster or options.reuse_cluster):
                why = f"the cluster is {choice.kind} ({choice.why})"
                raise InputError(f"--keep-cluster and --reuse-cluster are for kind; {why}")
            self._choice = choice
        return self._choice

    def check(self) -> None:
        """What can be known to be wrong before anything is started. Raises InputError."""
        self.choose()
        check_reports(self.campaign.options.report_dir)
        check_manifests(self.campaign.profile, self.campaign.options.manifests)

    def start(self) -> Kube:
        """Cluster and enforcer. Raises InputError or SetupError."""
        options, profile = self.campaign.options, self.campaign.profile
        choice = self.choose()
        if choice.kind == "kind":
            self.cluster = self._start_kind(choice)
        else:
            self.cluster = start(choice, kubeconfig=options.kubeconfig, context=options.context, say=self.say)
        self.kube = self.campaign.connect(self.cluster.kubeconfig)
        if self.campaign.guest:
            self.kube.bounds = self.campaign.bounds
            self._preflight(self.kube)
        else:
            prepare(self.kube, profile, self.say, manifests=options.manifests)
        return self.kube

    def _preflight(self, kube: Kube) -> None:
        """Raises SetupError, one line per problem, and nothing of the run is left."""
        campaign = self.campaign
        names = campaign.names
        if not campaign.bounds.given:
            # Of its own: an access log that is written late has nothing of the canary among a case's lines.
            given = {name: f"authz-conf-{campaign.run}-canary-{name}" for name in NAMESPACES}
            names = replace(names, given=given)
        ground = Ground(
            kube=kube,
            profile=campaign.profile,
            names=names,
            lent=campaign.bounds.given,
            manifests=campaign.options.manifests,
        )
        with phase(self.say, "preflight"):
            self.preflight = preflight(ground)
        clear_stage(kube, names, None)

    def _start_kind(self, choice: Choice) -> KindCluster:
        options = self.campaign.options
        self.say(f"cluster: {choice.kind} ({choice.why})")
        cluster = start_kind(
            run=self.campaign.run,
            level=options.level,
            version=suite_version(),
            image=self.campaign.image,
            keep=options.keep_cluster,
            reuse=options.reuse_cluster,
            logs=self.directory / "kind-logs",
            say=self.say,
        )
        self.campaign.image = cluster.image
        return cluster

    def plan(self, planned: Sequence[str]) -> None:
        """Writes the header; `planned`: the ids of the cases that will run, in order. Raises SetupError."""
        if self.recorder is None:
            header = self._header(planned)
            with self._writing():
                self.recorder = Recorder(self.directory, header)
                point_latest(self.directory)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SetupError(
                f"no record can be written to {self.directory}: {error.strerror}; there is no result",
                hint="--report-dir DIR",
            ) from None

    def _header(self, planned: Sequence[str]) -> Line:
        campaign, kube = self.campaign, self.kube
        profile = campaign.profile
        everything = len(planned) == len(campaign.cases)
        cited = {name for case in planned for name in campaign.cases[case].requirements}
        served = dict(kube.request("GET", "/version").body) if kube else {}
        return {
            "run": campaign.run,
            "started": time.time(),
            "suite": {"name": "authz-conformance", "version": suite_version()},
            "python": platform.python_version(),
            "profile": {"name": profile.name, "title": profile.title, "features": list(profile.features)}
            | {"unsupported": dict(profile.unsupported), "budgets": dict(profile.budgets)},
            "cluster": {
                "kind": self.choose().kind,
                "description": self.cluster.description if self.cluster else "",
                "version": served.get("gitVersion", ""),
            },
            "implementation": {
                "name": profile.title,
                "version": suite_version() if profile.install_enforcer else "",
            },
            "level": campaign.options.level,
            "selection": "" if everything else campaign.options.selection or "selected cases",
            "options": {
                "cluster": campaign.options.cluster,
                "profile": campaign.options.profile,
                "keep": campaign.options.keep,
                "allow_mesh_wide": campaign.options.allow_mesh_wide,
                "namespaces": dict(campaign.options.namespaces),
                "known": display_path(campaign.options.known.absolute()) if campaign.options.known else "",
                "telemetry": campaign.options.telemetry,
                # Empty: the suite's own. With others, another enforcer was under test.
                "manifests": ""
                if campaign.options.manifests.resolve() == MANIFESTS.resolve()
                else display_path(campaign.options.manifests),
            },
            # In the order of preference; which one it became stands in each case.
            "attribution": list(profile.attribution) or [UNAVAILABLE],
            "timeouts": asdict(profile.deadlines),
            "rounds": profile.rounds,
            "environment": environment(kube, profile, campaign.names) if kube else [],
            "preflight": [asdict(check) for check in self.preflight],
            "requirements": [
                {name: getattr(item, name) for name in REQUIREMENT_FIELDS}
                for item in campaign.catalogue.values()
                if item.id in cited
            ],
            "planned": list(planned),
        }

    def add(self, line: Line) -> None:
        """Raises SetupError where the record cannot be written any more."""
        if self.recorder is not None:
            with self._writing():
                self.recorder.add(line)

    def finish(self, *, interrupted: bool, cause: str, others_failed: bool = False) -> int:
        """Footer, reports, exit code. `cause` explains cases that never came. `others_failed`: a test that is
        no scenario (the typed walkthrough) failed, which fails the run as a breach does.

        Raises SetupError where they cannot be written."""
        if self.recorder is None:
            return 2 if interrupted else 5
        lost = [
            case_line(
                self.campaign.cases[name], worker="", result={"status": "inconclusive", "reason": cause}
            )
            for name in self.recorder.missing()
        ]
        lines = self.recorder.lines() + lost
        removable = stale(lines[1:], self.campaign.known, self.campaign.every, datetime.now(UTC).date())
        over = over_budget(lines[1:], self.campaign.profile.budgets)
        code = exit_code(lines[1:], self.recorder.header["planned"], over=bool(over), stale=bool(removable))
        code = 2 if interrupted else 1 if others_failed else code
        footer = {
            "finished": time.time(),
            "duration_ms": round((time.monotonic() - self._begun) * 1000, 3),
            "interrupted": interrupted,
            "exit_code": code,
            "over_budget": over,
            "stale_deviations": removable,
            "report": display_path(self.directory),
        }
        with self._writing():
            self.recorder.finish(lost, footer)
            write_fingerprint(self.recorder.path)
            written = write_reports(self.directory)
            if folder := self.campaign.options.allure_results:
                write_allure(written, folder, self.campaign.sentences())
        self.summary = summary_text(written)
        self._green = code in (0, 7)
        return code

    def stop(self) -> bool:
        """Stops the cluster if it is ours to stop; whether there was one."""
        kube, self.kube = self.kube, None
        cluster, self.cluster = self.cluster, None
        if kube is not None and self.campaign.guest and not self.campaign.options.keep:
            # Workers remove their own; a worker that was lost has not.
            bounds = self.campaign.bounds
            lent = {*bounds.given, *((bounds.root,) if bounds.mesh_wide else ())}
            for problem in remove_run(kube, self.campaign.run, lent):
                self.say(f"not deleted: {problem}")
        if kube is not None:
            kube.close()
        if cluster is None:
            return False
        try:
            if isinstance(cluster, KindCluster):
                if not self._green:
                    cluster.save_logs(self.directory / "kind-logs")
                if cluster.keep:
                    self.say(f"kept: kind get kubeconfig --name {cluster.name} > {cluster.name}.yaml")
            cluster.stop()
        except (ConformanceError, OSError) as error:
            self.say(f"the cluster did not stop cleanly: {error}")
        return not isinstance(cluster, ExistingCluster) and not getattr(cluster, "keep", False)


def suite_version() -> str:
    try:
        return version("authz-conformance")
    except PackageNotFoundError:
        return "0.1.0"  # run from a checkout, not installed


def display_path(path: Path) -> str:
    """Relative to the current directory where it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def check_reports(directory: Path) -> None:
    """Raises InputError where no run can leave its record: told before anything is started."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the report directory {directory} cannot be made: {error.strerror}") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InputError(f"nothing can be written to the report directory {directory}")


def point_latest(directory: Path) -> None:
    """reports/latest -> this run."""
    link = directory.parent / "latest"
    fresh = directory.parent / f".latest-{os.getpid()}"
    fresh.symlink_to(directory.name)
    fresh.replace(link)
