"""Golden files: what ModelServices become, as text that a reviewer can read.

`cases/*.yaml` are ModelServices (a first document may hold `settings`), `expected/*.yaml` the objects. A change of what
is rendered shows as a change of these files; `make generate` writes them anew, the tests compare.
"""
