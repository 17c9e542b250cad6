"""What one pytest session keeps: the campaign, its owner, and what both are asked for by every hook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance import interrupts
from conformance.campaign import Campaign
from conformance.campaign_options import new_run_id
from conformance.campaign_owner import Owner
from conformance.cluster.kube import Kube
from conformance.errors import ConformanceError, InputError
from conformance.functions import function_id, load_functions
from conformance.options import read_options

__all__ = [
    "CAMPAIGN",
    "HERE",
    "OWNER",
    "TEST_FILE",
    "campaign_of",
    "case_id",
    "is_worker",
    "owner_of",
    "say_to",
    "start_stage",
    "wants_scenarios",
]

CAMPAIGN = pytest.StashKey[Campaign]()
OWNER = pytest.StashKey[Owner]()
TEST_FILE = Path(__file__).parent / "test_conformance.py"
HERE = Path(__file__).parent


def campaign_of(config: pytest.Config) -> Campaign:
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


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def say_to(config: pytest.Config) -> Callable[[str], None]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")

    def say(text: str) -> None:
        if reporter is not None and not is_worker(config):
            reporter.ensure_newline()
            reporter.write_line(text)

    return say


def owner_of(config: pytest.Config) -> Owner:
    if OWNER not in config.stash:
        config.stash[OWNER] = Owner(campaign_of(config), say_to(config))
    return config.stash[OWNER]


def start_stage(config: pytest.Config) -> Kube:
    """Cluster and enforcer. What fails ends the session: a UsageError is one message and exit code 4."""
    interrupts.install()
    try:
        return owner_of(config).start()
    except ConformanceError as error:
        raise pytest.UsageError(str(error)) from None


def wants_scenarios(config: pytest.Config) -> bool:
    """Whether the arguments reach a case; the controller collects nothing itself."""
    paths = [Path(config.invocation_params.dir, argument.split("::")[0]) for argument in config.args]
    files = {TEST_FILE, *(HERE / item.file.name for item in load_functions())}
    return any(file.is_relative_to(path.resolve()) for path in paths for file in files)


def case_id(test: str) -> str:
    """The case that a test's id names, `file.py::name` or `file.py::name[case]`."""
    file, _, name = test.partition("::")
    if Path(file).name == TEST_FILE.name:
        return name.partition("[")[2].removesuffix("]")
    return function_id(Path(file), name)
