"""What runs beside Triton in every pod: fetch the models, keep Triton equal to the plan, answer for readiness, drain.

Its image is small and it starts before every model server, so it imports the standard library, aiohttp, protobuf, the
protocol and the names it shares with the operator, and nothing else of the project. It talks to Triton on localhost and
to the places that hold models; it never talks to the Kubernetes API and holds no credential of it.

How a plan becomes served models:

    plan.py        mounted ConfigMaps -> the models to serve            (an update that is only half there waits)
    keeper.py      one task per model: fetch/ -> layout.py -> configure.py -> a Publication
    loader.py      puts publications into the repository (repository.py) and into Triton (triton_client.py)
    drift.py       notices what somebody else changed in Triton; the loader puts it right
    costs.py       what a batch costs, from Triton's statistics
    state.py       what is known of each model, for /v1/state, /ready and /metrics (server.py, metrics.py)
    drain.py       the answer to the container's preStop hook
"""
