"""What the product promises, a test for each; on both runtimes where containers matter."""

from __future__ import annotations

import pathlib
import shutil
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any, List

import pytest

import anycloud as ac
from anycloud.types import CloudConfig, JobStatus

from conftest import Box, until
from test_jobs import TRAINING

# A whole tree, and what there is to see of it.
TREE = r"""
cd "$ANYCLOUD_CHECKPOINT_DIR"
look() { ls -lAnR --full-time . | grep -v ^total; md5sum f sparse; }
if test -e f; then look; exit; fi
mkdir -p empty/dir; echo 1 > f; ln -s f link; truncate -s 1M sparse; echo x >> sparse; chmod 640 f; chmod 700 empty; touch -d '2001-09-09 01:46:40' f
look; eval "$1"
"""

# Counts to 30 in the checkpoint and in the output alike.
COUNT = r"""
n=$(cat "$ANYCLOUD_CHECKPOINT_DIR/n" 2>/dev/null || echo 0)
while test $n -lt 30; do n=$((n+1)); echo $n >> "$ANYCLOUD_OUTPUT_DIR/results"; echo $n > "$ANYCLOUD_CHECKPOINT_DIR/n"; echo at $n; sleep 0.1; done
"""

FOREVER = 'echo up; while :; do echo x >> "$ANYCLOUD_CHECKPOINT_DIR/x"; sleep 0.1; done'
UNTIL = 'echo up; while test ! -e "$1"; do sleep 0.05; done'


def sh(script: str, *args: object) -> List[str]:
    return ["sh", "-c", script, "sh", *map(str, args)]


def submit(image: str, script: str, *args: object, **keywords: Any) -> ac.Job:
    return ac.submit(image, command=sh(script, *args), **{"grace": 1, "checkpoint_interval": 1, **keywords})


def stdout(job: ac.Job) -> List[str]:
    return [str(line) for line in job.logs() if line.stream == "stdout"]


def says(job: ac.Job, line: str) -> None:
    until(f"a line {line!r}", lambda: line in stdout(job))


def ends(job: ac.Job, state: str, reason: str = "") -> JobStatus:
    status = job.wait(timeout=60)
    assert (status.state, status.reason) == (state, reason), (status.message, stdout(job))
    return status


@pytest.mark.parametrize("how", ["succeeded", "failed", "cancelled"])
def test_resubmit_finds_the_checkpoint_bit_for_bit(home: Box, image: str, how: str) -> None:
    home.serve()
    then = {"succeeded": "exit 0", "failed": "exit 1", "cancelled": "echo up; while :; do sleep 0.1; done"}[how]
    job = submit(image, TREE, then, spot=True, persist_bucket=how == "succeeded")
    if how == "cancelled":
        says(job, "up")
        with pytest.raises(ac.Conflict, match="running"):
            job.resubmit()
        job.cancel()
    status = ends(job, how, {"succeeded": "", "failed": "exit_code", "cancelled": "cancelled"}[how])
    assert status.bucket == job.id and (status.keep_until is None) == (how == "succeeded")
    before = [line for line in stdout(job) if line != "up"]
    assert job.resubmit(command=sh(TREE)).id == job.id
    status = ends(job, "succeeded")
    assert len(before) >= 10 and [line for line in stdout(job) if line != "up"] == before + before
    assert status.attempt == 2 and status.attempts[1].restored > 0


def test_a_bucket_ends_with_its_job(home: Box) -> None:
    home.serve()
    done = submit("exec:", "true", spot=True)
    failed = submit("exec:", "exit 3", spot=True, keep_checkpoint="2h")
    forgotten = submit("exec:", "exit 3", spot=True, keep_checkpoint=0)
    plain = submit("exec:", "true", persist_bucket=True)
    ends(done, "succeeded")
    status = ends(failed, "failed", "exit_code")
    ends(forgotten, "failed", "exit_code")
    assert ends(plain, "succeeded").bucket is None
    until("the end of the buckets", lambda: not home.bucket(done).exists() and not home.bucket(forgotten).exists())
    assert status.keep_until is not None and status.ended_at is not None and status.keep_until - status.ended_at == timedelta(hours=2)
    assert home.bucket(failed).exists() and not home.vms()
    with pytest.raises(ac.Conflict, match="submit it anew"):
        forgotten.resubmit()


def test_a_bucket_deleted_by_hand(home: Box) -> None:
    home.serve()
    kept = submit("exec:", "true", spot=True, persist_bucket=True)
    running = submit("exec:", FOREVER, spot=True)
    ends(kept, "succeeded")
    until("a commit", lambda: (running.status().checkpoint or ac.types.Checkpoint()).latest > 0)
    for job in (kept, running):
        shutil.rmtree(home.bucket(job))
    until("failing saves", lambda: (running.status().checkpoint or ac.types.Checkpoint()).health == "failing")
    status = running.status()
    assert status.state == "running" and status.checkpoint is not None and "no such bucket" in status.checkpoint.problem
    with pytest.raises(ac.Conflict, match="--fresh"):
        kept.resubmit()
    # One of the same name that somebody else made is not touched.
    theirs = home.bucket(kept) / "data" / "theirs"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    for fresh in (False, True):
        with pytest.raises(ac.Conflict, match="somebody else"):
            kept.resubmit(fresh=fresh)
    assert theirs.read_text() == "mine"
    shutil.rmtree(home.bucket(kept))
    kept.resubmit(fresh=True)
    ends(kept, "succeeded")
    running.cancel(now=True)
    ends(running, "cancelled", "cancelled")


def test_resubmits_make_one_run(home: Box) -> None:
    home.serve()
    job = submit("exec:", "exit 3", spot=True)
    old = ends(job, "failed", "exit_code")
    outcomes: List[object] = []

    def again() -> None:
        try:
            outcomes.append(ac.get(job.id).resubmit(command=sh('while test ! -e "$1"; do sleep 0.05; done', home.home / "go"), max_runtime="1h"))
        except (ac.Conflict, ac.Stale) as err:
            outcomes.append(err)

    threads = [threading.Thread(target=again) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len([o for o in outcomes if isinstance(o, ac.Job)]) == 1 and len(outcomes) == 4
    (home.home / "go").touch()
    status = ends(job, "succeeded")
    assert (status.run, status.attempt) == (old.run + 1, 2)
    # A repeat that comes late is about a run that is over.
    with pytest.raises(ac.Stale):
        job.client.http.call("POST", f"/v1/jobs/{job.id}/resubmit", {}, {"If-Match": f'"{old.revision}"'})
    with pytest.raises(ac.Stale):
        job.client.http.call("POST", f"/v1/jobs/{job.id}/cancel", {"now": True}, {"If-Match": f'"{old.revision}"'})


def test_persist(home: Box, image: str) -> None:
    home.serve("--pretend-prices", "36,72")
    job = submit(image, "true", spot=True, persist=True)
    status = ends(job, "succeeded")
    assert [(k.usd_per_hour, k.since is not None) for k in status.kept] == [(36, True)] and len(home.vms()) == 1
    assert not home.bucket(job).exists()
    job.cancel()
    until("the VM's end", lambda: not home.vms())
    until("its record", lambda: not job.status().kept and not job.status().doomed)
    assert job.status().succeeded


@pytest.mark.parametrize("notice", [3, 0])
def test_bucket_sync(home: Box, image: str, notice: int, tmp_path: pathlib.Path) -> None:
    home.serve()
    given, results = tmp_path / "given", tmp_path / "results"
    (given / "deep").mkdir(parents=True)
    (given / "deep" / "words").write_text("alpha\n")
    results.mkdir()
    (results / "theirs").write_text("mine")
    readonly = "" if image == "exec:" else '! touch "$ANYCLOUD_INPUT_DIR/x" 2>/dev/null || exit 9\n'
    job = submit(image, readonly + 'cat "$ANYCLOUD_INPUT_DIR/deep/words"' + COUNT, spot=True, input=f"file://{given}", output=f"file://{results}")
    says(job, "at 12")
    job.preempt(notice=notice)
    status = ends(job, "succeeded")
    assert (results / "results").read_text() == "".join(f"{n}\n" for n in range(1, 31))
    assert (results / "theirs").read_text() == "mine" and stdout(job)[0] == "alpha"
    assert status.preemptions == 1 and (status.lost_seconds == 0 or notice == 0)


def test_what_of_the_output_is_deleted_or_restored(home: Box, tmp_path: pathlib.Path) -> None:
    home.serve()
    kept, deleted, once = (tmp_path / name for name in ("kept", "deleted", "once"))
    rewrite = 'cd "$ANYCLOUD_OUTPUT_DIR"; echo 1 > a; while test ! -e "$1"; do sleep 0.05; done; rm a; echo 2 > b'
    jobs = [submit("exec:", rewrite, tmp_path / "go", spot=True, output=f"file://{to}", output_delete=to == deleted) for to in (kept, deleted)]
    half = 'cd "$ANYCLOUD_OUTPUT_DIR"; if test -e "$ANYCLOUD_CHECKPOINT_DIR/half"; then ls; exit; fi; echo 1 > a; touch "$ANYCLOUD_CHECKPOINT_DIR/half"; while :; do sleep 0.1; done'
    big = submit("exec:", half, spot=True, output=f"file://{once}", output_write_once=True)
    until("the first results", lambda: all((to / "a").exists() for to in (kept, deleted, once)))
    (tmp_path / "go").touch()
    until("a commit with the mark", lambda: (big.status().checkpoint or ac.types.Checkpoint()).files == 1)
    big.preempt(notice=0)
    for job in (*jobs, big):
        ends(job, "succeeded")
    assert sorted(p.name for p in kept.glob("[!.]*")) == ["a", "b"] and [p.name for p in deleted.glob("[!.]*")] == ["b"]
    assert (once / "a").read_text() == "1\n" and stdout(big) == []


def test_bucket_sync_refusals(home: Box, tmp_path: pathlib.Path) -> None:
    home.serve()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "large").touch()
    with open(tmp_path / "in" / "large", "r+b") as f:
        f.truncate(1 << 43)  # 8 TiB with nothing in it
    large = submit("exec:", "echo started", input=f"file://{tmp_path}/in")
    nothing = submit("exec:", "echo started", input=f"file://{tmp_path}/none")
    for job, words in ((large, "large|room|disk|space"), (nothing, "none")):
        status = ends(job, "failed", "input_failed")
        assert stdout(job) == [] and any(w in status.message for w in words.split("|")), status.message
    for keywords, words in (({"input": "/data"}, "no bucket URL"), ({"output": "s3://b/x"}, "reach buckets of file only"),
                            ({"output_delete": True}, "need an output")):
        with pytest.raises(ac.InvalidRequest, match=words):
            submit("exec:", "true", **keywords)


def test_on_demand(home: Box, image: str, tmp_path: pathlib.Path) -> None:
    home.serve()
    # The docker ones end by themselves at the second start: they see nothing of this machine's files.
    waits = "echo up; sleep 2" if image != "exec:" else UNTIL
    lost = submit(image, FOREVER.replace('"$ANYCLOUD_CHECKPOINT_DIR/x"', "/dev/null"))
    again = submit(image, waits, tmp_path / "go", restart_on_loss=True)
    retried = submit(image, "exit 7", retries=1)
    for job in (lost, again):
        says(job, "up")
        job.preempt(notice=0)
    says(again, "up")
    until("a second start", lambda: stdout(again).count("up") == 2)
    (tmp_path / "go").touch()
    assert ends(lost, "failed", "vm_lost").bucket is None
    status = ends(again, "succeeded")
    first, second = status.attempts
    assert not second.placement.spot and first.ended_at is not None and second.phases.started is not None and first.ended_at <= second.phases.started
    status = ends(retried, "failed", "exit_code")
    assert (status.failures, status.exit_code, status.preemptions) == (2, 7, 0)


def test_limits(home: Box) -> None:
    home.serve("--pretend-prices", "3600,7200")  # a dollar a second
    jobs = {
        "max_runtime": submit("exec:", FOREVER, spot=True, max_runtime=timedelta(seconds=2)),
        "deadline": submit("exec:", FOREVER, spot=True, deadline=timedelta(seconds=4)),
        "max_cost": submit("exec:", FOREVER, spot=True, max_cost=4),
        "max_preemptions": submit("exec:", FOREVER, spot=True, max_preemptions=0),
    }
    says(jobs["max_preemptions"], "up")
    jobs["max_preemptions"].preempt(notice=5)
    warned = submit("exec:", FOREVER, spot=True, max_cost=10)
    for limit, job in jobs.items():
        status = ends(job, "failed", limit)
        assert status.message and [x.limit for x in status.limits] == [limit] and job.checkpoints()[-1].sealed
    until("a warning", lambda: any(x.near and x.used >= 0.8 for x in warned.status().limits))
    ends(warned, "failed", "max_cost")
    # Limits count anew, and may be given anew.
    jobs["max_runtime"].resubmit(max_runtime="1h", command=["true"])
    ends(jobs["max_runtime"], "succeeded")
    with pytest.raises(ac.InvalidRequest, match="has passed"):
        submit("exec:", "true", deadline=datetime(2020, 1, 1, tzinfo=timezone.utc))


def test_retries(home: Box) -> None:
    home.serve()
    job = submit("exec:", 'd="$ANYCLOUD_CHECKPOINT_DIR"; echo x >> "$d/n"; n=$(wc -l < "$d/n"); echo try $n; test $n -ge 3', spot=True, retries=2)
    status = ends(job, "succeeded")
    assert stdout(job) == ["try 1", "try 2", "try 3"] and (status.failures, status.preemptions) == (2, 0)


def test_fallback(home: Box, tmp_path: pathlib.Path) -> None:
    home.serve()
    faults = home.home / "vms" / "faults.json"
    faults.parent.mkdir(exist_ok=True)
    faults.write_text('{"no_spot": true}')
    job = submit("exec:", UNTIL, tmp_path / "go", cloud_config=CloudConfig(spot=True, fallback="on-demand=1s"))
    says(job, "up")
    assert not job.status().attempts[0].placement.spot
    faults.unlink()
    job.preempt(notice=0)
    until("spot again", lambda: len(job.status().attempts) == 2 and job.status().state == "running")
    (tmp_path / "go").touch()
    assert ends(job, "succeeded").attempts[1].placement.spot


def test_secrets(home: Box, image: str, tmp_path: pathlib.Path) -> None:
    home.serve()
    hidden = "hunter2-very-secret"
    (tmp_path / "secret").write_text(hidden + "\n")
    job = submit(image, 'test "$TOKEN" = "$(echo terces-yrev-2retnuh | sed "s/.*/hunter2-very-secret/" | tr -d " ")" && echo right', spot=True,
                 secret={"TOKEN": f"file:{tmp_path}/secret"}, persist_bucket=True)
    status = ends(job, "succeeded")
    assert stdout(job) == ["right"] and hidden.encode() not in (home.home / "table.db").read_bytes().replace(b"s/.*/" + hidden.encode(), b"")
    assert "TOKEN" in str(status.raw) and "/secret" not in str(status.raw.get("env"))
    missing = submit(image, "true", secret={"X": "env:NO_SUCH_VARIABLE_ANYWHERE"})
    assert "NO_SUCH_VARIABLE_ANYWHERE" in ends(missing, "failed", "secret_failed").message
    with pytest.raises(ac.InvalidRequest, match="source") as e:
        submit(image, "true", secret={"X": hidden})
    assert hidden not in str(e.value)


@pytest.mark.parametrize("notice", [3, 0])
def test_the_pages_training_loop(home: Box, tmp_path: pathlib.Path, notice: int) -> None:
    home.serve()
    script = tmp_path / "train.py"
    script.write_text(TRAINING)
    job = ac.submit("exec:", command=[sys.executable, str(script)], cloud_config=CloudConfig(spot=True, checkpoint_interval=1), grace=1)
    says(job, "epoch 30")
    job.preempt(notice=notice)
    status = ends(job, "succeeded")
    epochs = [int(line.split()[1]) for line in stdout(job)]
    assert sorted(set(epochs)) == list(range(100))
    second = [int(line.split()[1]) for line in job.logs() if line.stream == "stdout" and line.attempt == 2]
    assert second == list(range(second[0], 100)) and (notice == 0 or len(epochs) <= 101)
    assert status.preemptions == 1 and not home.vms() and not home.bucket(job).exists()
