"""Jobs on a real control plane, the exec runtime running them."""

from __future__ import annotations

import pathlib
import sys
import textwrap
from datetime import timedelta

import pytest

import anycloud as ac
from anycloud.types import CloudConfig

from conftest import until

# The page's own training loop.
TRAINING = textwrap.dedent("""
    import json, os, pathlib, time
    state = pathlib.Path(os.environ.get("ANYCLOUD_CHECKPOINT_DIR", "/mnt/checkpoint")) / "state.json"
    n = json.loads(state.read_text())["epoch"] if state.exists() else 0
    for epoch in range(n, 100):
        print("epoch", epoch, flush=True)
        time.sleep(0.05)
        new = state.with_suffix(".new")
        new.write_text(json.dumps({"epoch": epoch + 1}))
        new.rename(state)
""")


def test_training_survives_a_preemption(home: object, tmp_path: pathlib.Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAINING)
    job = ac.submit("exec:", command=[sys.executable, str(script)], cloud_config=CloudConfig(spot=True, checkpoint_interval="1s"), grace=1)
    until("some epochs", lambda: any(line == "epoch 10" for line in job.logs()))
    job.preempt(notice="2s")
    status = job.wait(timeout=60)
    assert status.succeeded and status.exit_code == 0 and status.preemptions == 1 and status.lost_seconds == 0
    lines = [line for line in job.logs() if line.stream == "stdout"]
    assert sorted({int(line.split()[1]) for line in lines}) == list(range(100))
    assert {line.attempt for line in lines} == {1, 2}
    assert status.attempts[1].placement.spot and status.attempts[1].phases.started is not None
    assert status.attempts[0].ended_at is not None and status.attempts[0].ended_at.tzinfo is not None


def test_follow_resubmit_and_checkpoints(home: object) -> None:
    script = 'n=$(cat "$ANYCLOUD_CHECKPOINT_DIR/n" 2>/dev/null || echo 0); echo run $n; echo $((n+1)) > "$ANYCLOUD_CHECKPOINT_DIR/n"; exit $((3-3*n))'
    job = ac.submit("exec:", command=["sh", "-c", script], spot=True, name="twice", env={"A": 1}, keep_checkpoint=timedelta(hours=1))
    assert [line for line in job.logs(follow=True) if line.stream == "stdout"] == ["run 0"]
    status = job.wait(timeout=30)
    assert (status.state, status.reason, status.exit_code, status.name, status.env) == ("failed", "exit_code", 3, "twice", ["A"])
    assert status.keep_until is not None and status.bucket == job.id
    commits = job.checkpoints()
    assert commits and commits[-1].sealed and commits[-1].exit_code == 3 and commits[-1].files == 1
    assert job.resubmit(retries=1).id == job.id
    assert job.wait(timeout=30).succeeded
    assert [line for line in job.logs(follow=True) if line.stream == "stdout"] == ["run 0", "run 1"]
    with pytest.raises(ac.Conflict, match="submit it anew"):
        job.resubmit()


def test_cancel_and_wait(home: object) -> None:
    job = ac.submit("exec:", command=["sh", "-c", "echo up; while :; do sleep 0.05; done"], spot=True, checkpoint_interval=1, grace="1s")
    until("its start", lambda: "up" in list(job.logs()))
    assert job.checkpoint_now() >= 1
    with pytest.raises(ac.WaitTimeout):
        job.wait(timeout=0.5)
    assert [j.id for j in ac.list()] == [job.id]
    assert job.cancel().state == "stopping"
    status = job.wait(timeout=timedelta(seconds=30))
    assert status.state == "cancelled" and status.ended and not status.succeeded
    assert [j.id for j in ac.list()] == [] and [j.id for j in ac.list(state="cancelled")] == [job.id]
    assert job.cancel().state == "cancelled"  # a repeat is harmless


def test_gpus_are_the_machines(home: object) -> None:
    job = ac.submit("exec:", command=["true"], gpu="a100:all")
    assert job.wait(timeout=30).succeeded
    assert job.status().attempts[0].placement.gpus == 8
    with pytest.raises(ac.InvalidRequest, match="h100"):
        ac.submit("exec:", command=["true"], gpu="h100:1")


def test_the_servers_words(home: object) -> None:
    with pytest.raises(ac.InvalidRequest, match="exclude each other") as e:
        ac.submit("img", gpu="a100", vm_type="p4d.24xlarge")
    assert e.value.status == 400 and e.value.code == "invalid"
    with pytest.raises(ac.NotFound, match="list --all"):
        ac.get("ac-none-0000000000")
    with pytest.raises(TypeError, match="list of words"):
        ac.submit("exec:", command="true")
    client = ac.default_client()
    with pytest.raises(ac.Unauthorized):
        next(ac.Client(client.http.endpoint, "wrong").list())
    first = client.submit("exec:", command=["true"], idempotency_key="k")
    assert client.submit("exec:", command=["true"], idempotency_key="k").id == first.id


def test_no_program(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANYCLOUD_BIN")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ac.NotStarted, match="ANYCLOUD_BIN"):
        ac.Client()
    monkeypatch.setenv("ANYCLOUD_ENDPOINT", "localhost:1")
    with pytest.raises(ac.NotStarted, match="no URL"):
        ac.Client()
    monkeypatch.undo()
