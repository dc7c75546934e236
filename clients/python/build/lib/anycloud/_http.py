"""Calls over HTTP: JSON in and out, bounded repeats, errors as exceptions."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException, HTTPResponse
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from .errors import ApiError, Unreachable, of_status

#: How long calls that may be repeated are repeated while no answer comes, in seconds.
PATIENCE = 10.0

Signer = Callable[[str, str, Mapping[str, str], bytes], Dict[str, str]]


class Transport:
    """One control plane's endpoint."""

    def __init__(self, endpoint: str, token: str = "", timeout: float = 60.0, signer: Optional[Signer] = None) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.token = token
        self.timeout = timeout
        self.signer = signer
        # Environment proxies are for the world, not for a control plane on loopback.
        host = urllib.parse.urlsplit(self.endpoint).hostname or ""
        handlers = [urllib.request.ProxyHandler({})] if host in ("127.0.0.1", "localhost", "::1") else []
        self._opener = urllib.request.build_opener(*handlers)

    def open(self, method: str, path: str, body: Any = None, headers: Optional[Mapping[str, str]] = None) -> HTTPResponse:
        """One try. The caller closes the response."""
        data = b"" if body is None else json.dumps(body).encode()
        url = self.endpoint + path
        send: Dict[str, str] = dict(headers or {})
        if body is not None:
            send["Content-Type"] = "application/json"
        if self.signer is not None:
            send = self.signer(method, url, send, data)
        elif self.token:
            send["Authorization"] = "Bearer " + self.token
        request = urllib.request.Request(url, data=data if body is not None else None, headers=send, method=method)
        try:
            response: HTTPResponse = self._opener.open(request, timeout=self.timeout)
            return response
        except urllib.error.HTTPError as err:
            with err:
                raise _problem(err.code, err.read(1 << 20)) from None
        except (OSError, HTTPException) as err:
            reason = getattr(err, "reason", err)
            raise Unreachable(f"the control plane at {self.endpoint} does not answer ({reason}): is it running?") from err

    def call(self, method: str, path: str, body: Any = None, headers: Optional[Mapping[str, str]] = None, repeat: bool = False) -> Any:
        """One call. repeat: it may be sent again until it is answered."""
        deadline, pause = time.monotonic() + PATIENCE, 0.05
        while True:
            try:
                with self.open(method, path, body, headers) as response:
                    try:
                        return json.loads(response.read())
                    except (OSError, HTTPException, ValueError) as err:
                        raise Unreachable(f"the answer of {self.endpoint} was cut short: {err}") from err
            except (Unreachable, ApiError) as err:
                final = isinstance(err, ApiError) and err.status < 500
                if final or not repeat or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 1.0)


def _problem(status: int, body: bytes) -> ApiError:
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    return of_status(status, problem if isinstance(problem, dict) else None, "")


def query(values: Mapping[str, Any]) -> str:
    """The query of a URL; what is empty is left out."""
    given = {k: ("true" if v is True else str(v)) for k, v in values.items() if v not in (None, "", 0, False)}
    return "?" + urllib.parse.urlencode(given) if given else ""


def quote(part: str) -> str:
    """One element of a path."""
    return urllib.parse.quote(part, safe="")


def split_host(endpoint: str) -> Tuple[str, str]:
    """Service and region of an AWS HTTP API's host; empty for others."""
    host = urllib.parse.urlsplit(endpoint).hostname or ""
    parts = host.split(".")
    if len(parts) >= 5 and parts[1] == "execute-api" and parts[3] == "amazonaws":
        return "execute-api", parts[2]
    return "", ""
