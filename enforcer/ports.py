"""The numbers that a pod's capture rules, its Envoy and the control plane must agree on."""

from __future__ import annotations

from typing import Final

OUTBOUND: Final = 15001
"""Where Envoy takes the pod's redirected outgoing connections."""
INBOUND: Final = 15006
"""Where Envoy takes the redirected connections that come from other pods."""
ADMIN: Final = 15000
"""Envoy's administration, on the pod's loopback only."""
READY: Final = 15021
"""Envoy's readiness, never redirected: the kubelet asks it from outside the pod."""

XDS: Final = 15010
"""The control plane's configuration service."""
STATUS: Final = 15014
"""The control plane's status, on its pod's loopback only."""
WEBHOOK: Final = 9443
HEALTH: Final = 8080

MARK: Final = 1337
"""Socket mark of Envoy's own connections, where capture exempts by mark."""
PROXY_UID: Final = 1337
"""User of Envoy, where capture exempts by user."""
