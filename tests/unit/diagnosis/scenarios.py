"""The scenarios: one observed world for each thing that can be said of a service, with the words it must be said in."""

from __future__ import annotations

from dataclasses import replace

from nereus.api.protocol import REPOSITORY, ModelState
from nereus.api.reasons import Reason
from nereus.diagnosis import ApplyFailure, StageInUse, World
from tests.unit.diagnosis.worlds import (
    REVISION,
    Scenario,
    autoscaler,
    condition,
    deployment,
    model,
    pod,
    report,
    running,
    service,
    serving_pod,
    terminated,
    unscheduled,
    waiting,
    world,
)

SCALED = service(scaling={"minReplicas": 1, "maxReplicas": 5})
NO_MEMORY = (
    "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 Insufficient"
    " memory. no new claims to deallocate, preemption: 0/3 nodes are available: 1 Preemption is not helpful for"
    " scheduling, 2 No preemption victims found for incoming pod."
)
NO_CLAIM = (
    '0/1 nodes are available: persistentvolumeclaim "weights" not found. no new claims to deallocate, preemption: 0/1'
    " nodes are available: 1 Preemption is not helpful for scheduling."
)
UNBOUND = (
    "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found. preemption: 0/1 nodes are"
    " available: 1 Preemption is not helpful for scheduling."
)
NO_IMAGE = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "registry.example/triton:nope": failed to'
    ' resolve reference "registry.example/triton:nope": registry.example/triton:nope: not found'
)
NO_QUOTA = (
    'pods "resnet-6d5f9c7b8d-x2k4p" is forbidden: exceeded quota: team, requested: requests.cpu=4, used:'
    " requests.cpu=14, limited: requests.cpu=16"
)
TRACEBACK = """I1121 11:59:40.120 1 pb_stub.cc:366] Failed to initialize Python stub
Traceback (most recent call last):
  File "/opt/tritonserver/run.py", line 12, in <module>
    import resnet_utils
ModuleNotFoundError: No module named 'resnet_utils'
"""
NO_METRICS = (
    "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource"
    " cpu: no metrics returned from resource metrics API"
)
MANUAL = """current memory usage
\texceeds the limit, the load will be rejected.

DEPRECATED:
  --strict-model-config <boolean>
\tDEPRECATED: If true model configuration files must be
\tprovided and all required configuration settings must be specified.
  --response-cache-byte-size <integer>
\tDEPRECATED: Please use --cache-config instead.
  --trace-log-frequency <integer>
\tlogs the 101-th to the 200-th traces to file <trace-file>.1.
\tDefault is 0.



"""
CRASH_LOOP = waiting("CrashLoopBackOff", "back-off 40s restarting failed container=triton pod=resnet_demo(7c9e)")
BLIND = [
    condition(
        "AbleToScale", "True", reason="SucceededGetScale", message="the HPA controller was able to get the target's"
    ),
    condition("ScalingActive", "False", reason="FailedGetContainerResourceMetric", message=NO_METRICS),
]


def _failing(state: ModelState, message: str, *, since: float = -300, serving: bool = False) -> World:
    """A pod whose one model fails."""
    failing = pod(sidecar=running(since + 10), server=running(since + 20), created=since)
    return world([failing], [report(model(state, message, serving=serving))])


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="every pod serves",
        world=world([serving_pod("a"), serving_pod("b")], [report(), report()], of=service(scaling={"minReplicas": 2})),
        reason=Reason.SERVING,
        says=("2/2 pods serve 1 model",),
        ready=True,
        health="Current",
    ),
    Scenario(
        name="one pod tries a change and cannot load it, the other goes on",
        world=replace(
            world(
                [serving_pod("resnet-a"), serving_pod("resnet-b")],
                [
                    report(model(ModelState.LOAD_FAILED, "version 1: Internal: no memory", serving=True), ready=True),
                    report(revision="former"),
                ],
                of=service(scaling={"strategy": "Manual", "replicas": 2}),
            ),
            stage=StageInUse(
                revision="former",
                next=REVISION,
                message="pod resnet-a tries the changed models and settings first",
                tries=frozenset({"resnet-a"}),
            ),
        ),
        reason=Reason.MODEL_LOAD_FAILED,
        says=("0/2 pods serve this spec, 1 still serves the former one", "resnet-a", "no memory"),
        also=(Reason.CHANGING,),
    ),
    Scenario(
        name="Triton did not survive a change, and the pod that tried it went back",
        world=replace(
            world(
                [serving_pod("resnet-a"), serving_pod("resnet-b")],
                [
                    report(revision="former", rejected=REVISION, rejected_why="Triton ended while it loaded resnet"),
                    report(revision="former"),
                ],
                of=service(scaling={"strategy": "Manual", "replicas": 2}),
            ),
            stage=StageInUse(
                revision="former",
                next=REVISION,
                message="pod resnet-a went back to the former models and settings",
                tries=frozenset({"resnet-a"}),
            ),
        ),
        reason=Reason.CHANGE_TAKEN_BACK,
        health="Failed",
        says=("0/2 pods serve this spec, 2 still serve the former one", "resnet-a", "ended while it loaded resnet"),
        also=(Reason.CHANGING,),
    ),
    Scenario(
        name="somebody changed a model in Triton and it was put right",
        world=world(
            [serving_pod()],
            [report(model(ModelState.READY, serving=True, versions=("1",), drift="max_batch_size changed in Triton"))],
        ),
        reason=Reason.SERVING,
        health="Current",
        ready=True,
        also=(Reason.DRIFTED,),
    ),
    Scenario(
        name="scaled to zero by hand",
        world=world(of=service(scaling={"strategy": "Manual", "replicas": 0}), told=deployment(0)),
        reason=Reason.SCALED_TO_ZERO,
        says=("spec.scaling.replicas is 0",),
        ready=True,
        health="Current",
    ),
    Scenario(
        name="a serving pod that is on its way out is no trouble",
        world=world(
            [serving_pod("a"), pod("b", deleting=True, sidecar=terminated(137), server=terminated(137))],
            [report(), None],
        ),
        reason=Reason.SERVING,
        says=("1/1 pod serves 1 model",),
        ready=True,
        health="Current",
    ),
    Scenario(
        name="suspended while it serves",
        world=world([serving_pod()], [report()], of=service(suspend=True)),
        reason=Reason.SUSPENDED,
        says=("1/1 pods serve", "spec.suspend is true"),
        health="Failed",
    ),
    Scenario(
        name="a Service of the name belongs to somebody else",
        world=world(
            apply_failures=(
                ApplyFailure(
                    object="Service resnet",
                    reason="NameTaken",
                    message="exists and is left alone",
                    manager="Deployment x",
                ),
            )
        ),
        reason=Reason.NAME_TAKEN,
        says=("Service resnet: exists and is left alone (belongs to Deployment x)",),
        health="Failed",
    ),
    Scenario(
        name="an admission policy refuses the Deployment",
        world=world(
            [serving_pod()],
            [report()],
            apply_failures=(
                ApplyFailure(
                    object="Deployment resnet",
                    reason="Forbidden",
                    message='admission webhook "policy.example" denied the request: label team is required',
                ),
            ),
        ),
        reason=Reason.APPLY_FAILED,
        says=("Deployment resnet", "label team is required", "1/1 pods serve"),
    ),
    Scenario(
        name="a quota refuses the pods",
        world=world(
            told=deployment(
                2,
                total=0,
                conditions=[condition("ReplicaFailure", "True", reason="FailedCreate", message=NO_QUOTA, since=-30)],
            ),
            of=service(scaling={"minReplicas": 2}),
        ),
        reason=Reason.PODS_REFUSED,
        says=("exceeded quota: team", "limited: requests.cpu=16", "0/2 pods serve"),
    ),
    Scenario(
        name="a quota refuses one more pod and the others serve",
        world=world(
            [serving_pod()],
            [report()],
            told=deployment(
                2,
                total=1,
                conditions=[condition("ReplicaFailure", "True", reason="FailedCreate", message=NO_QUOTA, since=-300)],
            ),
            of=SCALED,
        ),
        reason=Reason.PODS_REFUSED,
        ready=True,
        says=("1/2 pods serve", "exceeded quota: team"),
        health="Current",
    ),
    Scenario(
        name="a pod too large for every node, at first",
        world=world([unscheduled(NO_MEMORY)]),
        reason=Reason.UNSCHEDULABLE,
        says=("0/3 nodes are available", "2 Insufficient memory"),
    ),
    Scenario(
        name="a pod too large for every node, for longer than a node takes to come",
        world=world([unscheduled(NO_MEMORY, since=-600)]),
        reason=Reason.UNSCHEDULABLE,
        says=("2 Insufficient memory",),
        health="Failed",
    ),
    Scenario(
        name="a claim that does not exist",
        world=world([unscheduled(NO_CLAIM)], of=service(source="pvc://weights/resnet")),
        reason=Reason.UNSCHEDULABLE,
        says=('persistentvolumeclaim "weights" not found',),
    ),
    Scenario(
        name="a claim that no volume is bound to",
        world=world([unscheduled(UNBOUND)], of=service(source="pvc://weights/resnet")),
        reason=Reason.UNSCHEDULABLE,
        says=("unbound immediate PersistentVolumeClaims", "claims in use: weights"),
    ),
    Scenario(
        name="an image that does not exist, while the kubelet tries",
        world=world([pod(created=-20, sidecar=running(-10), server=waiting("ErrImagePull", NO_IMAGE))], [report()]),
        reason=Reason.IMAGE_PULL_FAILED,
        says=("container triton", "registry.example/triton:nope: not found"),
    ),
    Scenario(
        name="an image that does not exist, while the kubelet waits",
        world=world(
            [
                pod(
                    sidecar=running(),
                    server=waiting(
                        "ImagePullBackOff", f'Back-off pulling image "triton:nope": ErrImagePull: {NO_IMAGE}'
                    ),
                )
            ],
            [report()],
        ),
        reason=Reason.IMAGE_PULL_FAILED,
        says=("container triton", "registry.example/triton:nope: not found"),
        health="Failed",
    ),
    Scenario(
        name="an image that must be on the node and is not",
        world=world(
            [
                pod(
                    sidecar=waiting(
                        "ErrImageNeverPull",
                        'Container image "nereus-sidecar:0.1.0" is not present with pull policy of Never',
                    )
                )
            ]
        ),
        reason=Reason.IMAGE_PULL_FAILED,
        says=("nereus-sidecar:0.1.0", "pull policy of Never"),
        health="Failed",
    ),
    Scenario(
        name="a Secret that an environment variable names is missing",
        world=world(
            [pod(sidecar=waiting("CreateContainerConfigError", 'secret "hub-token" not found'))],
        ),
        reason=Reason.CONTAINER_CONFIG_ERROR,
        says=("container sidecar", 'secret "hub-token" not found'),
        health="Failed",
    ),
    Scenario(
        name="a ConfigMap volume that cannot be mounted, named by an event",
        world=world(
            [pod("a", created=-30, sandbox=False)],
            of=service(source="configmap://digits"),
            warnings={"a": 'MountVolume.SetUp failed for volume "source-4c1d" : configmap "digits" not found'},
        ),
        reason=Reason.CONTAINER_CONFIG_ERROR,
        says=('configmap "digits" not found', "source of resnet (spec.models[0])"),
    ),
    Scenario(
        name="a volume that cannot be mounted, without events",
        world=world([pod("a", created=-90, sandbox=False)], of=service(source="configmap://digits")),
        reason=Reason.CONTAINER_CONFIG_ERROR,
        says=("ConfigMap digits",),
        health="Failed",
    ),
    Scenario(
        name="a model that cannot be fetched",
        world=world(
            [pod(created=-30, sidecar=running(-25))],
            [report(model(ModelState.FETCH_FAILED, "try 3 of 5\nGET answered 404 Not Found\n"), fetched_at=None)],
        ),
        reason=Reason.FETCH_FAILED,
        says=("model resnet", "404 Not Found", "https://models.example/resnet.tar.gz"),
    ),
    Scenario(
        name="a model that could not be fetched for a while",
        world=world(
            [pod(sidecar=running())], [report(model(ModelState.FETCH_FAILED, "404 Not Found"), fetched_at=None)]
        ),
        reason=Reason.FETCH_FAILED,
        says=("404 Not Found",),
        health="Failed",
    ),
    Scenario(
        name="a configuration that does not fit the source's",
        world=_failing(
            ModelState.CONFIG_INVALID, "config.pbtxt:3:1: Message type has no field named 'max_batch'", since=-20
        ),
        reason=Reason.MODEL_CONFIG_INVALID,
        says=("model resnet", "no field named 'max_batch'"),
        health="Failed",
    ),
    Scenario(
        name="killed at its memory limit",
        world=world(
            [
                pod(
                    sidecar=running(),
                    server=CRASH_LOOP,
                    server_more={"restartCount": 4, "lastState": terminated(137, reason="OOMKilled")},
                    limits={"memory": "2Gi"},
                )
            ],
            [report(model(ModelState.FETCHED), server_live=False)],
        ),
        reason=Reason.OUT_OF_MEMORY,
        says=("container triton reached its memory limit 2Gi",),
        health="Failed",
    ),
    Scenario(
        name="a server that crashes, in the pause before the next try",
        world=world(
            [
                pod(
                    sidecar=running(),
                    server=CRASH_LOOP,
                    server_more={"restartCount": 4, "lastState": terminated(1, message=TRACEBACK)},
                )
            ],
            [report(model(ModelState.FETCHED), server_live=False)],
        ),
        reason=Reason.CRASHING,
        says=("container triton ended with exit code 1", "No module named 'resnet_utils'"),
        health="Failed",
    ),
    Scenario(
        name="a server that crashes, while it tries again",
        world=world(
            [
                pod(
                    sidecar=running(),
                    server=running(-3),
                    server_more={"restartCount": 4, "lastState": terminated(1, message=TRACEBACK, finished=-4)},
                )
            ],
            [report(model(ModelState.FETCHED), server_live=False)],
        ),
        reason=Reason.CRASHING,
        says=("container triton ended with exit code 1", "No module named 'resnet_utils'"),
        health="Failed",
    ),
    Scenario(
        name="a server that does not take an argument and prints its manual",
        world=world(
            [pod(sidecar=running(), server=CRASH_LOOP, server_more={"lastState": terminated(1, message=MANUAL)})],
            [report(model(ModelState.FETCHED), server_live=False)],
            of=service(runtime={"args": ["--no-such-flag", "--log-verbose=1"]}),
        ),
        reason=Reason.CRASHING,
        says=("exit code 1", "spec.runtime.args (--no-such-flag, --log-verbose=1)", "kubectl logs POD -c triton"),
        health="Failed",
    ),
    Scenario(
        name="a server that does not know an argument of ours",
        world=world(
            [pod(sidecar=running(), server=CRASH_LOOP, server_more={"lastState": terminated(1, message=MANUAL)})],
            [report(model(ModelState.FETCHED), server_live=False)],
        ),
        reason=Reason.CRASHING,
        says=("exit code 1", "this Triton lacks a flag that Nereus sets"),
        health="Failed",
    ),
    Scenario(
        name="a sidecar that crashes",
        world=world(
            [
                pod(
                    sidecar=waiting("CrashLoopBackOff", "back-off 10s restarting failed container=sidecar"),
                    sidecar_more={"restartCount": 2, "lastState": terminated(2, message="error: unknown argument --x")},
                )
            ]
        ),
        reason=Reason.CRASHING,
        says=("container sidecar ended with exit code 2", "unknown argument --x"),
        health="Failed",
    ),
    Scenario(
        name="a container that cannot be started at all",
        world=world(
            [
                pod(
                    sidecar=running(),
                    server=terminated(
                        128,
                        reason="StartError",
                        message='failed to create task: exec: "tritonserver": executable file not found in $PATH',
                    ),
                )
            ],
            [report(model(ModelState.FETCHED), server_live=False)],
        ),
        reason=Reason.CRASHING,
        says=("exit code 128: StartError", "executable file not found in $PATH"),
        health="Failed",
    ),
    Scenario(
        name="a model that Triton cannot load",
        world=_failing(
            ModelState.LOAD_FAILED,
            "failed to load 'resnet', failed to poll from model repository\n"
            "Internal: onnx runtime error 2: not enough space",
        ),
        reason=Reason.MODEL_LOAD_FAILED,
        says=("model resnet", "onnx runtime error 2: not enough space"),
        health="Failed",
    ),
    Scenario(
        name="a change that cannot be loaded while the former version serves",
        world=world([serving_pod()], [report(model(ModelState.LOAD_FAILED, "bad tensor", serving=True), ready=True)]),
        reason=Reason.MODEL_LOAD_FAILED,
        says=("bad tensor", "the former version goes on serving"),
    ),
    Scenario(
        name="a sidecar that never answers the operator",
        world=world([serving_pod()]),
        reason=Reason.UNHEALTHY,
        says=("/v1/state", "NetworkPolicy"),
    ),
    Scenario(
        name="a server that runs and does not answer",
        world=world(
            [pod(created=-250, sidecar=running(-240), server=running(-200))],
            [report(model(ModelState.FETCHED), server_live=False)],
        ),
        reason=Reason.UNHEALTHY,
        says=("does not answer its health probe",),
    ),
    Scenario(
        name="a rollout that gave up",
        world=world(
            [pod("new", template="b", sidecar=running(-30), created=-40)],
            told=deployment(
                1,
                total=2,
                updated=1,
                conditions=[
                    condition(
                        "Progressing",
                        "False",
                        reason="ProgressDeadlineExceeded",
                        message='ReplicaSet "resnet-b" has timed out progressing.',
                    )
                ],
            ),
        ),
        reason=Reason.UNHEALTHY,
        says=("has timed out progressing",),
        health="Failed",
    ),
    Scenario(
        name="the autoscaler is switched off because somebody scaled to zero",
        world=world(
            of=SCALED,
            told=deployment(0),
            hpa=autoscaler(
                conditions=[
                    condition(
                        "ScalingActive",
                        "False",
                        reason="ScalingDisabled",
                        message="scaling is disabled since the replica count of the target is zero",
                    )
                ]
            ),
        ),
        reason=Reason.HPA_FAILED,
        says=("kubectl scale deployment resnet --replicas=1",),
    ),
    Scenario(
        name="the Deployment is not there yet",
        world=world(told=None, of=service()),
        reason=Reason.CREATING,
        says=("0/1 pods serve",),
    ),
    Scenario(
        name="a pod that the scheduler has not seen",
        world=world([pod(created=-1, scheduled=condition("Other", "True"), conditions=[])]),
        reason=Reason.CREATING,
        says=("waits for the scheduler",),
    ),
    Scenario(
        name="the sidecar's image is pulled",
        world=world([pod(created=-10)]),
        reason=Reason.CONTAINERS_STARTING,
        says=("container sidecar starts",),
    ),
    Scenario(
        name="models are fetched",
        world=world(
            [pod(created=-30, sidecar=running(-20))],
            [report(model(ModelState.FETCHING), server_live=False, fetched_at=None)],
        ),
        reason=Reason.FETCHING_MODELS,
        says=("fetches resnet",),
    ),
    Scenario(
        name="a repository is fetched",
        world=world(
            [pod(created=-30, sidecar=running(-20))],
            [report(model(ModelState.FETCHING, name=REPOSITORY), server_live=False, fetched_at=None)],
            of=service(repository={"uri": "s3://models/zoo"}),
        ),
        reason=Reason.FETCHING_MODELS,
        says=("fetches the repository",),
    ),
    Scenario(
        name="a repository cannot be fetched",
        world=world(
            [pod(created=-30, sidecar=running(-20))],
            [
                report(
                    model(ModelState.FETCH_FAILED, "s3://models/zoo: NoSuchBucket", name=REPOSITORY), server_live=False
                )
            ],
            of=service(repository={"uri": "s3://models/zoo"}),
        ),
        reason=Reason.FETCH_FAILED,
        says=("the repository: s3://models/zoo: NoSuchBucket",),
    ),
    Scenario(
        name="a model of a repository is loaded",
        world=world(
            [pod(created=-30, sidecar=running(-20), server=running(-10))],
            [
                report(
                    model(ModelState.LOADING, name=REPOSITORY),
                    model(ModelState.READY, name="a", serving=True),
                    model(ModelState.LOADING, name="b"),
                )
            ],
            of=service(repository={"uri": "s3://models/zoo"}),
        ),
        reason=Reason.LOADING_MODELS,
        says=("loads and warms up b",),
    ),
    Scenario(
        name="models are fetched from a store that says how large they are",
        world=world(
            [pod(created=-30, sidecar=running(-20))],
            [
                report(
                    model(ModelState.FETCHING, fetched_bytes=1_499 << 20, total_bytes=3_482 << 20),
                    server_live=False,
                    fetched_at=None,
                )
            ],
        ),
        reason=Reason.FETCHING_MODELS,
        says=("fetches resnet (40 % of 3.4 GiB)",),
    ),
    Scenario(
        name="Triton's image is pulled",
        world=world([pod(created=-60, sidecar=running(-50))], [report(model(ModelState.FETCHED), server_live=False)]),
        reason=Reason.CONTAINERS_STARTING,
        says=("the models are fetched, container triton starts",),
    ),
    Scenario(
        name="Triton loads and warms up",
        world=world([pod(created=-60, sidecar=running(-50), server=running(-20))], [report(model(ModelState.LOADING))]),
        reason=Reason.LOADING_MODELS,
        says=("loads and warms up resnet",),
    ),
    Scenario(
        name="a changed plan on its way to a serving pod",
        world=world([serving_pod()], [report(revision="0000000000000000")]),
        reason=Reason.RECONCILING,
        says=("has not taken up the newest models",),
    ),
    Scenario(
        name="a rollout",
        world=world(
            [
                serving_pod("old-1", template="a", created=-9000),
                serving_pod("old-2", template="a", created=-9000),
                serving_pod("new-1", template="b", created=-100),
            ],
            [report(), report(), report()],
            of=service(scaling={"minReplicas": 2}),
            told=deployment(2, total=3, updated=1),
        ),
        reason=Reason.ROLLING_OUT,
        says=("1/2 pods serve this spec, 2 of the former template still serve", "1/2 pods have the new template"),
    ),
    Scenario(
        name="a rollout whose new pods cannot start",
        world=world(
            [
                serving_pod("old-1", template="a", created=-9000),
                pod("new-1", template="b", sidecar=running(), server=waiting("ImagePullBackOff", NO_IMAGE)),
            ],
            [report(), report(model(ModelState.FETCHED), server_live=False)],
            told=deployment(1, total=2, updated=1),
        ),
        reason=Reason.IMAGE_PULL_FAILED,
        says=("0/1 pods serve this spec, 1 of the former template still serves", "triton:nope: not found"),
        health="Failed",
        also=(Reason.ROLLING_OUT,),
    ),
    Scenario(
        name="a rollout that repairs a broken image",
        world=world(
            [
                pod("new-1", template="b", created=-5),
                pod("old-1", template="a", created=-900, server=waiting("ImagePullBackOff", NO_IMAGE)),
            ],
            told=deployment(1, total=2, updated=1),
        ),
        reason=Reason.CONTAINERS_STARTING,
        also=(Reason.ROLLING_OUT, Reason.IMAGE_PULL_FAILED),
    ),
    Scenario(
        name="the autoscaler adds a pod",
        world=world([serving_pod()], [report()], of=SCALED, told=deployment(2, total=1), hpa=autoscaler(desired=2)),
        reason=Reason.SCALING_PODS,
        ready=True,
        says=("1/2 pods serve", "from 1 to 2 pods"),
        health="Current",
    ),
    Scenario(
        name="the autoscaler is blind and the service serves",
        world=world([serving_pod()], [report()], of=SCALED, hpa=autoscaler(cpu=None, conditions=BLIND)),
        reason=Reason.SERVING,
        ready=True,
        health="Current",
        also=(Reason.HPA_BLIND,),
    ),
    Scenario(
        name="a pod was evicted and another one serves",
        world=world(
            [
                pod(
                    "gone",
                    phase="Failed",
                    reason="Evicted",
                    message="The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi.",
                ),
                serving_pod("here"),
            ],
            [None, report()],
        ),
        reason=Reason.SERVING,
        ready=True,
        health="Current",
        also=(Reason.EVICTED,),
    ),
    Scenario(
        name="a pod that was killed for memory and serves again",
        world=world(
            [
                serving_pod(
                    limits={"memory": "2Gi"},
                    server_more={"restartCount": 1, "lastState": terminated(137, reason="OOMKilled", finished=-400)},
                )
            ],
            [report()],
        ),
        reason=Reason.SERVING,
        ready=True,
        health="Current",
        also=(Reason.OUT_OF_MEMORY,),
    ),
)
