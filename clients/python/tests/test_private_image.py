"""A private image from a real registry that wants a password."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from typing import Iterator

import pytest

import anycloud as ac

import engine
from conftest import Box, until

PASSWORD = "wonder: horse"
HTPASSWD = "acme:$2y$05$/u2dKDUBVje5KYlX33XdYuk5m0UrRzxYi6ldQk.MiMk9FMW7ap9DK\n"  # htpasswd -nbB


@pytest.fixture
def registry(tmp_path: pathlib.Path) -> Iterator[str]:
    if not shutil.which("docker-registry"):
        if os.environ.get("ANYCLOUD_REQUIRE_SUITES") == "all":
            pytest.fail("docker-registry is required: make setup")
        pytest.skip("there is no docker-registry: make setup")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        host = "127.0.0.1:%d" % s.getsockname()[1]
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    (tmp_path / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/data}}}}\n"
        f"http: {{addr: '{host}'}}\nauth: {{htpasswd: {{realm: test, path: {tmp_path}/htpasswd}}}}\n")
    server = subprocess.Popen(["docker-registry", "serve", str(tmp_path / "config.yml")])

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"http://{host}/v2/", timeout=5)
        except urllib.error.HTTPError as err:
            return err.code == 401
        except OSError:
            return False
        return False

    try:
        until("the registry", answers)
        yield host
    finally:
        server.kill()
        server.wait()


def test_private_image(home: Box, busybox: str, registry: str, tmp_path: pathlib.Path) -> None:
    home.serve()
    private = f"{registry}/acme/my-training:latest"
    engine.push(busybox, private, "acme", PASSWORD)
    engine.remove(private)
    (tmp_path / "plain").write_text(f"acme:{PASSWORD}\n")
    (tmp_path / "wrong").write_text("acme:guess")
    (tmp_path / "none").write_text(json.dumps({"auths": {}}))
    cases = {"": "image_denied", "wrong": "image_denied", "none": "secret_failed"}
    jobs = {f: ac.submit(private, command=["true"], registry_auth=f"file:{tmp_path}/{f}" if f else None) for f in cases}
    for f, job in jobs.items():
        status = job.wait(timeout=60)
        assert (status.state, status.reason) == ("failed", cases[f]), status.message
    with pytest.raises(ac.InvalidRequest, match="no source") as e:
        ac.submit(private, registry_auth=f"acme:{PASSWORD}")
    assert PASSWORD not in str(e.value)
    try:
        job = ac.submit(private, command=["echo", "pulled"], spot=True, registry_auth=f"file:{tmp_path}/plain")
        status = job.wait(timeout=60)
        assert status.succeeded, status.message
        assert [line for line in job.logs() if line.stream == "stdout"] == ["pulled"]
        assert PASSWORD not in str(status.raw) and PASSWORD.encode() not in (home.home / "table.db").read_bytes()
    finally:
        engine.remove(private)
