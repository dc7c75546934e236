"""Repeats, and logs over connections that break, against a server that fails."""

from __future__ import annotations

import json
import threading
import urllib.parse
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

import anycloud as ac
from anycloud import _http, _spec
from anycloud.types import JobStatus, parse_time

Answer = Callable[["_Handler"], None]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers: List[Answer]
    asked: List[Dict[str, Any]]

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append({"method": self.command, "path": self.path, "headers": dict(self.headers), "body": json.loads(body or b"null")})
        self.answers.pop(0)(self)

    do_GET = do_POST = _serve

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def reply(self, status: int, body: Any, cut: int = 0) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) + cut))
        self.end_headers()
        self.wfile.write(data)
        if cut:
            self.close_connection = True


def reply(status: int, body: Any, cut: int = 0) -> Answer:
    return lambda h: h.reply(status, body, cut)


def hang_up(h: _Handler) -> None:
    h.close_connection = True


class Server:
    def __init__(self) -> None:
        self.answers: List[Answer] = []
        self.asked: List[Dict[str, Any]] = []
        handler = type("Handler", (_Handler,), {"answers": self.answers, "asked": self.asked})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.client = ac.Client(f"http://127.0.0.1:{self.http.server_port}", "t0ken")


@pytest.fixture
def server() -> Iterator[Server]:
    s = Server()
    yield s
    s.http.shutdown()
    s.http.server_close()


JOB = {"id": "ac-x-1", "state": "running", "revision": 7, "run": 1}


def test_lost_answers_make_one_job(server: Server) -> None:
    server.answers += [hang_up, reply(503, b"busy"), reply(200, b'{"job": {"id"', cut=10), reply(200, {"job": JOB, "repeat": True})]
    assert server.client.submit("img", spot=True).id == "ac-x-1"
    keys = {a["headers"]["Idempotency-Key"] for a in server.asked}
    assert len(server.asked) == 4 and len(keys) == 1
    assert server.asked[0]["headers"]["Authorization"] == "Bearer t0ken" and server.asked[0]["body"] == {"image": "img", "spot": True}


def test_what_must_not_be_repeated(server: Server) -> None:
    server.answers += [reply(200, JOB), hang_up, reply(200, JOB)]
    with pytest.raises(ac.Unreachable, match="is it running"):
        ac.Job(server.client, "ac-x-1").resubmit()
    assert [a["method"] for a in server.asked] == ["GET", "POST", "GET"]
    assert server.asked[1]["headers"]["If-Match"] == '"7"'
    # It was done all the same: the run's number tells.
    server.answers += [reply(200, JOB), hang_up, reply(200, {**JOB, "run": 2})]
    assert ac.Job(server.client, "ac-x-1").resubmit().id == "ac-x-1"


def test_refusals_are_final(server: Server) -> None:
    for status, kind in ((400, ac.InvalidRequest), (401, ac.Unauthorized), (404, ac.NotFound), (409, ac.Conflict), (412, ac.Stale), (418, ac.ApiError)):
        server.answers.append(reply(status, {"detail": "what happened: what to do", "code": "c", "status": status}))
        with pytest.raises(kind, match="what happened: what to do") as e:
            server.client.status("ac-x-1")
        assert e.value.status == status and e.value.code == "c"
    assert len(server.asked) == 6


def test_it_gives_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "PATIENCE", 0.3)
    server.answers += [hang_up] * 50
    with pytest.raises(ac.Unreachable):
        server.client.status("ac-x-1")


def line(n: int) -> Dict[str, Any]:
    return {"attempt": 1, "time": "2026-01-02T03:04:05.123456789Z", "stream": "stdout", "text": f"line {n}", "cursor": f"1:{n}"}


def test_followed_logs_over_broken_connections(server: Server) -> None:
    def stream(first: int, last: int, cut: int) -> Answer:
        return reply(200, b"".join(json.dumps(line(n)).encode() + b"\n" for n in range(first, last + 1)), cut)

    empty = reply(200, {"lines": [], "next": "", "more": False, "ended": False})
    server.answers += [
        stream(1, 3, cut=100), empty, hang_up, reply(200, {"lines": [line(4)], "next": "1:4", "more": False, "ended": False}),
        stream(5, 6, cut=0), reply(200, {"lines": [line(7)], "next": "1:7", "more": False, "ended": True}),
    ]
    got = list(ac.Job(server.client, "ac-x-1").logs(follow=True))
    assert got == [f"line {n}" for n in range(1, 8)]
    assert got[0].attempt == 1 and got[0].time == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=timezone.utc)
    after = [urllib.parse.parse_qs(urllib.parse.urlsplit(a["path"]).query).get("after", [""])[0] for a in server.asked]
    assert after == ["", "1:3", "1:3", "1:3", "1:4", "1:6"]


def test_newer_servers_fields_are_kept() -> None:
    s = JobStatus.of({"id": "x", "state": "running", "brand_new": 1, "checkpoint": {"latest": 3, "pause_seconds": {"p50": 0.5}}, "exit_code": None})
    assert s.raw["brand_new"] == 1 and s.checkpoint is not None and s.checkpoint.pause_seconds.p50 == 0.5 and s.exit_code is None


@pytest.mark.parametrize("text,want", [
    ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
    ("2026-01-02T05:04:05.5+02:00", datetime(2026, 1, 2, 3, 4, 5, 500000, tzinfo=timezone.utc)),
])
def test_times(text: str, want: Optional[datetime]) -> None:
    assert parse_time(text) == want


def test_fields() -> None:
    config = ac.CloudConfig(spot=True, region="eu-west-1", memory="16GiB", checkpoint_interval=timedelta(minutes=2))
    got = _spec.fields(config, {"spot": False, "command": ("a", 1), "gpu": None, "deadline": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)})
    assert got == {"spot": False, "region": ["eu-west-1"], "memory": "16GiB", "checkpoint_interval": 120.0, "command": ["a", "1"],
                   "deadline": "2026-01-02T03:04:05Z"}


def test_signed_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("botocore", reason="pip install 'anycloud[aws]'")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    client = ac.Client("https://abc123.execute-api.eu-west-1.amazonaws.com", "")
    assert client.http.signer is not None
    headers = client.http.signer("GET", client.http.endpoint + "/v1/jobs?all=true", {}, b"")
    assert "/eu-west-1/execute-api/aws4_request" in headers["Authorization"]
