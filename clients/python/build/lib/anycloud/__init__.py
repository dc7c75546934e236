"""Run containers on spot VMs that come and go; the job stays.

    import anycloud as ac
    from anycloud.types import CloudConfig

    job = ac.submit("ghcr.io/acme/my-training:latest", gpu="a100:all",
                    cloud_config=CloudConfig(spot=True))
    job.wait()
"""

from ._client import Client, default_client, get, list, submit
from ._job import Job
from .errors import (
    AnycloudError,
    ApiError,
    Conflict,
    InvalidRequest,
    NotFound,
    NotStarted,
    Stale,
    Unauthorized,
    Unreachable,
    WaitTimeout,
)
from .types import CloudConfig, JobStatus, LogLine

__version__ = "0.1.0"

__all__ = [
    "AnycloudError", "ApiError", "Client", "CloudConfig", "Conflict", "InvalidRequest", "Job", "JobStatus", "LogLine", "NotFound",
    "NotStarted", "Stale", "Unauthorized", "Unreachable", "WaitTimeout", "default_client", "get", "list", "submit",
]
