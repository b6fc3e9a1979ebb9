"""The sidecar as a process: what it needs, what it writes first, what it says, how it ends."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nereus.api.protocol import PLAN_KEY, ModelPlan, Plan, PodReport, digest, model_key
from nereus.sidecar import adminkey, logs
from tests.harness.sidecar import SidecarProcess


def test_the_sidecar_needs_no_package_of_the_operator_and_little_memory() -> None:
    program = (
        "import sys; import nereus.sidecar.main;"
        "heavy = {'kopf','kubernetes','yaml','numpy','grpc','pydantic','requests','prometheus_client'};"
        "print(sorted({m.split('.')[0] for m in sys.modules} & heavy));"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy, kilobytes = done.stdout.splitlines()
    assert heavy == "[]"
    assert int(kilobytes) < 60_000


@dataclass
class Running:
    """A sidecar with no Triton beside it."""

    process: SidecarProcess
    root: Path


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with SidecarProcess(tmp_path, triton_ports=(1, 1, 1)) as process:
        yield Running(process, tmp_path)


def test_the_admin_key_is_there_first_for_the_group_only_and_stays_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "run" / "admin-key"
    key = adminkey.ensure(path)
    assert len(key) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o440
    assert adminkey.ensure(path) == key
    assert adminkey.ensure(tmp_path / "other" / "admin-key") != key


def test_without_a_plan_nothing_starts_and_the_report_says_why(running: Running) -> None:
    running.process.start()
    status, body = running.process.get("/started")
    assert status == 503
    assert "plan.json does not exist" in body
    assert running.process.get("/live")[0] == 200
    report = PodReport.from_json(running.process.get("/v1/state")[1])
    assert not report.ready
    assert report.started_at is not None
    assert time.time() - report.started_at < 60
    assert [text for text in report.problems if "plan.json does not exist" in text]


def test_triton_may_start_when_the_plan_is_carried_out_on_disk(running: Running) -> None:
    (running.root / "source").mkdir()
    (running.root / "source/model.py").write_text("x")
    model = ModelPlan(name="m", source="configmap://source", directory=str(running.root / "source"))
    running.process.write_plan(model)
    running.process.start()
    running.process.until(lambda: running.process.get("/started")[0] == 200)
    assert running.process.get("/ready")[0] == 503
    running.process.until((running.process.repository / "m/config.pbtxt").exists)
    assert (running.process.repository / "m/config.pbtxt").read_text() == 'name: "m"\n'
    assert (running.process.repository / "m/1/model.py").read_text() == "x"


def test_a_half_updated_volume_changes_nothing_until_the_rest_arrives(running: Running) -> None:
    (running.root / "source").mkdir()
    (running.root / "source/model.py").write_text("x")
    process = running.process
    first = ModelPlan(name="m", source="configmap://source", directory=str(running.root / "source"))
    process.write_plan(first)
    process.start()
    process.until(lambda: process.report().revision)
    before = process.report().revision
    second = ModelPlan(**{**first.__dict__, "fields_text": "max_batch_size: 4"})
    new = Plan(models={"m": digest(second.to_json())})
    (process.plan / PLAN_KEY).write_text(new.to_json())
    process.until(lambda: any("another age" in text for text in process.report().problems))
    assert process.report().revision == before
    (process.plan / model_key("m")).write_text(second.to_json())
    (process.plan / PLAN_KEY).write_text(new.to_json())
    process.until(lambda: process.report().revision == new.revision)
    process.until(lambda: "max_batch_size: 4" in (process.repository / "m/config.pbtxt").read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_when_told(running: Running, number: signal.Signals) -> None:
    running.process.start()
    started = time.monotonic()
    assert running.process.stop(number) == 0
    assert time.monotonic() - started < 3


def test_logs_are_json_and_hold_no_secret(running: Running) -> None:
    secret = "hunter2-token"
    running.process.write_plan(ModelPlan(name="m", source=f"https://user:{secret}@localhost:1/m.onnx?sig={secret}"))
    running.process.start()
    running.process.until(lambda: running.process.report().models[0].message)
    assert secret not in running.process.get("/v1/state")[1]
    running.process.stop()
    text = running.process.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert any(line.get("model") == "m" and line["level"] == "warning" for line in lines)
    assert secret not in text
    assert (running.process.admin_key.read_text()) not in text


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://u:p@host:8443/a/b.tgz?X-Sig=1#f", "https://host:8443/a/b.tgz?[redacted]"),
        ("https://host/a", "https://host/a"),
        ("configmap://name/prefix", "configmap://name/prefix"),
        ("https://[::1", "(an address that cannot be parsed)"),
    ],
)
def test_what_may_be_a_credential_is_taken_out_of_an_address(uri: str, shown: str) -> None:
    assert logs.redact(uri) == shown


def test_a_repository_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where a directory should be")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [
            *(sys.executable, "-c", "import sys; from nereus.sidecar.main import main; sys.exit(main(sys.argv[1:]))"),
            *(f"--repository={tmp_path}/models", f"--admin-key={tmp_path}/run/key", f"--plan={tmp_path}"),
        ],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 1
    assert "Not a directory" in json.loads(done.stdout.splitlines()[-1])["why"]
    assert "Traceback" not in done.stdout + done.stderr
