"""Services to endpoints: the addresses of the ready pods that a Service selects, by address family."""

from collections.abc import Iterable, Sequence
from typing import Any

from conformance.cluster.embedded.client import ApiClient, ApiClientError
from conformance.cluster.embedded.controllers.deployment_status import is_ready
from conformance.cluster.embedded.controllers.deployments import is_active, name_of
from conformance.cluster.embedded.controllers.queue import WorkQueue
from conformance.cluster.embedded.controllers.shared import PODS, SERVICES, SharedInformers
from conformance.cluster.embedded.kubelet.hosts import pod_addresses

Object = dict[str, Any]
Name = tuple[str, str]

FAMILIES = ("IPv4", "IPv6")
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


class EndpointsController:
    """Keeps the Endpoints and the EndpointSlices of each Service with a selector."""

    def __init__(self, client: ApiClient, informers: SharedInformers) -> None:
        self._client = client
        self._queue = WorkQueue[Name]("endpoints", self._reconcile)
        self._written: set[tuple[Name, str]] = set()  # slices: (Service, family)
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
            await self._delete_slices(key, FAMILIES)
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
        families = families_of(service)
        for family in families:
            self._written.add((key, family))
            await self._write(SLICES.format(namespace=namespace), slice_of(service, serving, waiting, family))
        await self._delete_slices(key, [family for family in FAMILIES if family not in families])

    async def _delete_slices(self, key: Name, families: Iterable[str]) -> None:
        for family in families:
            if (key, family) in self._written:
                self._written.discard((key, family))
                await self._delete(f"{SLICES.format(namespace=key[0])}/{slice_name(key[1], family)}")

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


def families_of(service: Object) -> Sequence[str]:
    """IPv4, IPv6 or both, the Service's first choice first."""
    return service["spec"].get("ipFamilies") or FAMILIES[:1]


def slice_name(service: str, family: str) -> str:
    """No Service's name has a dot, so no two slices have one name."""
    return service if family == "IPv4" else f"{service}.ipv6"


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
    """The Endpoints object of a Service: addresses of its first family, as on Kubernetes."""
    family = families_of(service)[0]

    def addresses(pods: list[Object]) -> list[Object]:
        return [
            {
                "ip": ip,
                "nodeName": pod["spec"].get("nodeName", "embedded"),
                "targetRef": pod_reference(pod),
            }
            for pod in pods
            for ip in pod_addresses(pod, [family])
        ]

    subset: Object = {"ports": ports_of(service, serving + waiting)}
    if serving:
        subset["addresses"] = addresses(serving)
    if waiting:
        subset["notReadyAddresses"] = addresses(waiting)
    metadata = {"name": service["metadata"]["name"], "namespace": service["metadata"]["namespace"]}
    subsets = [subset] if serving or waiting else []
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}


def slice_of(service: Object, serving: list[Object], waiting: list[Object], family: str) -> Object:
    """The EndpointSlice of a Service for an address family."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    endpoints = [
        {
            "addresses": [ip],
            "conditions": {"ready": ready, "serving": ready, "terminating": False},
            "nodeName": pod["spec"].get("nodeName", "embedded"),
            "targetRef": pod_reference(pod),
        }
        for pods, ready in ((serving, True), (waiting, False))
        for pod in pods
        for ip in pod_addresses(pod, [family])
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": slice_name(name, family),
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": ports_of(service, serving + waiting),
    }
