"""The kubelet of the embedded cluster: a client of its API that runs pods through the container runtime."""
