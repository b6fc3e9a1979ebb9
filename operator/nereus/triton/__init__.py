"""Triton's own language: model configuration, server arguments, and the checks that Triton itself only logs."""
