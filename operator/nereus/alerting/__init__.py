"""Alerts: what is wrong with a service in a person's words, and the Prometheus rules that notice it.

`alert` is the neutral description, `scope` says over which services it looks and against which threshold, `catalogue`
holds every alert of a service and `operator` those of the operator itself; `rules` turns them into Prometheus' own
format and into a PrometheusRule, `routes` into notifications. Every metric and label name is in `conventions`.
Talks to nobody.
"""
