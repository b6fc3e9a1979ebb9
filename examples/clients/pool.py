"""A gRPC client of a ModelService as it should be: connections spread over the pods, a deadline, safe retries.

    pip install 'tritonclient[grpc]'
    python pool.py resnet-pods.default.svc:8001 resnet50 INPUT__0 1x3x224x224

Two addresses work, and the difference is who spreads the load:

* `NAME-pods.NAMESPACE.svc:8001` (with `endpoint.headless: true`): DNS names every pod, and `round_robin` keeps one
  connection to each and sends each request to the next one. This is the better one for few, busy clients.
* `NAME.NAMESPACE.svc:8001`: the cluster picks a pod per connection. Use several connections (`connections`), or one
  busy client keeps one pod busy and the others idle.

Either way Triton closes a connection at its age (endpoint.connectionAge, 30 s), gracefully: a request that is running
ends, the next one uses another connection, and that is also when pods that were added are found. So neither a rollout
nor a scale-down loses a request. Retries are for what is left: a node that dies. Only UNAVAILABLE is retried: the
request was not executed, or its answer is lost. Retry that only where running an inference twice does no harm.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys

import numpy as np
import tritonclient.grpc.aio as triton

SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "inference.GRPCInferenceService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
CHANNEL = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.enable_retries", 1),
    # Each client of the pool has connections of its own, instead of sharing those of the first one.
    ("grpc.use_local_subchannel_pool", 1),
    # How soon DNS is asked again after a connection was closed; 30 s is gRPC's own.
    ("grpc.dns_min_time_between_resolutions_ms", 2000),
]


class Pool:
    """`connections` clients that take turns. One is enough for the headless address, about two per pod otherwise."""

    def __init__(self, address: str, *, connections: int = 1, deadline_seconds: float = 5.0) -> None:
        target = address if "://" in address else f"dns:///{address}"
        self._clients = [triton.InferenceServerClient(target, channel_args=CHANNEL) for _ in range(connections)]
        self._turns = itertools.cycle(self._clients)
        self._deadline_seconds = deadline_seconds

    async def infer(self, model: str, inputs: list[triton.InferInput]) -> triton.InferResult:
        """One request, retries included, within the deadline; raises InferenceServerException."""
        return await next(self._turns).infer(model, inputs, client_timeout=self._deadline_seconds)

    async def close(self) -> None:
        """Ends the connections."""
        await asyncio.gather(*(client.close() for client in self._clients))


async def main(address: str, model: str, tensor: str, shape: str) -> None:
    value = np.zeros([int(size) for size in shape.split("x")], dtype=np.float32)
    given = triton.InferInput(tensor, list(value.shape), "FP32")
    given.set_data_from_numpy(value)
    pool = Pool(address)
    try:
        answer = await pool.infer(model, [given])
        print(answer.get_response())
    finally:
        await pool.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
