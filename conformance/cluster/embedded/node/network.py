"""The pods' network: one routed veth each, no bridge.

A pod's `eth0` has its /32 and a default route through 169.254.1.1, which stands on the node's loopback: a
node answers ARP on every interface for every address it has. The node has one /32 route for each pod. So
packets are routed, pass the node's packet filter, and keep their source address.

Where the kernel has IPv6 in a new network namespace, every pod has a second address, a /128 whose last 16
bits are those of the first, and a default route through fe80::1 on the node's end of its link. The IPv6
Services' network is local to the node: what the packet filter does not translate ends at a port where nobody
listens, and is refused at once.
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
# Unique local addresses: routed nowhere else.
GATEWAY6 = "fd00:10:244::1"
PODS6 = "fd00:10:244::/112"
SERVICES6 = "fd00:10:96::/112"
LINK_GATEWAY6 = "fe80::1"

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
}
_SYSCTLS6 = {
    # No address is ever tentative, no router is asked for, and a link has no address that nobody gave it: a
    # pod talks from its first packet on.
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/default/addr_gen_mode": "1",
}
_WITHOUT6 = {"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1"}
_NODE_SYSCTLS = {**_SYSCTLS, "netfilter/nf_conntrack_tcp_timeout_time_wait": "1"}
# Containers have no NET_BIND_SERVICE and may listen on port 80 all the same, as under containerd.
_POD_SYSCTLS = {**_SYSCTLS, "ipv4/ip_unprivileged_port_start": "0"}


def second_address(ip: str) -> str:
    """A pod's IPv6 address, by its IPv4 address."""
    return str(ipaddress.IPv6Network(PODS6)[_number(ip)])


def set_up_node() -> str:
    """In a fresh network namespace: loopback, forwarding, the gateways' addresses, the Services' routes.

    Why there is no IPv6; empty where there is. Raises OSError where there is no IPv4.
    """
    _write_sysctl("ipv4/ip_forward", "1")
    _tune(_NODE_SYSCTLS)
    with NetlinkSocket(NETLINK_ROUTE) as route:
        _bring_up(route, _LOOPBACK)
        _add_address(route, _LOOPBACK, GATEWAY)
        # Without a route connect() fails before the packet filter can translate the address.
        network = ipaddress.ip_network(SERVICES)
        _add_route(route, str(network.network_address), network.prefixlen, _LOOPBACK, source=GATEWAY)
        try:
            _add_second_family(route)
        except OSError as error:
            # Half of it would be worse than nothing: addresses that lead nowhere.
            _tune(_WITHOUT6)
            return f"{error.strerror} ({error.filename})"
    return ""


def _add_second_family(route: NetlinkSocket) -> None:
    # Not where it is off by the machine's own setting: that is a decision, not a default.
    if Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").read_text().strip() != "0":
        raise OSError(errno.EADDRNOTAVAIL, "it is switched off", "net.ipv6.conf.default.disable_ipv6")
    for name, value in {**_SYSCTLS6, "ipv6/conf/all/forwarding": "1"}.items():
        _write_sysctl(name, value)
    _add_address(route, _LOOPBACK, GATEWAY6)
    network = ipaddress.ip_network(SERVICES6)
    _add_route(route, str(network.network_address), network.prefixlen, _LOOPBACK, source=GATEWAY6, local=True)


def set_up_pod(*, ip: str, ip6: str, hostname: str) -> None:
    """Takes the calling process into new network, UTS and IPC namespaces, joined to the node's network.

    An empty `ip6` leaves the pod without IPv6. Raises OSError.
    """
    node_network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with NetlinkSocket(NETLINK_ROUTE) as node:
        linux.unshare(linux.CLONE_NEWNET | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC)
        socket.sethostname(hostname)
        _tune({**_POD_SYSCTLS, **(_SYSCTLS6 if ip6 else _WITHOUT6)})
        index = _index(ip)
        with NetlinkSocket(NETLINK_ROUTE) as pod:
            _bring_up(pod, _LOOPBACK)
            _add_veth(pod, "eth0", index, peer=_node_name(ip), peer_network=node_network)
            _add_address(pod, index, ip)
            _bring_up(pod, index)
            _bring_up(node, index)
            _add_route(node, ip, 32, index)
            _add_route(pod, "0.0.0.0", 0, index, via=GATEWAY)
            if ip6:
                _add_address(node, index, LINK_GATEWAY6)
                _add_address(pod, index, ip6)
                _add_route(node, ip6, 128, index)
                _add_route(pod, "::", 0, index, via=LINK_GATEWAY6)
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
    return _FIRST_INDEX + _number(ip)


def _number(ip: str) -> int:
    return int(ipaddress.IPv4Address(ip)) & 0xFFFF


def _packed(ip: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return family, socket.inet_pton(family, ip)


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
    address, local, scope_global, no_dad = 1, 2, 0, 2
    family, packed = _packed(ip)
    flags = no_dad if family == socket.AF_INET6 else 0
    body = struct.pack("BBBBI", family, 8 * len(packed), flags, scope_global, index)
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
    local: bool = False,
) -> None:
    destination, output, gateway, preferred_source = 1, 4, 5, 7
    table, kind = (255, 2) if local else (254, 1)  # the local table's addresses; the main one's unicast
    protocol_static, scope_global, scope_link, onlink = 4, 0, 253, 4
    family, packed = _packed(ip)
    scope = scope_link if via is None else scope_global
    flags = 0 if via is None else onlink
    body = struct.pack("BBBBBBBBI", family, prefix, 0, 0, table, protocol_static, scope, kind, flags)
    if prefix:
        body += attribute(destination, packed)
    body += attribute(output, index)
    if via is not None:
        body += attribute(gateway, _packed(via)[1])
    if source is not None:
        body += attribute(preferred_source, _packed(source)[1])
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
