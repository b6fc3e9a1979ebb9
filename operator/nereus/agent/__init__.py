"""The GPU agent: on every node with GPUs, who uses how much GPU memory, and up to which limit.

`nvml` is the small interface to the driver with one implementation for NVIDIA's library; `simulation` stands in for it
where there is no GPU; `cgroups` finds the container of a process, `containers` its pod; `sampler` puts them together
once a second; `exposition` and `main` serve the result. It has no rights on the API and writes nothing.
"""
