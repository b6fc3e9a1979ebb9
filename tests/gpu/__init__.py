"""Checks that need a real NVIDIA GPU: `make gpu-test`. One line where there is none; never part of `make test`."""
