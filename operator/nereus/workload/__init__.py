"""What runs: a typed ModelService in, Kubernetes manifests out (pods, Service, plan, disruption budget, monitor)."""
