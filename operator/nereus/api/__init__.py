"""The ModelService resource as types: what a user writes, what the operator answers, and the words for both.

Imports nothing of ours. Deliberately re-exports nothing: the sidecar imports `nereus.api.protocol` and
`nereus.api.names` alone and must not load the resource's validation library with them.
"""
