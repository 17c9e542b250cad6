"""A pod's volumes: directories in the node's state tmpfs, bind-mounted into its containers.

Volumes made of API objects are kept true while the pod runs. Their files are switched all at once, by the
rename of one symbolic link, as Kubernetes does: `key -> ..data/key`, `..data -> ..<version>`.
"""

import asyncio
import base64
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from conformance.cluster.embedded.client import ApiClient, ApiClientError
from conformance.cluster.embedded.kubelet.environment import (
    ConfigError,
    PodFacts,
    field_value,
    quantity,
    resource_value,
)
from conformance.cluster.embedded.node import linux
from conformance.cluster.embedded.node.runtime import Mount

Object = dict[str, Any]
Files = dict[str, tuple[bytes, int]]  # path in the volume -> (content, mode)

DATA_LINK = "..data"
DEFAULT_MODE = 0o644
DEFAULT_TOKEN_SECONDS = 3600
RENEW_AFTER = 0.8  # of a token's life, and never later than a day, as in Kubernetes
RENEW_SECONDS = 24 * 3600.0
RETRY_SECONDS = 1.0
REFERRING = ("configMap", "secret", "downwardAPI", "projected")


class VolumeError(Exception):
    """A volume cannot be set up as things stand; worth another try when they change."""


class UnsupportedVolumeError(Exception):
    """The embedded cluster has no volumes of this type."""


@dataclass(slots=True)  # mutable: renewed in place
class Token:
    """A projected service-account token and the monotonic moment of its renewal."""

    text: str
    renew_at: float


class PodVolumes:
    """The volumes of one pod, below `root`, which is the pod's own directory."""

    def __init__(self, *, client: ApiClient, root: Path, facts: PodFacts) -> None:
        self._client = client
        self._root = root
        self._facts = facts
        self._tokens: dict[tuple[str, int], Token] = {}
        self._mounted: list[Path] = []
        self._changed = asyncio.Event()
        self._volumes = {volume["name"]: volume for volume in facts.pod["spec"].get("volumes") or ()}

    async def set_up(self) -> None:
        """Make every volume. Raises VolumeError, UnsupportedVolumeError."""
        for name, volume in self._volumes.items():
            path = self._root / name
            if "emptyDir" in volume:
                self._make_empty_dir(path, volume["emptyDir"] or {})
            elif any(kind in volume for kind in REFERRING):
                switch_files(path, await self._files(volume))
            else:
                kinds = ", ".join(sorted(set(volume) - {"name"})) or "no type"
                raise UnsupportedVolumeError(
                    f'volume "{name}": {kinds} volumes are not offered by the embedded cluster'
                )

    async def keep_true(self) -> None:
        """Follow the objects behind the volumes, and renew tokens, until cancelled."""
        referring = [volume for volume in self._volumes.values() if any(kind in volume for kind in REFERRING)]
        if not referring:
            return
        while True:
            renewals = [token.renew_at for token in self._tokens.values()]
            timeout = max(0.0, min(renewals) - time.monotonic()) if renewals else None
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                pass  # a token is due
            self._changed.clear()
            for volume in referring:
                with suppress(VolumeError):  # deleted meanwhile: the files stay, as in Kubernetes
                    switch_files(self._root / volume["name"], await self._files(volume))

    def refers_to(self, kind: str, name: str) -> bool:
        """Whether a volume shows this object; kind is configMap or secret."""
        return any(name in referred_names(volume, kind) for volume in self._volumes.values())

    def objects_changed(self) -> None:
        """Look at the API objects again."""
        self._changed.set()

    def pod_changed(self, pod: Object) -> None:
        """Take the pod's new labels and annotations."""
        before, after = self._facts.pod["metadata"], pod["metadata"]
        self._facts = replace(self._facts, pod=pod)
        if any(before.get(field) != after.get(field) for field in ("labels", "annotations")):
            self._changed.set()

    def mounts_of(self, container: Object) -> tuple[Mount, ...]:
        """The container's volumeMounts, outer ones first so that none hides another. Raises ConfigError."""
        mounts = []
        for mount in container.get("volumeMounts") or ():
            volume = self._volumes.get(mount["name"])
            if volume is None:
                raise ConfigError(f'volume mount "{mount["name"]}" has no volume')
            source = self._root / mount["name"]
            if mount.get("subPathExpr"):
                raise ConfigError("subPathExpr is not offered by the embedded cluster")
            if mount.get("subPath"):
                source = self._sub_path(source, mount["subPath"], writable="emptyDir" in volume)
            read_only = bool(mount.get("readOnly")) or "emptyDir" not in volume
            mounts.append(Mount(source=str(source), target=mount["mountPath"], read_only=read_only))
        return tuple(sorted(mounts, key=lambda mount: mount.target.count("/")))

    def tear_down(self) -> None:
        """Remove everything."""
        for path in self._mounted:
            linux.detach(str(path))
        self._mounted.clear()
        shutil.rmtree(self._root, ignore_errors=True)

    def _make_empty_dir(self, path: Path, options: Object) -> None:
        if path.exists():
            return  # from an earlier try
        path.mkdir(parents=True)
        path.chmod(0o777)  # containers of one pod may run as different users
        if options.get("sizeLimit"):
            # A bound that holds, for both media; Kubernetes evicts a pod that exceeds it on disk.
            size = int(quantity(str(options["sizeLimit"])))
            linux.mount(
                "tmpfs", str(path), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, f"mode=0777,size={size}"
            )
            self._mounted.append(path)

    def _sub_path(self, source: Path, sub_path: str, *, writable: bool) -> Path:
        if sub_path.startswith("/") or ".." in Path(sub_path).parts:
            raise ConfigError(f"subPath {sub_path} must stay within the volume")
        path = source / sub_path
        if writable:
            path.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            raise ConfigError(f"subPath {sub_path} is not in the volume")
        # The file itself, not the link: what is mounted by subPath is not updated, as in Kubernetes.
        return path.resolve()

    async def _files(self, volume: Object) -> Files:
        name = volume["name"]
        try:
            if "configMap" in volume:
                source = volume["configMap"]
                return await self._config_files("configmap", source["name"], source, mode_of(source))
            if "secret" in volume:
                source = volume["secret"]
                return await self._config_files("secret", source["secretName"], source, mode_of(source))
            if "downwardAPI" in volume:
                source = volume["downwardAPI"]
                return self._downward_files(source, mode_of(source))
            return await self._projected_files(volume["projected"])
        except ApiClientError as error:
            raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {error.message}') from error
        except ConfigError as error:
            raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from error

    async def _projected_files(self, projected: Object) -> Files:
        mode = mode_of(projected)
        files: Files = {}
        for source in projected.get("sources") or ():
            if "serviceAccountToken" in source:
                wanted = source["serviceAccountToken"]
                files[wanted["path"]] = (await self._token(wanted), mode)
            elif "configMap" in source:
                part = source["configMap"]
                files |= await self._config_files("configmap", part["name"], part, mode)
            elif "secret" in source:
                files |= await self._config_files("secret", source["secret"]["name"], source["secret"], mode)
            elif "downwardAPI" in source:
                files |= self._downward_files(source["downwardAPI"], mode)
            else:
                raise ConfigError(
                    f"projected source {', '.join(source)} is not offered by the embedded cluster"
                )
        return files

    async def _config_files(self, kind: str, name: str, source: Object, mode: int) -> Files:
        data = await config_data(self._client, kind, self._facts.pod["metadata"]["namespace"], name)
        if data is None:
            if source.get("optional"):
                return {}
            raise ConfigError(f'{kind} "{name}" not found')
        items = source.get("items")
        if not items:
            return {key: (content, mode) for key, content in data.items()}
        files: Files = {}
        for item in items:
            if item["key"] in data:
                files[item["path"]] = (data[item["key"]], item.get("mode") or mode)
            elif not source.get("optional"):
                raise ConfigError(f"references non-existent {kind} key: {item['key']}")
        return files

    def _downward_files(self, source: Object, mode: int) -> Files:
        files: Files = {}
        for item in source.get("items") or ():
            if "fieldRef" in item:
                text = field_value(item["fieldRef"]["fieldPath"], self._facts)
            else:
                text = resource_value(item["resourceFieldRef"], {}, self._facts.pod)
            files[item["path"]] = (text.encode(), item.get("mode") or mode)
        return files

    async def _token(self, wanted: Object) -> bytes:
        audience, seconds = (
            wanted.get("audience") or "",
            wanted.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS,
        )
        known = self._tokens.get((audience, seconds))
        if known is not None and known.renew_at > time.monotonic():
            return known.text.encode()
        try:
            token = await request_token(self._client, self._facts.pod, audience, seconds)
        except ApiClientError:
            if known is None:
                raise
            known.renew_at = time.monotonic() + RETRY_SECONDS  # the old one is good for a while yet
            return known.text.encode()
        self._tokens[audience, seconds] = token
        return token.text.encode()


async def request_token(client: ApiClient, pod: Object, audience: str, seconds: int) -> Token:
    """A token of the pod's service account, bound to the pod. Raises ApiClientError."""
    metadata = pod["metadata"]
    account = pod["spec"].get("serviceAccountName") or "default"
    bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    spec: Object = {"expirationSeconds": seconds, "boundObjectRef": bound}
    spec["audiences"] = [audience] if audience else []
    answer = await client.create(
        f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
    )
    status = answer["status"]
    expires = datetime.fromisoformat(status["expirationTimestamp"]).timestamp()
    left = max(0.0, expires - time.time())
    return Token(status["token"], time.monotonic() + min(left * RENEW_AFTER, RENEW_SECONDS))


async def config_data(client: ApiClient, kind: str, namespace: str, name: str) -> Mapping[str, bytes] | None:
    """The keys of a ConfigMap or Secret; None where there is none. Raises ApiClientError."""
    try:
        found = await client.get(f"/api/v1/namespaces/{namespace}/{kind}s/{name}")
    except ApiClientError as error:
        if error.code == 404:
            return None
        raise
    if kind == "secret":
        return {key: base64.b64decode(text) for key, text in (found.get("data") or {}).items()}
    plain = {key: text.encode() for key, text in (found.get("data") or {}).items()}
    return plain | {key: base64.b64decode(text) for key, text in (found.get("binaryData") or {}).items()}


def mode_of(source: Object) -> int:
    """A volume's defaultMode; 0 is a mode too."""
    mode = source.get("defaultMode")
    return DEFAULT_MODE if mode is None else int(mode)


def referred_names(volume: Object, kind: str) -> Iterable[str]:
    """The names of the ConfigMaps or Secrets (kind: configMap, secret) that a volume shows."""
    if kind in volume:
        source = volume[kind]
        yield source.get("name") or source.get("secretName") or ""
    for source in (volume.get("projected") or {}).get("sources") or ():
        if kind in source:
            yield source[kind]["name"]


def switch_files(volume: Path, files: Files) -> None:
    """Make the volume hold exactly these files, all at once. An unchanged volume is not touched."""
    volume.mkdir(parents=True, exist_ok=True)
    link = volume / DATA_LINK
    before = link.readlink() if link.is_symlink() else None
    if before is not None and read_files(volume / before) == files:
        return
    version = f"..{time.time_ns()}"
    for name, (content, mode) in files.items():
        path = volume / version / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    (volume / version).mkdir(exist_ok=True)
    fresh = volume / "..data_tmp"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(version)
    fresh.rename(link)
    wanted = {Path(name).parts[0] for name in files}
    for name in wanted:
        if not (volume / name).is_symlink():
            (volume / name).symlink_to(f"{DATA_LINK}/{name}")
    for entry in os.scandir(volume):
        if not entry.name.startswith("..") and entry.name not in wanted:
            (volume / entry.name).unlink()
    if before is not None:
        shutil.rmtree(volume / before)


def read_files(directory: Path) -> Files:
    """The files below a directory, as they were given to switch_files."""
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mode & 0o7777)
        for path in directory.rglob("*")
        if path.is_file()
    }
