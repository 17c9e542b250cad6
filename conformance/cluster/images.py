"""The one image of ours, other images that stand in for it, and what becomes of manifests then.

Manifests name `authz-conformance:dev`. The embedded cluster runs that as its own environment; elsewhere the
name is replaced in what is sent to the API. Workloads need Python 3 and nothing else: with an image that is
not ours their two programs come as a ConfigMap.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from conformance.cluster.programs import Failed, run_program
from conformance.errors import InputError, SetupError

__all__ = ["LOCAL", "Image", "build", "listed", "named_image", "save"]

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKERFILE = ROOT / "enforcer" / "Dockerfile"
NODE_IMAGES = ROOT / "manifests" / "kind" / "node-images.yaml"
REPOSITORY = "authz-conformance"
LOCAL = f"{REPOSITORY}:dev"
BUILD_SECONDS = 1800.0
SCRIPTS = "authz-scripts"
SCRIPTS_AT = "/opt/authz/scripts"
_PROGRAMS = {"tcp-echo": "tcp_echo.py", "nc": "nc.py"}
_PATH = ":".join(
    (
        SCRIPTS_AT,
        "/opt/authz/bin:/opt/authz/venv/bin",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    )
)
# Of a pod whose image may name no user or root.
_USER = {"runAsUser": 10001, "runAsGroup": 10001}
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What stands for `authz-conformance:dev`. `scripts`: it is any image with Python 3."""

    name: str
    scripts: bool = False

    def documents(self) -> list[dict[str, Any]]:
        """What each namespace with workloads needs besides them."""
        return [scripts()] if self.scripts else []

    def adapt(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """The document with the image's name instead of ours; itself where it does not name ours."""
        kind = document.get("kind")
        if kind == "ConfigMap" and LOCAL in json.dumps(document.get("data") or {}):
            data = {key: str(text).replace(LOCAL, self.name) for key, text in document["data"].items()}
            return {**document, "data": data}
        if kind == "Pod":
            return {**document, "spec": self._pod(document["spec"])}
        template = (document.get("spec") or {}).get("template") if kind in ("Deployment", "Job") else None
        if not template:
            return document
        changed = {**template, "spec": self._pod(template["spec"])}
        return {**document, "spec": {**document["spec"], "template": changed}}

    def _pod(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        containers = spec.get("containers") or []
        if not any(container.get("image") == LOCAL for container in containers):
            return spec
        changed = {**spec, "containers": [self._container(container) for container in containers]}
        # The enforcer and the authorizer are more than two scripts: they need the image itself.
        if self.scripts and any(_is_workload(container) for container in containers):
            volume = {"name": SCRIPTS, "configMap": {"name": SCRIPTS, "defaultMode": 0o555}}
            changed["volumes"] = [*(spec.get("volumes") or []), volume]
            changed["securityContext"] = {**_USER, **(spec.get("securityContext") or {})}
        return changed

    def _container(self, container: Mapping[str, Any]) -> Mapping[str, Any]:
        if container.get("image") != LOCAL:
            return container
        changed = {**container, "image": self.name}
        if self.scripts and _is_workload(container):
            env = [item for item in container.get("env") or [] if item["name"] != "PATH"]
            mount = {"name": SCRIPTS, "mountPath": SCRIPTS_AT, "readOnly": True}
            changed["env"] = [*env, {"name": "PATH", "value": _PATH}]
            changed["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]
        return changed


def _is_workload(container: Mapping[str, Any]) -> bool:
    return (container.get("command") or [""])[0] in ("tcp-echo", "sleep")


def scripts() -> dict[str, Any]:
    """The workloads' programs as a ConfigMap; without namespace."""
    folder = ROOT / "conformance" / "workloads"
    data = {}
    for command, module in _PROGRAMS.items():
        data[module] = (folder / module).read_text(encoding="utf-8")
        data[command] = f'#!/bin/sh\nexec python3 -I -S "{SCRIPTS_AT}/{module}" "$@"\n'
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": SCRIPTS}, "data": data}


def named_image(image: str | None, registry: str | None, *, version: str) -> Image | None:
    """What `--image` or `--image-registry` means; None where neither is given. Raises InputError."""
    if image and registry:
        raise InputError("--image and --image-registry exclude each other")
    if registry:
        return Image(name=f"{registry.rstrip('/')}/{REPOSITORY}:{version}")
    if not image:
        return None
    if not _DIGEST.search(image):
        tag = image.rpartition("/")[2].partition(":")[2]
        if tag in ("", "latest"):
            raise InputError(
                f"--image {image}: its tag may move during a run",
                hint="name a version or a digest: NAME:TAG or NAME@sha256:...",
            )
    return Image(name=image, scripts=True)


def node_images() -> dict[str, str]:
    """kind's node images by Kubernetes version (1.36), pinned by digest. Raises InputError."""
    images = yaml.safe_load(NODE_IMAGES.read_text(encoding="utf-8"))["images"]
    for version, image in images.items():
        if not _DIGEST.search(image):
            raise InputError(f"{NODE_IMAGES}: the node image of {version} is not pinned by a digest: {image}")
    return {str(version): str(image) for version, image in images.items()}


def build(*, version: str, revision: str = "unknown", source: str = "unknown", base: str = "") -> str:
    """Builds the image; its name by content (authz-conformance:<id>), which no later build moves. `base`:
    another than the Dockerfile's. Raises SetupError."""
    arguments = [f"VERSION={version}", f"REVISION={revision}", f"SOURCE={source}"]
    arguments += [f"BASE={base}"] if base else []
    given = [part for argument in arguments for part in ("--build-arg", argument)]
    try:
        run_program(
            ["docker", "build", "--file", str(DOCKERFILE), "--tag", LOCAL, *given, str(ROOT)], BUILD_SECONDS
        )
        told = run_program(["docker", "image", "inspect", "--format", "{{.Id}}", LOCAL], 60.0)
        name = f"{REPOSITORY}:{told.strip().removeprefix('sha256:')[:12]}"
        run_program(["docker", "tag", LOCAL, name], 60.0)
    except Failed as error:
        raise SetupError(f"the image was not built: {error}", hint="make image shows all of it") from None
    return name


def is_here(name: str) -> bool:
    """Whether the Docker daemon has the image."""
    try:
        run_program(["docker", "image", "inspect", "--format", "{{.Id}}", name], 60.0)
    except Failed:
        return False
    return True


def save(names: list[str], archive: Path, *, machine: str = "") -> None:
    """Writes images of the Docker daemon to an archive that `kind load image-archive` and `ctr images import`
    take. Raises SetupError.

    One platform only: an archive of an image of several platforms lacks the layers of the others, and loading
    it fails (kubernetes-sigs/kind#3795, #3996)."""
    command = ["docker", "save", "--output", str(archive)]
    try:
        try:
            run_program([*command, "--platform", machine or this_platform(), *names], BUILD_SECONDS)
        except Failed as error:
            # Docker before 28 cannot choose, and keeps one platform of an image only.
            if "unknown flag: --platform" not in error.output and "API version" not in error.output:
                raise
            run_program([*command, *names], BUILD_SECONDS)
    except Failed as error:
        raise SetupError(f"the image was not saved: {error}") from None


def this_platform() -> str:
    machine = platform.machine()
    return "linux/" + {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def listed() -> list[dict[str, str]]:
    """Every image that a run may need: name, and what for."""
    base = re.search(r"^ARG BASE=(\S+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    return [
        {"image": LOCAL, "for": "enforcer, sidecar, workloads, Job (make image)"},
        {"image": base[1] if base else "?", "for": "what it is built from"},
        *({"image": image, "for": f"a kind node of Kubernetes {v}"} for v, image in node_images().items()),
    ]
