"""What becomes of manifests when another image stands for ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from conformance.cluster import images
from conformance.cluster.images import Image, named_image
from conformance.cluster.install import MANIFESTS, read_manifests
from conformance.errors import InputError

OTHER = Image(name="registry.example/authz-conformance:0.1.0")
ANY = Image(name="python:3.13.1-slim", scripts=True)


def everything() -> list[dict[str, object]]:
    return read_manifests(sorted([*MANIFESTS.glob("enforcer/*.yaml"), *MANIFESTS.glob("workloads/*.yaml")]))


@pytest.mark.parametrize("image", [OTHER, ANY])
def test_no_manifest_names_our_image_any_more(image: Image) -> None:
    adapted = json.dumps([image.adapt(document) for document in everything()])
    assert images.LOCAL not in adapted
    assert adapted.count(image.name) == json.dumps(everything()).count(images.LOCAL)


def test_what_names_no_image_is_left_alone() -> None:
    policy = {"kind": "AuthorizationPolicy", "spec": {"rules": []}}
    sidecar = {"kind": "Pod", "spec": {"containers": [{"name": "x", "image": "other:1"}]}}
    assert OTHER.adapt(policy) == policy
    assert ANY.adapt(sidecar) == sidecar


def test_workloads_of_any_image_get_their_programs_by_configmap() -> None:
    (config,) = ANY.documents()
    assert OTHER.documents() == []
    for document in read_manifests([MANIFESTS / "workloads" / "tcp-echo.yaml"]):
        if document["kind"] != "Deployment":
            continue
        spec = ANY.adapt(document)["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        (mount,) = container["volumeMounts"]
        path = next(item["value"] for item in container["env"] if item["name"] == "PATH")
        assert path.startswith(mount["mountPath"] + ":")
        assert spec["volumes"][0]["configMap"] == {"name": config["metadata"]["name"], "defaultMode": 0o555}
        assert spec["securityContext"]["runAsUser"] == 10001
        assert container["command"] == ["tcp-echo"]
        assert set(config["data"]) == {"tcp-echo", "tcp_echo.py", "nc", "nc.py"}
        assert len(json.dumps(config)) < 2**19  # a ConfigMap has a limit of 1 MiB


def test_the_authorizer_and_the_enforcer_are_more_than_scripts() -> None:
    for name in ("enforcer/30-controller", "workloads/ext-authz"):
        for document in read_manifests([MANIFESTS / f"{name}.yaml"]):
            assert "authz-scripts" not in json.dumps(ANY.adapt(document))


@pytest.mark.parametrize("name", ["python", "python:latest", "localhost:5000/python"])
def test_an_image_whose_tag_may_move_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="its tag may move"):
        named_image(name, None, version="1")


def test_names_and_registries() -> None:
    digest = "python@sha256:" + "0" * 64
    assert named_image(digest, None, version="1") == Image(name=digest, scripts=True)
    assert named_image(None, "reg.example/team/", version="1.2") == Image(
        name="reg.example/team/authz-conformance:1.2"
    )
    assert named_image(None, None, version="1") is None


def test_a_node_image_without_a_digest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "node-images.yaml"
    file.write_text(yaml.safe_dump({"images": {"1.36": "kindest/node:v1.36.4"}}))
    monkeypatch.setattr(images, "NODE_IMAGES", file)
    with pytest.raises(InputError, match="not pinned by a digest"):
        images.node_images()
