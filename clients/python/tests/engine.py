"""The container engine, as far as the tests need one: images made here, for no image can be pulled."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import shutil
import socket
import tarfile
import urllib.parse
from typing import Mapping, Sequence

import pytest

SOCKET = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
APPLETS = "sh cat md5sum date echo env find grep ln ls mkdir mv rm sed seq sleep sort stat test touch tr true truncate".split()


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(SOCKET.replace("unix://", "", 1))


def call(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = {}) -> tuple[int, str]:
    c = _Connection("docker")
    try:
        c.request(method, path, body, {"Content-Type": "application/x-tar", **headers})
        response = c.getresponse()
        return response.status, response.read().decode()
    except OSError as err:
        return 0, str(err)
    finally:
        c.close()


def need() -> str:
    """The path of a static busybox, if an engine answers too; else the test is left out."""
    busybox = shutil.which("busybox")
    if busybox and call("GET", "/_ping")[0] == 200:
        return busybox
    if os.environ.get("ANYCLOUD_REQUIRE_SUITES") == "all":
        pytest.fail("docker and a static busybox are required: make setup, and start dockerd")
    pytest.skip("no container engine answers: make setup && sudo dockerd")


def make(repo: str, files: Mapping[str, str] = {}, changes: Sequence[str] = ()) -> str:
    """Makes the image repo:latest of busybox and some files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(need(), "bin/busybox")
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name in ("tmp", "mnt"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(directory)
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    query = urllib.parse.urlencode([("fromSrc", "-"), ("repo", repo), ("tag", "latest"), ("changes", "ENV PATH=/bin"), *(("changes", c) for c in changes)])
    status, said = call("POST", f"/images/create?{query}", out.getvalue())
    assert status == 200, said
    return f"{repo}:latest"


def push(image: str, to: str, user: str, password: str) -> None:
    """Gives the image the name to, and pushes it there."""
    repo, _, tag = to.rpartition(":")
    status, said = call("POST", f"/images/{urllib.parse.quote(image, safe='')}/tag?" + urllib.parse.urlencode({"repo": repo, "tag": tag}))
    assert status == 201, said
    auth = base64.urlsafe_b64encode(json.dumps({"username": user, "password": password}).encode()).decode()
    status, said = call("POST", f"/images/{urllib.parse.quote(repo, safe='')}/push?tag={tag}", headers={"X-Registry-Auth": auth})
    assert status == 200 and "errorDetail" not in said, said


def remove(image: str) -> None:
    call("DELETE", f"/images/{urllib.parse.quote(image, safe='')}?force=true")
