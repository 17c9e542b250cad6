"""With pytest-xdist: the controller owns cluster and record, workers have a rig each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conformance.campaign import Campaign
from conformance.cluster.images import Image
from conformance.errors import ConformanceError
from conformance.state import OWNER, campaign_of, case_id, owner_of, say_to, start_stage, wants_scenarios

__all__ = ["open_worker"]


def open_worker(config: Any, campaign: Campaign) -> None:
    shared = config.workerinput
    campaign.locks = Path(shared["conformance_directory"])
    try:
        if named := shared.get("conformance_image"):
            campaign.image = Image(name=named, scripts=shared["conformance_image_scripts"])
        kube = campaign.connect(Path(shared["conformance_kubeconfig"]))
        campaign.open_rig(kube, say_to(config))
    except ConformanceError as error:
        config.workeroutput["conformance_setup_error"] = str(error)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    config = node.config
    if not wants_scenarios(config) or config.option.collectonly:
        return
    owner = owner_of(config)
    if owner.kube is None:
        start_stage(config)
        owner.directory.mkdir(parents=True, exist_ok=True)
    if owner.cluster is None:
        return
    node.workerinput["conformance_run"] = owner.campaign.run
    node.workerinput["conformance_kubeconfig"] = str(owner.cluster.kubeconfig)
    node.workerinput["conformance_directory"] = str(owner.directory)
    if image := owner.campaign.image:
        node.workerinput["conformance_image"] = image.name
        node.workerinput["conformance_image_scripts"] = image.scripts


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    if OWNER in node.config.stash:
        known = campaign_of(node.config).cases
        cases = [case for test in ids if (case := case_id(test)) in known]
        node.config.stash[OWNER].plan(cases)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    cause = getattr(node, "workeroutput", {}).get("conformance_setup_error")
    if cause and not error:
        say_to(node.config)(f"worker {node.gateway.id} could not set its stage: {cause}")
