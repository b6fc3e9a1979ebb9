"""The whole of it on real parts: real kubelet, real Triton pods, the operator installed by the chart from its image."""
