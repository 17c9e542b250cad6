"""The pytest plugin: options, parametrization, progress, exit codes. What a case does is in `run`.

Nothing here happens to a session that collects no scenario, so the suite's own tests are not disturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from shlex import quote
from typing import Any

import pytest

from conformance import interrupts
from conformance.act import Act, Body
from conformance.campaign_owner import Owner
from conformance.cluster.existing import ExistingCluster
from conformance.cluster.install import MANIFESTS
from conformance.collecting import is_function, scenario_of, wants_cluster
from conformance.errors import ConformanceError, InputError
from conformance.functions import MARKER
from conformance.lines import case_line
from conformance.options import add_options
from conformance.record import Line
from conformance.report.console import case_text
from conformance.report.result import same_sets
from conformance.scenario import Scenario
from conformance.stage import Cluster
from conformance.state import (
    CAMPAIGN,
    OWNER,
    campaign_of,
    case_id,
    is_worker,
    owner_of,
    say_to,
    start_stage,
    wants_scenarios,
)
from conformance.tracebacks import FreshTraceback
from conformance.verdict import Status
from conformance.workers import open_worker

__all__ = ["Breach", "Conduct", "Inconclusive"]

Conduct = Callable[[Scenario], None]
LINE = pytest.StashKey[Line]()
_OTHER_FAILED = pytest.StashKey[bool]()
CANNOT_START = 4


class Breach(AssertionError):
    """The mesh did what it must not. Reported as a failure."""


class Inconclusive(Exception):
    """Nothing can be said about the mesh. Reported as an error."""


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Bad input is told before anything is collected or started: one line, exit 4."""
    config = session.config
    if not wants_scenarios(config):
        return
    # What --alluredir gets is made of the record, so that it says the same as every other report.
    if listener := config.pluginmanager.get_plugin("allure_listener"):
        config.pluginmanager.unregister(listener)
    if is_worker(config):
        return
    campaign_of(config)
    if config.option.collectonly:
        return
    interrupts.install()
    try:
        owner_of(config).check()
    except InputError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Sets the stage before the first test, where there is a scenario among the tests."""
    config = session.config
    planned = [scenario.id for item in session.items if (scenario := scenario_of(item))]
    if config.option.collectonly or session.testsfailed:
        return
    distributed = bool(getattr(config.option, "tx", None))  # the workers collect, not this process
    if not session.items and not distributed and config.option.keyword and wants_scenarios(config):
        say_to(config)(f"-k '{config.option.keyword}' matches no scenario; see `python -m conformance list`")
    if not planned:
        if any(map(wants_cluster, session.items)) and not is_worker(config):
            start_stage(config)
        return
    campaign = campaign_of(config)
    if is_worker(config):
        open_worker(config, campaign)
        return
    kube = start_stage(config)
    owner = owner_of(config)
    try:
        owner.plan(planned)
        campaign.open_rig(kube, say_to(config))
    except ConformanceError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The run's cluster with its mesh, for tests that are no scenarios."""
    config = request.config
    if is_worker(config):
        shared = getattr(config, "workerinput", {})
        return ExistingCluster(kubeconfig=Path(shared["conformance_kubeconfig"]), description="")
    owner = owner_of(config)
    if owner.cluster is None:
        start_stage(config)
    if owner.cluster is None:
        raise pytest.UsageError("there is no cluster")
    return owner.cluster


@pytest.fixture
def conduct(request: pytest.FixtureRequest) -> Conduct:
    """Runs a scenario: returns where it passed, raises Breach or Inconclusive, or skips."""

    def run(scenario: Scenario) -> None:
        _conduct(request.node, scenario)

    return run


@pytest.fixture
def act() -> Act | None:
    """What a case that is a function is given; made when it runs (see pytest_pyfunc_call)."""
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a function as the case it is: lock, clean rig, its line of the record."""
    case = scenario_of(pyfuncitem) if is_function(pyfuncitem) else None
    if case is None:
        return None
    _conduct(pyfuncitem, case, pyfuncitem.obj)
    return True


def _conduct(item: pytest.Item, case: Scenario, body: Body | None = None) -> None:
    config = item.config
    campaign = campaign_of(config)
    if campaign.rig is None:
        cause = getattr(config, "workeroutput", {}).get("conformance_setup_error", "no stage was set")
        raise Inconclusive(f"the workloads did not come up: {cause}")
    line = campaign.conduct(case, body)
    item.stash[LINE] = line
    told = case_text(line, campaign.sentences(), _rerun(config, line))
    match Status(line["status"]):
        case Status.FAILED:
            raise Breach(told)
        case Status.INCONCLUSIVE:
            raise Inconclusive(told)
        case Status.SKIPPED | Status.UNSUPPORTED | Status.KNOWN_DEVIATION:
            pytest.skip(f"{line['status']}: {line['reason']}")


def _rerun(config: pytest.Config, case: Line) -> str:
    given = [
        f"{name} {quote(str(config.getoption(name)))}"
        for name in (
            "--cluster",
            "--kubeconfig",
            "--context",
            "--mesh-kubeconfig",
            "--mesh-context",
            "--profile",
            "--known",
            "--manifests",
            "--image",
            "--image-registry",
        )
        if config.getoption(name) not in (None, "auto", "bundled", str(MANIFESTS))
    ]
    given += [name for name in ("--allow-mesh-wide", "--telemetry") if config.getoption(name)]
    given += [f"--namespaces {quote(lent)}"] if (lent := config.getoption("--namespaces")) else []
    return " ".join(["python -m conformance run", *given, *same_sets(case), f"-k '{case['id']}'"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    line = item.stash.get(LINE, None)
    if report.when == "call" and line is not None:
        # A plain attribute: pytest-xdist carries it to the process that writes the record.
        report.conformance_case = line  # type: ignore[attr-defined]  # reports take extra attributes
    if call.excinfo is None or not report.failed:
        return report
    error = call.excinfo.value
    if isinstance(error, Breach | Inconclusive):
        report.longrepr = str(error)
    doubt = not isinstance(error, Breach) and scenario_of(item) is not None
    report.conformance_inconclusive = doubt  # type: ignore[attr-defined]  # reports take extra attributes
    if doubt and line is None and (scenario := scenario_of(item)) is not None:
        # A defect of ours, its traceback shown as it is: no verdict on the mesh.
        reason = str(error) if isinstance(error, Inconclusive) else f"the suite itself failed: {error!r}"
        result = {"status": Status.INCONCLUSIVE.value, "reason": reason}
        broken = case_line(scenario, worker=campaign_of(item.config).worker, result=result)
        report.conformance_case = broken  # type: ignore[attr-defined]  # as above
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: Any) -> tuple[str, str, str] | None:
    """Inconclusive is an error, not a failure."""
    if getattr(report, "conformance_inconclusive", False):
        return "error", "E", "INCONCLUSIVE"
    return None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if _active is None or OWNER not in _active.stash:
        return
    line = getattr(report, "conformance_case", None)
    if line is not None:
        try:
            _active.stash[OWNER].add(line)
        except ConformanceError as error:
            raise pytest.UsageError(str(error)) from None
    elif report.failed and case_id(report.nodeid) not in campaign_of(_active).cases:
        # A case without a line is missing from the record, and so inconclusive: its worker was lost.
        _active.stash[_OTHER_FAILED] = True


# The hook above is not given its config.
_active: pytest.Config | None = None


def pytest_configure(config: pytest.Config) -> None:
    global _active
    _active = config
    config.pluginmanager.register(FreshTraceback())
    config.addinivalue_line("markers", f"{MARKER}(*ids, features, level): this function is a case")


# The end


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
    config = session.config
    interrupted = exitstatus == pytest.ExitCode.INTERRUPTED
    if OWNER in config.stash:
        interrupts.let_finish()
    if CAMPAIGN in config.stash:
        try:
            config.stash[CAMPAIGN].close_rig()
        except ConformanceError as error:
            say_to(config)(f"the stage was not cleared: {error}")
    if OWNER not in config.stash:
        return
    owner = config.stash[OWNER]
    started = owner.recorder is not None and exitstatus not in (CANNOT_START, pytest.ExitCode.INTERNAL_ERROR)
    if started:
        cause = "the run was interrupted" if interrupted else "the case did not run: its worker was lost"
        if config.option.maxfail:
            cause = "the case did not run: the session stopped before it"
        others = _OTHER_FAILED in config.stash
        try:
            session.exitstatus = owner.finish(interrupted=interrupted, cause=cause, others_failed=others)
        except ConformanceError as error:
            say_to(config)(f"ERROR: {error}")
            session.exitstatus = CANNOT_START
    _stop(config, owner, told=interrupted)


def _stop(config: pytest.Config, owner: Owner, *, told: bool = False) -> None:
    """Stops the cluster. `told`: says so where there was none, too."""
    if owner.stop():
        say_to(config)("cluster stopped, nothing is left running")
    elif told and owner.choose().kind == "embedded":
        say_to(config)("no cluster was up, nothing is left running")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if OWNER in config.stash and config.stash[OWNER].summary:
        terminalreporter.section("conformance")
        terminalreporter.write_line(config.stash[OWNER].summary)


def pytest_unconfigure(config: pytest.Config) -> None:
    """For a session that ended before it was a session."""
    if OWNER in config.stash:
        _stop(config, config.stash[OWNER])
