"""A real control plane on this machine, built from the tree, for every test."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time
from typing import Callable, Iterator

import pytest

import anycloud

import engine

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("bin")
    for name in ("anycloud", "anycloud-agent"):
        subprocess.run(["go", "build", "-o", str(out / name), f"./cmd/{name}"], cwd=ROOT, check=True,
                       env={**os.environ, "CGO_ENABLED": "0"})
    return out


class Box:
    """One home, and the control plane that serves it."""

    def __init__(self, home: pathlib.Path, bin: pathlib.Path) -> None:
        self.home, self.bin = home, bin

    def serve(self, *flags: str) -> Box:
        """Starts the control plane that looks at every job each second."""
        self.home.mkdir(parents=True, exist_ok=True)
        with open(self.home / "serve.log", "wb") as log:
            subprocess.Popen([self.bin / "anycloud", "serve", "--tick", "1s", *flags], stdout=log, stderr=log, start_new_session=True)
        until("serve", lambda: "anycloud serves" in (self.home / "serve.log").read_text())
        return self

    def bucket(self, job: anycloud.Job) -> pathlib.Path:
        return self.home / "buckets" / job.id

    def vms(self) -> list[pathlib.Path]:
        return sorted((self.home / "vms").glob("i-*"))


def until(what: str, ok: Callable[[], bool], limit: float = 40) -> None:
    deadline = time.monotonic() + limit
    while not ok():
        assert time.monotonic() < deadline, f"{what}: not within {limit:g} s"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def busybox() -> Iterator[str]:
    """An image of this run alone."""
    image = engine.make(f"anycloud-test/python-{os.getpid()}")
    yield image
    engine.remove(image)


@pytest.fixture(params=["exec", "docker"])
def image(request: pytest.FixtureRequest) -> str:
    """What to submit on either runtime."""
    return "exec:" if request.param == "exec" else str(request.getfixturevalue("busybox"))


@pytest.fixture
def home(binaries: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A home without a control plane. Whatever starts one in it is ended."""
    box = Box(tmp_path / "home", binaries)
    for name in ("ANYCLOUD_ENDPOINT", "ANYCLOUD_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANYCLOUD_HOME", str(box.home))
    monkeypatch.setenv("ANYCLOUD_BIN", str(binaries / "anycloud"))
    monkeypatch.setenv("ANYCLOUD_PRETEND_GPUS", "a100:8")
    monkeypatch.setattr(anycloud._client, "_default", None)
    yield box
    if not box.home.exists():
        return
    for job in list(anycloud.Client().list(all=True)):
        if not job.ended or job.kept:
            anycloud.get(job.id).cancel(now=True)
            anycloud.get(job.id).wait(timeout=30)
    for pid in _serving(box.home):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 15
    while _serving(box.home) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _serving(box.home)


def _serving(home: pathlib.Path) -> list[int]:
    """The control planes of a home, found by their environment."""
    pids = []
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command, environ = (proc / "cmdline").read_bytes(), (proc / "environ").read_bytes()
        except OSError:
            continue
        if b"\0serve\0" in command and b"ANYCLOUD_HOME=" + os.fsencode(str(home)) + b"\0" in environ:
            pids.append(int(proc.name))
    return pids
