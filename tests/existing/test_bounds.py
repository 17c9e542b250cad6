"""Where a run may write on a cluster that is not ours, asked at the connection itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from conformance.campaign_options import Options
from conformance.cluster.bounds import Bounds
from conformance.cluster.kube import Kube
from conformance.errors import InputError, SetupError
from conformance.guest import bounds_of, names_of, profile_of, read_namespaces, why_left_out
from conformance.profile import find_profile, load_profile
from conformance.scenario_reader import load_scenarios
from conformance.topology import NAMESPACES, Names
from tests.existing.conftest import Stranger

BUNDLED = load_profile(find_profile("bundled"))
LENT = {"foo": "team-a", "bar": "team-b", "legacy": "team-c"}


def policy(namespace: str, name: str = "p") -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": "nobody"}}},
    }


@pytest.fixture
def kube(stranger: Stranger) -> Kube:
    kube = Kube(stranger.kubeconfig)
    kube.bounds = Bounds(run="r0815", root="authz-system")
    return kube


@pytest.mark.parametrize("namespace", ["default", "authz-system", "kube-system"])
def test_no_policy_is_written_outside_our_namespaces(kube: Kube, namespace: str) -> None:
    writes = (
        lambda: kube.apply(policy(namespace)),
        lambda: kube.create(policy(namespace)),
        lambda: kube.merge_patch(kube.key(policy(namespace)), {"spec": {}}),
        lambda: kube.delete(kube.key(policy(namespace))),
    )
    for write in writes:
        with pytest.raises(SetupError, match="outside the namespaces of this run"):
            write()
    assert kube.get(kube.key(policy(namespace))).code == 404


def test_the_root_namespace_is_open_with_the_flag_and_others_are_not(kube: Kube) -> None:
    kube.bounds = Bounds(run="r0815", root="authz-system", mesh_wide=True)
    key, answer = kube.apply(policy("authz-system"))
    assert answer.ok, answer
    assert answer.body["metadata"]["labels"]["authz-conformance/run"] == "r0815"
    assert kube.delete(key).ok
    with pytest.raises(SetupError):
        kube.apply(policy("default"))


def test_cluster_wide_objects_are_never_written(kube: Kube) -> None:
    kube.bounds = Bounds(run="r0815", root="authz-system", mesh_wide=True)
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "x"}}
    with pytest.raises(SetupError, match="outside"):
        kube.create(role)


def test_what_others_made_is_not_replaced(kube: Kube, stranger: Stranger) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": "default"}}
    stranger.kube.create(config)
    kube.bounds = Bounds(run="r0815", root="authz-system", given=frozenset({"default"}))
    with pytest.raises(SetupError, match="exists and is not of this run"):
        kube.apply({**config, "data": {"a": "b"}})
    key = kube.key(config)
    assert "data" not in kube.get(key).body
    stranger.kube.delete(key)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo=a,bar=b", "each of foo, bar, legacy once"),
        ("foo=a,bar=b,legacy=c,foo=d", "each of foo"),
        ("foo=a,bar=b,legacy=C_", "'C_' is not the name of a namespace"),
        ("foo=a,bar=a,legacy=c", "one namespace twice"),
    ],
)
def test_a_bad_map_of_namespaces(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_namespaces(text)


@pytest.mark.parametrize("worker", ["", "w1", "w10"])
def test_heads_and_tails_of_our_namespaces_select_one_each(worker: str) -> None:
    names = names_of(Options(cluster="existing"), BUNDLED, run="112210", worker=worker)
    assert names.real("foo") == f"authz-conf-112210{worker}-foo"
    assert names.unsplit() == []
    for one in NAMESPACES:
        for other in NAMESPACES:
            assert names.real(other).startswith(names.head(one)) is (one == other)
            assert names.real(other).endswith(names.tail(one)) is (one == other)
        assert names.head(one) + names.tail(one) == names.real(one)


def test_lent_names_without_a_prefix_of_their_own_leave_the_wildcards_out() -> None:
    options = Options(cluster="existing", namespaces=LENT, allow_mesh_wide=True)
    names = names_of(options, BUNDLED, run="r", worker="")
    assert names.unsplit() == ["foo", "bar", "legacy"]
    split = replace(names, given={"foo": "team-foo", "bar": "team-bar", "legacy": "team-legacy"})
    assert split.unsplit() == []
    scenarios = {item.id: item for item in load_scenarios()}
    left = {name for name, item in scenarios.items() if why_left_out(options, BUNDLED, names, item)}
    assert "src/01-identity-fields[namespace-prefix]" in left
    assert "src/01-identity-fields[namespace-exact]" not in left


def test_mesh_wide_cases_are_left_out_unless_allowed() -> None:
    def left(options: Options) -> set[str]:
        names = Names(run="r", worker="", root="authz-system")
        return {s.id for s in load_scenarios() if why_left_out(options, BUNDLED, names, s)}

    wide = {item.id for item in load_scenarios() if item.mesh_wide}
    assert wide <= left(Options(cluster="existing"))
    assert not wide & left(Options(cluster="existing", allow_mesh_wide=True))
    assert left(Options(cluster="embedded")) == set()
    assert "mesh-wide" not in profile_of(Options(cluster="existing"), BUNDLED).features
    assert not bounds_of(Options(cluster="embedded"), BUNDLED, run="r").enforced


def test_two_workers_cannot_share_lent_namespaces() -> None:
    with pytest.raises(InputError, match="for one worker"):
        names_of(Options(cluster="existing", namespaces=LENT), BUNDLED, run="r", worker="w0")
