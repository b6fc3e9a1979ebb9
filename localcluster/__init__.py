"""A real one-node Kubernetes for demonstrations and tests, without Docker and without downloads of binaries.

Kubernetes, etcd, CoreDNS and their tools are built from Go modules, the container runtime and Prometheus come from
Debian, and everything runs in a network and mount namespace of its own, so that it can be removed without a trace.

It is not a distribution: one node, no upgrades, no outside network for pods, data without fsync. Standard library
only, because it runs before any virtual environment exists.
"""
