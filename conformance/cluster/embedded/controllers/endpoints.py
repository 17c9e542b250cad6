"""Services to endpoints: the addresses of the ready pods that a Service selects."""

from collections.abc import Iterable
from typing import Any

from conformance.cluster.embedded.client import ApiClient, ApiClientError
from conformance.cluster.embedded.controllers.deployment_status import is_ready
from conformance.cluster.embedded.controllers.deployments import is_active, name_of
from conformance.cluster.embedded.controllers.queue import WorkQueue
from conformance.cluster.embedded.controllers.shared import PODS, SERVICES, SharedInformers

Object = dict[str, Any]
Name = tuple[str, str]


class EndpointsController:
    """Keeps one Endpoints and one EndpointSlice for each Service with a selector."""

    def __init__(self, client: ApiClient, informers: SharedInformers) -> None:
        self._client = client
        self._queue = WorkQueue[Name]("endpoints", self._reconcile)
        self._services = informers.watch(SERVICES, self._service_changed)
        self._pods = informers.watch(PODS, self._pod_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def _service_changed(self, _event: str, service: Object) -> None:
        self._queue.add(name_of(service))

    def _pod_changed(self, _event: str, pod: Object) -> None:
        namespace = pod["metadata"]["namespace"]
        for key in self._services.cache:
            # Also where the labels do not match: they may have matched before the change.
            if key[0] == namespace:
                self._queue.add(key)

    async def _reconcile(self, key: Name) -> None:
        namespace, name = key
        service = self._services.cache.get(key)
        if service is None:
            await self._delete(f"/api/v1/namespaces/{namespace}/endpoints/{name}")
            await self._delete(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{name}")
            return
        selector = service["spec"].get("selector")
        if not selector:
            return  # its endpoints are its author's
        pods = [
            pod
            for (pod_namespace, _), pod in self._pods.cache.items()
            if pod_namespace == namespace and selects(selector, pod) and has_address(pod)
        ]
        pods.sort(key=lambda pod: str(pod["metadata"]["name"]))
        every = bool(service["spec"].get("publishNotReadyAddresses"))
        serving = [pod for pod in pods if every or is_ready(pod)]
        waiting = [pod for pod in pods if pod not in serving]
        await self._write(
            f"/api/v1/namespaces/{namespace}/endpoints", endpoints_of(service, serving, waiting)
        )
        await self._write(
            f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
            slice_of(service, serving, waiting),
        )

    async def _write(self, path: str, item: Object) -> None:
        name = item["metadata"]["name"]
        try:
            current = await self._client.get(f"{path}/{name}")
        except ApiClientError as error:
            if error.code != 404:
                raise
            await self._client.create(path, item)
            return
        if any(
            current.get(field) != item[field] for field in ("subsets", "endpoints", "ports") if field in item
        ):
            item["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
            await self._client.update(f"{path}/{name}", item)

    async def _delete(self, path: str) -> None:
        try:
            await self._client.delete(path)
        except ApiClientError as error:
            if error.code != 404:
                raise


def selects(selector: dict[str, str], pod: Object) -> bool:
    """Whether every label of the selector stands on the pod."""
    labels = pod["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in selector.items())


def has_address(pod: Object) -> bool:
    """Whether the pod can be an endpoint at all."""
    return is_active(pod) and bool(pod.get("status", {}).get("podIP"))


def target_port(port: Object, pods: Iterable[Object]) -> int | None:
    """The pods' port behind a Service's port; None where it is a name that no container declares."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    for pod in pods:
        for container in pod["spec"]["containers"]:
            for declared in container.get("ports") or ():
                if declared.get("name") == target:
                    number: int = declared["containerPort"]
                    return number
    return None


def ports_of(service: Object, pods: list[Object]) -> list[Object]:
    """The EndpointPort entries of a Service: name, port, protocol, appProtocol."""
    ports = []
    for port in service["spec"].get("ports") or ():
        number = target_port(port, pods)
        if number is None:
            continue
        entry = {"port": number, "protocol": port.get("protocol", "TCP"), "name": port.get("name")}
        entry["appProtocol"] = port.get("appProtocol")
        ports.append({key: value for key, value in entry.items() if value is not None})
    return ports


def pod_reference(pod: Object) -> Object:
    """A reference to the pod behind an address."""
    metadata = pod["metadata"]
    return {
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def endpoints_of(service: Object, serving: list[Object], waiting: list[Object]) -> Object:
    """The Endpoints object of a Service."""

    def addresses(pods: list[Object]) -> list[Object]:
        return [
            {
                "ip": pod["status"]["podIP"],
                "nodeName": pod["spec"].get("nodeName", "embedded"),
                "targetRef": pod_reference(pod),
            }
            for pod in pods
        ]

    subset: Object = {"ports": ports_of(service, serving + waiting)}
    if serving:
        subset["addresses"] = addresses(serving)
    if waiting:
        subset["notReadyAddresses"] = addresses(waiting)
    metadata = {"name": service["metadata"]["name"], "namespace": service["metadata"]["namespace"]}
    subsets = [subset] if serving or waiting else []
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}


def slice_of(service: Object, serving: list[Object], waiting: list[Object]) -> Object:
    """The EndpointSlice of a Service."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    endpoints = [
        {
            "addresses": [pod["status"]["podIP"]],
            "conditions": {"ready": ready, "serving": ready, "terminating": False},
            "nodeName": pod["spec"].get("nodeName", "embedded"),
            "targetRef": pod_reference(pod),
        }
        for pods, ready in ((serving, True), (waiting, False))
        for pod in pods
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports_of(service, serving + waiting),
    }
