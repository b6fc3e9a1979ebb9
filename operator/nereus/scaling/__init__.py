"""How many pods: the HorizontalPodAutoscaler rendered from the spec, and the predictive policy. No I/O, no clock.

hpa.py            the HorizontalPodAutoscaler of a service
protocol.py       the policy's public types: observation in, decision with its explanation out
policy.py         the policy for one service; fleet.py for many at once, the same code over arrays
memory.py, features.py, experts/, regression.py, mixture.py, forecaster.py    what is expected
price.py          what a late request may cost, from the objective
capacity.py       what one replica sustains
decision.py       up, hold or down within the bounds; explain.py puts it into words
"""
