"""From a fresh machine to a served model, told step by step: `make demo`.

The steps are also what the e2e tests use to install Nereus on a cluster (`demo.install`), to talk to it
(`demo.kube`) and to put load on a service (`demo.load`).
"""
