"""The page's snippet as it is written, on an image of that name built here."""

from __future__ import annotations

import http.client
import io
import os
import shutil
import socket
import tarfile
import urllib.parse
from typing import Iterator

import pytest

import anycloud as ac
from anycloud.types import CloudConfig

IMAGE = "ghcr.io/acme/my-training"
SOCKET = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")

# The page's training loop in the words of a shell: no image can be pulled here.
TRAINING = r"""
n=0; s=/mnt/checkpoint/state.json
test -e $s && n=$(sed 's/[^0-9]//g' $s)
while test $n -lt 100; do echo epoch $n; n=$((n+1)); echo "{\"epoch\": $n}" > $s.new; mv $s.new $s; sleep 0.1; done
"""


class _Engine(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(SOCKET.replace("unix://", "", 1))


def _engine(method: str, path: str, body: bytes = b"") -> int:
    c = _Engine("docker")
    try:
        c.request(method, path, body, {"Content-Type": "application/x-tar"})
        response = c.getresponse()
        response.read()
        return response.status
    except OSError:
        return 0
    finally:
        c.close()


@pytest.fixture
def image() -> Iterator[str]:
    busybox = shutil.which("busybox")
    if not busybox or _engine("GET", "/_ping") != 200:
        if os.environ.get("ANYCLOUD_REQUIRE_SUITES") == "all":
            pytest.fail("docker and a static busybox are required: make setup, and start dockerd")
        pytest.skip("no container engine answers: make setup && sudo dockerd")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(busybox, "bin/busybox")
        for name in ("sh", "sed", "sleep", "mv", "echo", "test"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        text = TRAINING.encode()
        script = tarfile.TarInfo("train.sh")
        script.size = len(text)
        tar.addfile(script, io.BytesIO(text))
    query = urllib.parse.urlencode([("fromSrc", "-"), ("repo", IMAGE), ("tag", "latest"), ("changes", "ENV PATH=/bin"),
                                    ("changes", 'ENTRYPOINT ["sh", "/train.sh"]')])
    assert _engine("POST", f"/images/create?{query}", out.getvalue()) == 200
    yield f"{IMAGE}:latest"
    _engine("DELETE", f"/images/{urllib.parse.quote(IMAGE + ':latest', safe='')}?force=true")


def test_the_pages_snippet(home: object, image: str) -> None:
    job = ac.submit("ghcr.io/acme/my-training:latest", gpu="a100:all", cloud_config=CloudConfig(spot=True))
    lines = []
    for line in job.logs(follow=True):
        if line.stream == "stdout":
            lines.append(line)
            if line == "epoch 20":
                job.preempt(notice=5)
    status = job.wait()
    assert status.succeeded, (status.reason, status.message)
    assert sorted({int(line.split()[1]) for line in lines}) == list(range(100))
    assert status.preemptions == 1 and status.attempts[0].placement.gpus == 8
