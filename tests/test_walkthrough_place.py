"""Where the walkthrough is typed on a cluster that is not ours, and where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance.campaign import Campaign
from conformance.campaign_options import Options
from conformance.cluster.images import Image
from conformance.walkthrough_place import (
    NEEDS,
    choose_kubeconfig,
    choose_namespace,
    label_command,
    place_manifests,
    why_left_out,
)

LENT = {"foo": "a-foo", "bar": "b-bar", "legacy": "c-legacy"}


def campaign(**options: Any) -> Campaign:
    return Campaign(Options(**{"cluster": "existing", **options}), run="r1")


def answers(code: int) -> Callable[[str], tuple[str, int]]:
    return lambda _: ("", code)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, ""),
        ({"cluster": "embedded", "namespaces": {}}, ""),
        ({"namespaces": LENT}, "--namespaces says which there are"),
        ({"profile": "asm", "mesh_kubeconfig": Path("m")}, "policies are written at another"),
        ({"profile": "istio-ambient"}, "this mesh goes by istio.io/dataplane-mode=ambient"),
        ({"profile": "istio-sidecar"}, ""),
    ],
)
def test_where_it_cannot_be_typed(options: Mapping[str, Any], why: str) -> None:
    said = why_left_out(campaign(**options), answers(0), bundled=False)
    assert (why in said) if why else said == ""
    assert bool(said) is bool(why)


def test_permissions_that_are_missing_are_named_with_their_role() -> None:
    said = why_left_out(campaign(), answers(1), bundled=False)
    assert said == f"these credentials may not {', '.join(NEEDS)}: manifests/rbac/walkthrough.yaml"
    assert "watch authorizationpolicies" in why_left_out(campaign(), answers(1), bundled=True)


def test_its_namespace_is_of_the_run_and_labelled() -> None:
    name = choose_namespace(campaign(), "abc")
    assert name == "authz-conf-r1-walkthrough"
    command = label_command(campaign(), name)
    assert command.startswith(f"kubectl label namespace {name} ")
    assert "app.kubernetes.io/managed-by=authz-conformance authz-conformance/run=r1" in command
    assert choose_namespace(campaign(cluster="embedded"), "abc") == "walkthrough-abc"


def test_a_context_is_chosen_without_a_copy_of_credentials(tmp_path: Path) -> None:
    assert choose_kubeconfig(Path("/k"), None, tmp_path) == "/k"
    first, _, second = choose_kubeconfig(Path("/k"), "other", tmp_path).partition(":")
    assert second == "/k"
    assert yaml.safe_load(Path(first).read_text()) == {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "other",
    }


def test_manifests_name_the_image_that_was_given(tmp_path: Path) -> None:
    place_manifests(Image(name="python:3.13.1", scripts=True), tmp_path)
    text = (tmp_path / "manifests" / "workloads" / "tcp-echo.yaml").read_text()
    kinds = [body["kind"] for body in yaml.safe_load_all(text)]
    assert "python:3.13.1" in text
    assert "authz-conformance:dev" not in text
    assert kinds[0] == "ConfigMap"
