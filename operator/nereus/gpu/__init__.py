"""GPU memory per pod: what can enforce it, what the nodes offer, what is chosen, and whether it holds.

`nodes` reads what a node offers, `mechanisms` has one module per way of isolating, `choice` picks one and says why not
the others, `memory` does the arithmetic of a limit, `usage` is what the agent reports, `eviction` decides who has to
go. Pure: a spec and observed values in, values out. Deliberately renders no manifest; workload does, from a `Choice`.
"""
