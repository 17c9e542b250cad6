"""The node of the embedded cluster: namespaces, network, and the container runtime that is its PID 1."""
