"""Reading Prometheus: the load and the capacity of every service, and how far they can be believed. An edge room.

`reading` says what is wanted and what comes back (types only), `reader` fetches it with a constant number of queries,
`history` fetches the past in paced pieces. `queries` and `assemble` are pure: PromQL out, answers in. `client` is the
only module that opens a connection. Nothing here decides how many replicas there shall be.
"""
