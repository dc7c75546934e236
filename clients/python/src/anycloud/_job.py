"""A job, by its id."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Union

from ._http import query, quote
from ._spec import fields
from .errors import ApiError, Stale, Unreachable, WaitTimeout
from .types import CloudConfig, Commit, JobStatus, LogLine

if TYPE_CHECKING:
    from ._client import Client

#: How often a waiting call asks, in seconds.
_LOOK_EVERY = 0.3

#: How long a control plane may be out of reach while a call waits, in seconds.
_OUT_OF_REACH = 60.0


class Job:
    """A job. It knows its id; everything else is asked for."""

    def __init__(self, client: Client, id: str) -> None:
        self.client = client
        self.id = id

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def _path(self, verb: str = "") -> str:
        return f"/v1/jobs/{quote(self.id)}{verb}"

    def status(self) -> JobStatus:
        """How the job is now."""
        return self.client.status(self.id)

    def wait(self, timeout: Union[None, float, timedelta] = None) -> JobStatus:
        """Waits until the job has ended, however that may be.

        WaitTimeout after timeout (seconds); the job goes on then.
        """
        if isinstance(timeout, timedelta):
            timeout = timeout.total_seconds()
        began = answered = time.monotonic()
        while True:
            try:
                status = self.status()
                answered = time.monotonic()
                if status.ended:
                    return status
            except (Unreachable, ApiError) as err:
                if isinstance(err, ApiError) and err.status < 500 or time.monotonic() - answered > _OUT_OF_REACH:
                    raise
            if timeout is not None and time.monotonic() - began + _LOOK_EVERY > timeout:
                raise WaitTimeout(f"job {self.id} has not ended within {timeout:g} s")
            time.sleep(_LOOK_EVERY)

    def logs(self, follow: bool = False, attempt: int = 0, tail: int = 0) -> Iterator[LogLine]:
        """The job's lines, across its attempts.

        follow goes on until the job's log has ended; a connection that breaks is
        taken up again behind the last line.
        """
        after = ""
        while True:
            for line in self._stream(after, attempt, tail) if follow else ():
                after, tail = line.cursor, 0
                yield line
            # Also what tells the log's end from a connection's.
            page = self._page(after, attempt, tail)
            for data in page["lines"]:
                line = LogLine.of(data)
                after, tail = line.cursor, 0
                yield line
            if not page.get("more") and (not follow or page.get("ended")):
                return

    def _page(self, after: str, attempt: int, tail: int) -> Dict[str, Any]:
        page: Dict[str, Any] = self.client.http.call(
            "GET", self._path("/logs") + query({"after": after, "attempt": attempt, "tail": tail}), repeat=True)
        return page

    def _stream(self, after: str, attempt: int, tail: int) -> Iterator[LogLine]:
        path = self._path("/logs") + query({"after": after, "attempt": attempt, "tail": tail, "follow": True})
        try:
            with self.client.http.open("GET", path) as response:
                while True:
                    raw = response.readline()
                    if not raw.endswith(b"\n"):
                        return
                    yield LogLine.of(json.loads(raw))
        except (Unreachable, OSError, HTTPException, ValueError):
            time.sleep(_LOOK_EVERY)  # the page that follows raises if it is for good

    def cancel(self, now: bool = False) -> JobStatus:
        """Ends the job: SIGTERM, grace, final commit; now: at once, without one.

        On an ended job it releases the VM that was kept.
        """
        seen = self.status()
        for _ in range(5):
            try:
                return self._post("/cancel", {"now": now}, seen.revision)
            except (Stale, Unreachable):
                run = seen.run
                seen = self.status()
                if seen.run != run:
                    raise  # another run, which nobody saw, is not ours to end
        return self._post("/cancel", {"now": now}, seen.revision)

    def resubmit(self, *, fresh: bool = False, cloud_config: Optional[CloudConfig] = None, **keywords: Any) -> Job:
        """Starts the ended job again: same id, from its retained bucket.

        Keywords are those of submit(); what is not given stays. fresh starts
        without the retained checkpoints.
        """
        spec = fields(cloud_config, keywords)
        body: Dict[str, Any] = {"fresh": fresh}
        if spec:
            body.update(spec={"image": "", **spec}, set=sorted(spec))
        seen = self.status()
        try:
            self._post("/resubmit", body, seen.revision)
        except Unreachable:
            # Done, perhaps, and not answered: the number of the run tells.
            if self.status().run != seen.run + 1:
                raise
        return self

    def preempt(self, notice: Union[None, str, float] = None) -> JobStatus:
        """A drill: the cloud's own interruption. 0 takes the VM without a word."""
        return self._post("/preempt", {} if notice is None else {"notice": notice})

    def checkpoints(self) -> List[Commit]:
        """The job's commits, oldest first."""
        page: Dict[str, Any] = self.client.http.call("GET", self._path("/checkpoints"), repeat=True)
        return [Commit.of(c) for c in page["commits"]]

    def checkpoint_now(self, timeout: float = 600.0) -> int:
        """Commits now; returns the commit's number once it is durable."""
        began = time.monotonic()
        reply: Dict[str, Any] = self.client.http.call("POST", self._path("/checkpoint"), {})
        while not reply["done"]:
            if time.monotonic() - began > timeout:
                raise WaitTimeout(f"the commit of job {self.id} was not durable within {timeout:g} s")
            time.sleep(_LOOK_EVERY)
            reply = self.client.http.call("POST", self._path("/checkpoint"), {"request": reply["request"]}, repeat=True)
        return int(reply["commit"])

    def _post(self, verb: str, body: Dict[str, Any], revision: int = 0) -> JobStatus:
        headers = {"If-Match": f'"{revision}"'} if revision else {}
        return JobStatus.of(self.client.http.call("POST", self._path(verb), body, headers))
