"""The calls of a control plane."""

from __future__ import annotations

import os
import threading
import uuid
from datetime import datetime, timedelta
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Union

from . import _discover
from ._http import Transport, query, quote, split_host
from ._job import Job
from ._spec import fields
from .types import CloudConfig, Duration, JobStatus, Size


class Client:
    """One control plane. Without arguments: the one that the command line uses."""

    def __init__(self, endpoint: Optional[str] = None, token: Optional[str] = None) -> None:
        if endpoint is None:
            endpoint, found = _discover.find()
            token = found if token is None else token
        service, region = split_host(endpoint)
        signer = None
        if service or os.environ.get("ANYCLOUD_AUTH") == "iam":
            from ._aws import signer as make

            signer = make(service or "execute-api", region or os.environ.get("AWS_REGION", "us-east-1"))
        self.http = Transport(endpoint, token or "", signer=signer)

    def submit(
        self,
        image: str,
        *,
        command: Optional[Sequence[str]] = None,
        gpu: Optional[str] = None,
        cloud_config: Optional[CloudConfig] = None,
        name: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        secret: Optional[Mapping[str, str]] = None,
        registry_auth: Optional[str] = None,
        workdir: Optional[str] = None,
        shm_size: Optional[Size] = None,
        spot: Optional[bool] = None,
        vm_type: Optional[str] = None,
        cpus: Optional[float] = None,
        memory: Optional[Size] = None,
        disk: Optional[Size] = None,
        arch: Optional[str] = None,
        cloud: Union[None, str, List[str]] = None,
        region: Union[None, str, List[str]] = None,
        zone: Union[None, str, List[str]] = None,
        fallback: Optional[str] = None,
        checkpoint_interval: Optional[Duration] = None,
        grace: Optional[Duration] = None,
        max_pause: Optional[Duration] = None,
        accept_mixed: Optional[bool] = None,
        persist_bucket: Optional[bool] = None,
        keep_checkpoint: Optional[Duration] = None,
        persist: Optional[bool] = None,
        input: Optional[str] = None,
        output: Optional[str] = None,
        output_delete: Optional[bool] = None,
        output_write_once: Optional[bool] = None,
        unresponsive_after: Optional[Duration] = None,
        retries: Optional[int] = None,
        restart_on_loss: Optional[bool] = None,
        max_runtime: Optional[Duration] = None,
        max_preemptions: Optional[int] = None,
        deadline: Union[None, str, datetime, timedelta] = None,
        max_cost: Optional[float] = None,
        idempotency_key: Optional[str] = None,
    ) -> Job:
        """Submits a job. Keywords are the command line's flags.

        A repeat under the same idempotency_key returns the first job; without
        one, a key of this call alone makes lost answers harmless.
        """
        given = {k: v for k, v in locals().items() if k not in ("self", "cloud_config", "idempotency_key")}
        body = fields(cloud_config, given)
        key = idempotency_key or uuid.uuid4().hex
        reply = self.http.call("POST", "/v1/jobs", body, {"Idempotency-Key": key}, repeat=True)
        return Job(self, reply["job"]["id"])

    def get(self, id: str) -> Job:
        """The job of that id. NotFound if there is none."""
        self.status(id)
        return Job(self, id)

    def status(self, id: str) -> JobStatus:
        """How the job is now."""
        return JobStatus.of(self.http.call("GET", f"/v1/jobs/{quote(id)}", repeat=True))

    def list(self, *, all: bool = False, state: str = "") -> Iterator[JobStatus]:
        """The jobs by id; ended ones only with all or by their state."""
        after = ""
        while True:
            page: Dict[str, Any] = self.http.call("GET", "/v1/jobs" + query({"all": all, "state": state, "after": after}), repeat=True)
            for job in page["jobs"]:
                yield JobStatus.of(job)
            after = page.get("next", "")
            if not after:
                return


_lock = threading.Lock()
_default: Optional[Client] = None


def default_client() -> Client:
    """The client of the functions of this module, made at the first call."""
    global _default
    with _lock:
        if _default is None:
            _default = Client()
        return _default


def submit(image: str, **keywords: Any) -> Job:
    """Submits a job to the default control plane; see Client.submit."""
    return default_client().submit(image, **keywords)


def get(id: str) -> Job:
    """The job of that id in the default control plane."""
    return default_client().get(id)


def list(*, all: bool = False, state: str = "") -> Iterator[JobStatus]:
    """The jobs of the default control plane."""
    return default_client().list(all=all, state=state)
