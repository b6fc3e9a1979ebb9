"""Allocates GPU memory in steps with the driver's own API, says how much it got, and holds it until its input ends.

`python allocate.py MIB` prints `allocated N` (MiB), N below MIB where the driver refused. Standard library only.
"""

from __future__ import annotations

import ctypes
import sys

STEP_MIB = 64


def main(wanted_mib: int) -> int:
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context, pointer = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    for name, code in (
        ("cuInit", cuda.cuInit(0)),
        ("cuDeviceGet", cuda.cuDeviceGet(ctypes.byref(device), 0)),
        ("cuCtxCreate", cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device)),
    ):
        if code != 0:
            print(f"failed {name}: CUDA error {code}", flush=True)
            return 1
    got = 0
    while got < wanted_mib and cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(STEP_MIB * 2**20)) == 0:
        got += STEP_MIB
    print(f"allocated {got}", flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
