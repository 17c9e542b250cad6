"""Policies in, Envoy filters out: golden/<case>/policies.yaml and rbac.yaml; mesh.yaml has mesh options.

The workload is app=tcp-echo, version=v1 in namespace foo; the mesh's root namespace is authz-system.
After a change on purpose, UPDATE_GOLDEN=1 writes the outputs anew; read the difference before keeping it.
"""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.config.listener.v3.listener_components_pb2 import Filter
from google.protobuf.json_format import MessageToJson

from enforcer.mesh import Trust, load_options
from enforcer.policy import Policy, parse_or_refuse
from enforcer.rbac import network_filters
from enforcer.select import govern

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())


def policies_of(case: str) -> list[Policy]:
    documents = yaml.safe_load_all((GOLDEN / case / "policies.yaml").read_text())
    return [parse_or_refuse(document) for document in documents]


def compile_for_workload(policies: list[Policy], case: str) -> list[Filter]:
    labels = {"app": "tcp-echo", "version": "v1"}
    governing = govern(policies, namespace="foo", labels=labels, root_namespace="authz-system")
    options = load_options(GOLDEN / case / "mesh.yaml")
    providers = {provider.name: provider for provider in options.extension_providers}
    return network_filters(governing, trust=options.trust, providers=providers)


def as_data(filters: list[Filter]) -> list[dict[str, Any]]:
    return [json.loads(MessageToJson(item, preserving_proto_field_name=True)) for item in filters]


@pytest.mark.parametrize("case", CASES)
def test_filters_are_the_golden_ones(case: str) -> None:
    observed = as_data(compile_for_workload(policies_of(case), case))
    golden = GOLDEN / case / "rbac.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(yaml.safe_dump(observed, width=110))
    assert yaml.safe_load(golden.read_text()) == observed


@pytest.mark.parametrize("case", CASES)
def test_order_of_policies_does_not_change_a_byte(case: str) -> None:
    policies = policies_of(case)
    outputs = {
        tuple(item.SerializeToString(deterministic=True) for item in compile_for_workload(list(order), case))
        for order in itertools.islice(itertools.permutations(policies), 24)
    }
    assert len(outputs) == 1


def test_hash_seed_does_not_change_a_byte(tmp_path: Path) -> None:
    program = tmp_path / "digest.py"
    program.write_text(
        "import sys\n"
        "from tests.enforcer.test_rbac_golden import CASES, compile_for_workload, policies_of\n"
        "for case in CASES:\n"
        "    for item in compile_for_workload(policies_of(case), case):\n"
        "        print(item.SerializeToString().hex())\n"
    )
    outputs = {run_python(program, hash_seed=seed) for seed in ("1", "2")}
    assert len(outputs) == 1


def run_python(program: Path, *, hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2])}
    finished = subprocess.run(
        [sys.executable, program], env=environment, check=True, capture_output=True, text=True
    )
    return finished.stdout


def test_no_policy_is_no_filter() -> None:
    assert network_filters([], trust=Trust()) == []


def test_envoy_takes_every_golden_output(tmp_path: Path) -> None:
    package = importlib.util.find_spec("envoy")
    assert package is not None
    assert package.submodule_search_locations
    envoy = Path(package.submodule_search_locations[0]) / "_bin" / "envoy"
    bootstrap = tmp_path / "envoy.json"
    bootstrap.write_text(
        json.dumps(
            {
                "static_resources": {
                    "clusters": [{"name": "workload", "connect_timeout": "1s"}],
                    "listeners": [listener(case) for case in CASES],
                }
            }
        )
    )
    checked = subprocess.run(
        [envoy, "--mode", "validate", "--config-path", bootstrap, "--log-level", "error"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr


def listener(case: str) -> dict[str, Any]:
    tcp_proxy = {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "workload",
            "cluster": "workload",
        },
    }
    filters = yaml.safe_load((GOLDEN / case / "rbac.yaml").read_text())
    return {
        "name": case,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [*filters, tcp_proxy]}],
    }
