"""The pods' network: one routed veth each, no bridge.

A pod's `eth0` has its /32 and a default route through 169.254.1.1, which stands on the node's loopback: a
node answers ARP on every interface for every address it has. The node has one /32 route for each pod. So
packets are routed, pass the node's packet filter, and keep their source address.
"""

import errno
import ipaddress
import os
import socket
import struct
from pathlib import Path

from conformance.cluster.embedded.node import linux
from conformance.cluster.embedded.node.netlink import (
    CREATE,
    EXCLUSIVE,
    NETLINK_ROUTE,
    NetlinkError,
    NetlinkSocket,
    attribute,
    nested,
)

GATEWAY = "169.254.1.1"
API_PORT = 6443
SERVICES = "10.96.0.0/12"

_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 17, 20, 24
_IFF_UP = 1
_LOOPBACK = 1
# Both ends of a veth are numbered by the pod's address (the kernel takes a number for the far end only with
# one for the near): nobody has to ask for them, and nothing is taken twice.
_FIRST_INDEX = 1 << 16

_SYSCTLS = {
    # Facing thousands of short connections: ports in TIME_WAIT are used again, and there are many. The
    # range begins above every port a workload or a proxy listens on.
    "ipv4/tcp_tw_reuse": "1",
    "ipv4/ip_local_port_range": "16384 65535",
    "core/somaxconn": "4096",
    "ipv6/conf/default/disable_ipv6": "1",
}
_NODE_SYSCTLS = {**_SYSCTLS, "netfilter/nf_conntrack_tcp_timeout_time_wait": "1"}
# Containers have no NET_BIND_SERVICE and may listen on port 80 all the same, as under containerd.
_POD_SYSCTLS = {**_SYSCTLS, "ipv4/ip_unprivileged_port_start": "0"}


def set_up_node() -> None:
    """In a fresh network namespace: loopback, forwarding, the gateway's address, the Services' route."""
    _write_sysctl("ipv4/ip_forward", "1")
    _tune(_NODE_SYSCTLS)
    with NetlinkSocket(NETLINK_ROUTE) as route:
        _bring_up(route, _LOOPBACK)
        _add_address(route, _LOOPBACK, GATEWAY)
        # Without a route connect() fails before the packet filter can translate the address.
        network = ipaddress.ip_network(SERVICES)
        _add_route(route, str(network.network_address), network.prefixlen, _LOOPBACK, source=GATEWAY)


def set_up_pod(*, ip: str, hostname: str) -> None:
    """Takes the calling process into new network, UTS and IPC namespaces, joined to the node's network.

    Raises OSError.
    """
    node_network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with NetlinkSocket(NETLINK_ROUTE) as node:
        linux.unshare(linux.CLONE_NEWNET | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC)
        socket.sethostname(hostname)
        _tune(_POD_SYSCTLS)
        index = _index(ip)
        with NetlinkSocket(NETLINK_ROUTE) as pod:
            _bring_up(pod, _LOOPBACK)
            _add_veth(pod, "eth0", index, peer=_node_name(ip), peer_network=node_network)
            _add_address(pod, index, ip)
            _bring_up(pod, index)
            _bring_up(node, index)
            _add_route(node, ip, 32, index)
            _add_route(pod, "0.0.0.0", 0, index, via=GATEWAY)
    os.close(node_network)


def remove_pod(ip: str) -> None:
    """Deletes both ends of the pod's veth. One that is gone is no error."""
    try:
        with NetlinkSocket(NETLINK_ROUTE) as route:
            body = struct.pack("BxHiII", socket.AF_UNSPEC, 0, _index(ip), 0, 0)
            route.request(_RTM_DELLINK, 0, body, about=_node_name(ip))
    except NetlinkError as error:
        if error.errno != errno.ENODEV:
            raise


def listen_in_node() -> socket.socket:
    """The socket that pods reach as the `kubernetes` Service."""
    listener = socket.create_server(("0.0.0.0", API_PORT), backlog=1024)
    listener.setblocking(False)
    return listener


def _node_name(ip: str) -> str:
    return f"p{ip}"


def _index(ip: str) -> int:
    return _FIRST_INDEX + (int(ipaddress.IPv4Address(ip)) & 0xFFFF)


def _bring_up(route: NetlinkSocket, index: int) -> None:
    body = struct.pack("BxHiII", socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP)
    route.request(_RTM_NEWLINK, 0, body, about=f"bring interface {index} up")


def _add_veth(route: NetlinkSocket, name: str, index: int, *, peer: str, peer_network: int) -> None:
    ifname, linkinfo, net_ns_fd = 3, 18, 28
    info_kind, info_data, veth_info_peer = 1, 2, 1
    header = struct.pack("BxHiII", socket.AF_UNSPEC, 0, index, 0, 0)
    peer_link = header + attribute(ifname, peer) + attribute(net_ns_fd, peer_network)
    body = header + attribute(ifname, name)
    body += nested(
        linkinfo, attribute(info_kind, "veth"), nested(info_data, attribute(veth_info_peer, peer_link))
    )
    route.request(_RTM_NEWLINK, CREATE | EXCLUSIVE, body, about=f"add veth {peer}")


def _add_address(route: NetlinkSocket, index: int, ip: str) -> None:
    address, local, scope_global = 1, 2, 0
    packed = socket.inet_aton(ip)
    body = struct.pack("BBBBI", socket.AF_INET, 32, 0, scope_global, index)
    body += attribute(local, packed) + attribute(address, packed)
    route.request(_RTM_NEWADDR, CREATE | EXCLUSIVE, body, about=f"add address {ip}")


def _add_route(
    route: NetlinkSocket,
    ip: str,
    prefix: int,
    index: int,
    *,
    via: str | None = None,
    source: str | None = None,
) -> None:
    destination, output, gateway, preferred_source = 1, 4, 5, 7
    main_table, protocol_static, scope_global, scope_link, unicast, onlink = 254, 4, 0, 253, 1, 4
    scope = scope_link if via is None else scope_global
    flags = 0 if via is None else onlink
    body = struct.pack(
        "BBBBBBBBI", socket.AF_INET, prefix, 0, 0, main_table, protocol_static, scope, unicast, flags
    )
    if prefix:
        body += attribute(destination, socket.inet_aton(ip))
    body += attribute(output, index)
    if via is not None:
        body += attribute(gateway, socket.inet_aton(via))
    if source is not None:
        body += attribute(preferred_source, socket.inet_aton(source))
    route.request(_RTM_NEWROUTE, CREATE | EXCLUSIVE, body, about=f"add route {ip}/{prefix}")


def _tune(values: dict[str, str]) -> None:
    """Settings that a kernel may lack: without them the network works, with fewer connections a second."""
    for name, value in values.items():
        try:
            _write_sysctl(name, value)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM):
                raise


def _write_sysctl(name: str, value: str) -> None:
    Path("/proc/sys/net", name).write_text(value)
