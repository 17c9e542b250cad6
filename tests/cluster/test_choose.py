"""Which cluster is taken, and that nothing else is taken in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conformance.errors import InputError
from conformance.profile import find_profile, load_profile
from conformance.stage import Choice, choose, placement
from conformance.topology import Names


def chosen(asked: str, *, installed: str = "docker kind", answers: bool = True, **given: Any) -> Choice:
    def check() -> None:
        if not answers:
            raise InputError("no Docker daemon answers")

    options: dict[str, Any] = {"kubeconfig": None, "context": None, "image": False}
    options["profile"] = load_profile(find_profile("bundled"))
    return choose(
        asked, **(options | given), which=lambda name: name in installed.split() or None, check=check
    )


@pytest.mark.parametrize(
    ("installed", "kind", "why"),
    [
        ("docker kind", "kind", "docker and kind answer"),
        ("docker", "embedded", "kind not installed"),
        ("", "embedded", "docker and kind not installed"),
    ],
)
def test_auto_takes_kind_where_both_programs_answer(installed: str, kind: str, why: str) -> None:
    assert chosen("auto", installed=installed) == Choice(kind=kind, why=why)


@pytest.mark.parametrize("asked", ["auto", "kind"])
def test_what_is_installed_and_does_not_answer_is_no_reason_to_fall_back(asked: str) -> None:
    with pytest.raises(InputError, match="no Docker daemon answers"):
        chosen(asked, answers=False)


def test_an_image_is_never_answered_with_the_embedded_cluster() -> None:
    assert chosen("auto", image=True).kind == "kind"
    with pytest.raises(InputError, match="no Docker daemon answers"):
        chosen("auto", installed="", answers=False, image=True)
    with pytest.raises(InputError, match="one image"):
        chosen("embedded", image=True)


def test_a_kubeconfig_is_an_existing_cluster_and_no_kind_one() -> None:
    assert chosen("auto", kubeconfig=Path("x")).kind == "existing"
    with pytest.raises(InputError, match="go with --cluster existing, not with kind"):
        chosen("kind", kubeconfig=Path("x"))


def test_clients_beside_and_apart_from_the_server_are_told() -> None:
    names = Names(run="r", worker="", root="root")

    def pod(name: str, namespace: str, node: str) -> dict[str, Any]:
        metadata = {"namespace": names.real(namespace), "labels": {"app": name}}
        return {"metadata": metadata, "spec": {"nodeName": node}}

    pods = [pod("tcp-echo", "foo", "a"), pod("sleep", "foo", "a"), pod("sleep-b", "foo", "b")]
    assert placement(names, pods) == "2 nodes; beside tcp-echo: sleep.foo; on another node: sleep-b.foo"
    assert placement(names, pods[:2]) == ""


def test_embedded_is_embedded_where_kind_is_there() -> None:
    assert chosen("embedded") == Choice(kind="embedded", why="asked for")
