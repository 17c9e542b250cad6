"""Cluster and record of a run: started, written to, finished and stopped by the process that began it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from conformance.campaign import Campaign
from conformance.campaign_folder import check_reports, display_path, point_latest, writing
from conformance.campaign_header import header_of
from conformance.campaign_options import suite_version
from conformance.cluster.existing import ExistingCluster
from conformance.cluster.install import check_manifests
from conformance.cluster.kind import KindCluster, start_kind
from conformance.cluster.kube import Kube
from conformance.cluster.ownership import remove_run
from conformance.deviations import stale
from conformance.errors import ConformanceError, InputError
from conformance.lines import case_line
from conformance.preflight import Check, Ground, preflight
from conformance.record import Line, Recorder, exit_code
from conformance.report.allure import write_allure
from conformance.report.console import summary_text
from conformance.report.figures import over_budget
from conformance.report.outputs import write_reports
from conformance.report.signature import write_fingerprint
from conformance.stage import Choice, Cluster, choose_here, clear_stage, phase, prepare, start
from conformance.topology import NAMESPACES

__all__ = ["Owner"]


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
            header = header_of(
                self.campaign,
                planned,
                kind=self.choose().kind,
                description=self.cluster.description if self.cluster else "",
                kube=self.kube,
                preflight=self.preflight,
            )
            with writing(self.directory):
                self.recorder = Recorder(self.directory, header)
                point_latest(self.directory)

    def add(self, line: Line) -> None:
        """Raises SetupError where the record cannot be written any more."""
        if self.recorder is not None:
            with writing(self.directory):
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
        with writing(self.directory):
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
        if kube is not None and kube.wrote and self.campaign.guest and not self.campaign.options.keep:
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
