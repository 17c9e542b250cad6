"""The pytest plugin: options, parametrization, progress, exit codes. What a case does is in `run`.

Nothing here happens to a session that collects no scenario, so the suite's own tests are not disturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from conformance import interrupts
from conformance.act import Act, Body
from conformance.campaign import Campaign, Owner, new_run_id
from conformance.cluster.existing import ExistingCluster
from conformance.cluster.install import MANIFESTS
from conformance.cluster.kube import Kube
from conformance.errors import ConformanceError, InputError
from conformance.functions import MARKER, function_id, load_functions
from conformance.lines import case_line
from conformance.options import add_options, read_options
from conformance.record import Line
from conformance.report.console import case_text
from conformance.scenario import Scenario
from conformance.stage import Cluster
from conformance.tracebacks import FreshTraceback
from conformance.verdict import Status

__all__ = ["Breach", "Conduct", "Inconclusive"]

Conduct = Callable[[Scenario], None]
CAMPAIGN = pytest.StashKey[Campaign]()
OWNER = pytest.StashKey[Owner]()
LINE = pytest.StashKey[Line]()
_OTHER_FAILED = pytest.StashKey[bool]()
CANNOT_START = 4
TEST_FILE = Path(__file__).parent / "test_conformance.py"
HERE = Path(__file__).parent


class Breach(AssertionError):
    """The mesh did what it must not. Reported as a failure."""


class Inconclusive(Exception):
    """Nothing can be said about the mesh. Reported as an error."""


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def _campaign(config: pytest.Config) -> Campaign:
    """The run's campaign, made when first needed. Bad input is a UsageError: one line, exit 4."""
    if CAMPAIGN not in config.stash:
        shared = getattr(config, "workerinput", {})
        worker = str(shared.get("workerid", "")).replace("gw", "w")
        try:
            run = shared.get("conformance_run") or new_run_id()
            config.stash[CAMPAIGN] = Campaign(read_options(config), run=run, worker=worker)
        except InputError as error:
            raise pytest.UsageError(str(error)) from None
    return config.stash[CAMPAIGN]


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _say(config: pytest.Config) -> Callable[[str], None]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")

    def say(text: str) -> None:
        if reporter is not None and not _is_worker(config):
            reporter.ensure_newline()
            reporter.write_line(text)

    return say


def _owner(config: pytest.Config) -> Owner:
    if OWNER not in config.stash:
        config.stash[OWNER] = Owner(_campaign(config), _say(config))
    return config.stash[OWNER]


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Bad input is told before anything is collected or started: one line, exit 4."""
    config = session.config
    if not _wants_scenarios(config) or _is_worker(config):
        return
    _campaign(config)
    if config.option.collectonly:
        return
    interrupts.install()
    try:
        _owner(config).check()
    except InputError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.path == TEST_FILE and "scenario" in metafunc.fixturenames:
        scenarios = _campaign(metafunc.config).scenarios
        metafunc.parametrize("scenario", scenarios, ids=[scenario.id for scenario in scenarios])


def _scenario(item: pytest.Item) -> Scenario | None:
    """The case that a test is: a scenario file, or a function with the marker `requirements`."""
    if item.path == TEST_FILE:
        callspec = getattr(item, "callspec", None)
        found = callspec.params.get("scenario") if callspec else None
        return found if isinstance(found, Scenario) else None
    return _campaign(item.config).functions.get(_function_id(item)) if _is_function(item) else None


def _is_function(item: pytest.Item) -> bool:
    return item.path.parent == HERE and item.get_closest_marker(MARKER) is not None


def _function_id(item: pytest.Item) -> str:
    return function_id(item.path, item.name)


def pytest_itemcollected(item: pytest.Item) -> None:
    """A function can be selected by its case's id, as a scenario can."""
    if _is_function(item):
        item.extra_keyword_matches.add(_function_id(item))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Functions that the asked level does not have."""
    beyond = [item for item in items if _is_function(item) and _scenario(item) is None]
    if beyond:
        config.hook.pytest_deselected(items=beyond)
        items[:] = [item for item in items if item not in beyond]


def _wants_cluster(item: pytest.Item) -> bool:
    return item.path.parent == TEST_FILE.parent and "cluster" in getattr(item, "fixturenames", ())


def _start(config: pytest.Config) -> Kube:
    """Cluster and enforcer. What fails ends the session: a UsageError is one message and exit code 4."""
    interrupts.install()
    try:
        return _owner(config).start()
    except ConformanceError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Sets the stage before the first test, where there is a scenario among the tests."""
    config = session.config
    planned = [scenario.id for item in session.items if (scenario := _scenario(item))]
    if config.option.collectonly or session.testsfailed:
        return
    if not session.items and config.option.keyword and _wants_scenarios(config):
        _say(config)(f"-k '{config.option.keyword}' matches no scenario; see `python -m conformance list`")
    if not planned:
        if any(map(_wants_cluster, session.items)) and not _is_worker(config):
            _start(config)
        return
    campaign = _campaign(config)
    if _is_worker(config):
        _open_worker(config, campaign)
        return
    kube = _start(config)
    owner = _owner(config)
    try:
        owner.plan(planned)
        campaign.open_rig(kube, _say(config))
    except ConformanceError as error:
        raise pytest.UsageError(str(error)) from None


def _open_worker(config: Any, campaign: Campaign) -> None:
    shared = config.workerinput
    campaign.locks = Path(shared["conformance_directory"])
    try:
        kube = Kube(Path(shared["conformance_kubeconfig"]), campaign.options.context)
        campaign.open_rig(kube, _say(config))
    except ConformanceError as error:
        config.workeroutput["conformance_setup_error"] = str(error)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The run's cluster with its mesh, for tests that are no scenarios."""
    config = request.config
    if _is_worker(config):
        shared = getattr(config, "workerinput", {})
        return ExistingCluster(kubeconfig=Path(shared["conformance_kubeconfig"]), description="")
    owner = _owner(config)
    if owner.cluster is None:
        _start(config)
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
    case = _scenario(pyfuncitem) if _is_function(pyfuncitem) else None
    if case is None:
        return None
    _conduct(pyfuncitem, case, pyfuncitem.obj)
    return True


def _conduct(item: pytest.Item, case: Scenario, body: Body | None = None) -> None:
    config = item.config
    campaign = _campaign(config)
    if campaign.rig is None:
        cause = getattr(config, "workeroutput", {}).get("conformance_setup_error", "no stage was set")
        raise Inconclusive(f"the workloads did not come up: {cause}")
    line = campaign.conduct(case, body)
    item.stash[LINE] = line
    told = case_text(line, campaign.sentences(), _rerun(config, case))
    match Status(line["status"]):
        case Status.FAILED:
            raise Breach(told)
        case Status.INCONCLUSIVE:
            raise Inconclusive(told)
        case Status.SKIPPED | Status.UNSUPPORTED | Status.KNOWN_DEVIATION:
            pytest.skip(f"{line['status']}: {line['reason']}")


def _rerun(config: pytest.Config, scenario: Scenario) -> str:
    given = [
        f"{name} {config.getoption(name)}"
        for name in ("--cluster", "--kubeconfig", "--context", "--profile", "--manifests")
        if config.getoption(name) not in (None, "auto", "bundled", str(MANIFESTS))
    ]
    return " ".join(["python -m conformance run", *given, f"-k '{scenario.id}'"])


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
    doubt = not isinstance(error, Breach) and _scenario(item) is not None
    report.conformance_inconclusive = doubt  # type: ignore[attr-defined]  # reports take extra attributes
    if doubt and line is None and (scenario := _scenario(item)) is not None:
        # A defect of ours, its traceback shown as it is: no verdict on the mesh.
        reason = str(error) if isinstance(error, Inconclusive) else f"the suite itself failed: {error!r}"
        result = {"status": Status.INCONCLUSIVE.value, "reason": reason}
        broken = case_line(scenario, worker=_campaign(item.config).worker, result=result)
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
    elif report.failed and _case_id(report.nodeid) not in _campaign(_active).cases:
        # A case without a line is missing from the record, and so inconclusive: its worker was lost.
        _active.stash[_OTHER_FAILED] = True


# The hook above is not given its config.
_active: pytest.Config | None = None


def pytest_configure(config: pytest.Config) -> None:
    global _active
    _active = config
    config.pluginmanager.register(FreshTraceback())
    config.addinivalue_line("markers", f"{MARKER}(*ids, features, level): this function is a case")


# With pytest-xdist: the controller owns cluster and record, workers have a rig each.


def _wants_scenarios(config: pytest.Config) -> bool:
    """Whether the arguments reach a case; the controller collects nothing itself."""
    paths = [Path(config.invocation_params.dir, argument.split("::")[0]) for argument in config.args]
    files = {TEST_FILE, *(HERE / item.file.name for item in load_functions())}
    return any(file.is_relative_to(path.resolve()) for path in paths for file in files)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    config = node.config
    if not _wants_scenarios(config) or config.option.collectonly:
        return
    owner = _owner(config)
    if owner.kube is None:
        _start(config)
        owner.directory.mkdir(parents=True, exist_ok=True)
    if owner.cluster is None:
        return
    node.workerinput["conformance_run"] = owner.campaign.run
    node.workerinput["conformance_kubeconfig"] = str(owner.cluster.kubeconfig)
    node.workerinput["conformance_directory"] = str(owner.directory)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    if OWNER in node.config.stash:
        known = _campaign(node.config).cases
        cases = [case for test in ids if (case := _case_id(test)) in known]
        node.config.stash[OWNER].plan(cases)


def _case_id(test: str) -> str:
    """The case that a test's id names, `file.py::name` or `file.py::name[case]`."""
    file, _, name = test.partition("::")
    if Path(file).name == TEST_FILE.name:
        return name.partition("[")[2].removesuffix("]")
    return function_id(Path(file), name)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    cause = getattr(node, "workeroutput", {}).get("conformance_setup_error")
    if cause and not error:
        _say(node.config)(f"worker {node.gateway.id} could not set its stage: {cause}")


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
            _say(config)(f"the stage was not cleared: {error}")
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
            _say(config)(f"ERROR: {error}")
            session.exitstatus = CANNOT_START
    _stop(config, owner, told=interrupted)


def _stop(config: pytest.Config, owner: Owner, *, told: bool = False) -> None:
    """Stops the cluster. `told`: says so where there was none, too."""
    if owner.stop():
        _say(config)("cluster stopped, nothing is left running")
    elif told and owner.choose().kind == "embedded":
        _say(config)("no cluster was up, nothing is left running")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if OWNER in config.stash and config.stash[OWNER].summary:
        terminalreporter.section("conformance")
        terminalreporter.write_line(config.stash[OWNER].summary)


def pytest_unconfigure(config: pytest.Config) -> None:
    """For a session that ended before it was a session."""
    if OWNER in config.stash:
        _stop(config, config.stash[OWNER])
