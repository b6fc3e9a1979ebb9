"""The only room that talks to Kubernetes: watches, work queue, apply, status, events, leadership, health."""
