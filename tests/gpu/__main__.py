"""`make gpu-test`: the checks on a real card, or one line that says why there are none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nereus.agent.nvml import DriverError, Nvml


def main() -> int:
    driver = Nvml()
    try:
        version, devices = driver.version(), driver.devices()
    except DriverError as error:
        print(f"gpu-test: nothing was checked, there is no NVIDIA GPU to be asked here ({error})")
        return 0
    print(f"gpu-test: driver {version}, {', '.join(device.product for device in devices)}")
    return subprocess.run([sys.executable, "-m", "pytest", "-v", str(Path(__file__).parent)], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
