"""What can go wrong. All of it is an AnycloudError."""

from __future__ import annotations

from typing import Any, Dict, Optional, Type


class AnycloudError(Exception):
    """The root of all errors of this package."""


class Unreachable(AnycloudError):
    """No answer came: what was asked may have happened or not."""


class NotStarted(AnycloudError):
    """No control plane is configured, and none could be started here."""


class WaitTimeout(AnycloudError):
    """The time given to wait() is up, and the job goes on."""


class ApiError(AnycloudError):
    """The control plane's refusal, with its problem document (RFC 9457)."""

    def __init__(self, status: int, problem: Optional[Dict[str, Any]] = None, text: str = "") -> None:
        self.status = status
        self.problem = problem or {}
        self.code = str(self.problem.get("code", ""))
        super().__init__(self.problem.get("detail") or text or f"the control plane answered {status}")


class InvalidRequest(ApiError):
    """What was asked for cannot be; the text says what to write instead."""


class Unauthorized(ApiError):
    """The token is missing or wrong."""


class NotFound(ApiError):
    """There is no such job."""


class Conflict(ApiError):
    """Not possible in the job's state."""


class Stale(Conflict):
    """The job changed since it was looked at."""


_BY_STATUS: Dict[int, Type[ApiError]] = {
    400: InvalidRequest, 401: Unauthorized, 403: Unauthorized, 404: NotFound, 409: Conflict, 412: Stale, 413: InvalidRequest, 422: InvalidRequest,
}


def of_status(status: int, problem: Optional[Dict[str, Any]], text: str) -> ApiError:
    """The class that fits an HTTP status."""
    return _BY_STATUS.get(status, ApiError)(status, problem, text)
