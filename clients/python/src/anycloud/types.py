"""What is handed in and what comes back, as typed objects."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List, Mapping, Optional, Type, TypeVar, Union

Duration = Union[str, int, float, timedelta]
"""Text such as "60s" or "7d", a number of seconds, or a timedelta."""

Size = Union[str, int]
"""Text such as "16GiB", or bytes."""


@dataclass(frozen=True)
class CloudConfig:
    """Where and how a job runs. Keywords of submit() win over it."""

    spot: Optional[bool] = None
    cloud: Union[None, str, List[str]] = None
    region: Union[None, str, List[str]] = None
    zone: Union[None, str, List[str]] = None
    vm_type: Optional[str] = None
    cpus: Optional[float] = None
    memory: Optional[Size] = None
    disk: Optional[Size] = None
    arch: Optional[str] = None
    fallback: Optional[str] = None
    persist: Optional[bool] = None
    persist_bucket: Optional[bool] = None
    keep_checkpoint: Optional[Duration] = None
    checkpoint_interval: Optional[Duration] = None


T = TypeVar("T", bound="_Record")

_TIME = re.compile(r"(\.\d+)?(Z|[+-]\d\d:\d\d)$")


def parse_time(text: str) -> datetime:
    """RFC 3339; more digits than datetime holds are cut."""
    m = _TIME.search(text)
    if m is None:
        raise ValueError(f"{text!r} is no time")
    fraction = (m.group(1) or ".0")[:7].ljust(7, "0")
    zone = "+00:00" if m.group(2) == "Z" else m.group(2)
    return datetime.fromisoformat(text[: m.start()] + fraction + zone).astimezone(timezone.utc)


@dataclass
class _Record:
    """A JSON object. raw holds all of it, fields of newer servers included."""

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls: Type[T], data: Mapping[str, Any]) -> T:
        values: Dict[str, Any] = {"raw": data}
        for f in dataclasses.fields(cls):
            value = data.get(f.name)
            if f.name == "raw" or value is None:
                continue
            made = _NESTED.get((cls.__name__, f.name))
            if made is not None:
                value = [made.of(v) for v in value] if isinstance(value, list) else made.of(value)
            elif "datetime" in str(f.type) and isinstance(value, str):
                value = parse_time(value)
            values[f.name] = value
        return cls(**values)


@dataclass
class Placement(_Record):
    cloud: str = ""
    region: str = ""
    zone: str = ""
    type: str = ""
    spot: bool = False
    gpus: int = 0


@dataclass
class Phases(_Record):
    noticed: Optional[datetime] = None
    recorded: Optional[datetime] = None
    launch_called: Optional[datetime] = None
    vm_created: Optional[datetime] = None
    claimed: Optional[datetime] = None
    image_ready: Optional[datetime] = None
    prefetched: Optional[datetime] = None
    writer: Optional[datetime] = None
    restored: Optional[datetime] = None
    started: Optional[datetime] = None
    sealed: Optional[datetime] = None
    gone: Optional[datetime] = None


@dataclass
class Attempt(_Record):
    number: int = 0
    vm_id: str = ""
    placement: Placement = field(default_factory=Placement)
    started_at: Optional[datetime] = None
    ended_at: Optional[datetime] = None
    end_reason: str = ""
    exit_code: Optional[int] = None
    restored: int = 0
    lost_seconds: float = 0.0
    phases: Phases = field(default_factory=Phases)


@dataclass
class Pauses(_Record):
    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@dataclass
class Checkpoint(_Record):
    latest: int = 0
    clean: bool = False
    committed_at: Optional[datetime] = None
    files: int = 0
    bytes: int = 0
    pause_seconds: Pauses = field(default_factory=Pauses)
    health: str = "none"
    problem: str = ""


@dataclass
class Commit(_Record):
    """One saved checkpoint."""

    number: int = 0
    attempt: int = 0
    clean: bool = False
    sealed: bool = False
    exit_code: Optional[int] = None
    captured_at: Optional[datetime] = None
    committed_at: Optional[datetime] = None
    files: int = 0
    bytes: int = 0
    pruned: bool = False


@dataclass
class Limit(_Record):
    limit: str = ""
    used: float = 0.0
    message: str = ""
    near: bool = False


@dataclass
class Doomed(_Record):
    vm_id: str = ""
    terminate_after: Optional[datetime] = None


@dataclass
class Kept(_Record):
    vm_id: str = ""
    since: Optional[datetime] = None
    usd_per_hour: float = 0.0


@dataclass
class JobStatus(_Record):
    """A job as the control plane shows it."""

    id: str = ""
    name: str = ""
    state: str = ""
    reason: str = ""
    message: str = ""
    spot: bool = False
    image: str = ""
    command: List[str] = field(default_factory=list)
    revision: int = 0
    run: int = 0
    created_at: Optional[datetime] = None
    updated_at: Optional[datetime] = None
    started_at: Optional[datetime] = None
    ended_at: Optional[datetime] = None
    exit_code: Optional[int] = None
    env: List[str] = field(default_factory=list)
    attempt: int = 0
    writer: int = 0
    preemptions: int = 0
    failures: int = 0
    refused_launches: int = 0
    lost_seconds: float = 0.0
    down_seconds: float = 0.0
    vm_seconds: float = 0.0
    cost_usd: float = 0.0
    on_demand_usd: float = 0.0
    bucket: Optional[str] = None
    persist_bucket: bool = False
    keep_until: Optional[datetime] = None
    wake_at: Optional[datetime] = None
    waiting_for: Optional[str] = None
    wait_reason: str = ""
    unresponsive_since: Optional[datetime] = None
    checkpoint: Optional[Checkpoint] = None
    limits: List[Limit] = field(default_factory=list)
    attempts: List[Attempt] = field(default_factory=list)
    doomed: List[Doomed] = field(default_factory=list)
    kept: List[Kept] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing happens to the job any more."""
        return self.state in ("succeeded", "failed", "cancelled")

    @property
    def succeeded(self) -> bool:
        return self.state == "succeeded"


_NESTED: Dict[Any, Type[_Record]] = {
    ("JobStatus", "checkpoint"): Checkpoint, ("JobStatus", "attempts"): Attempt, ("JobStatus", "limits"): Limit,
    ("JobStatus", "doomed"): Doomed, ("JobStatus", "kept"): Kept, ("Attempt", "placement"): Placement, ("Attempt", "phases"): Phases,
    ("Checkpoint", "pause_seconds"): Pauses,
}


class LogLine(str):
    """A line of a job's log: a str that knows where it comes from."""

    attempt: int
    time: Optional[datetime]
    stream: str  # stdout, stderr, anycloud
    partial: bool  # the line goes on in the next one
    cursor: str

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> LogLine:
        line = cls(data.get("text", ""))
        line.attempt = int(data.get("attempt", 0))
        line.time = parse_time(data["time"]) if data.get("time") else None
        line.stream = str(data.get("stream", "stdout"))
        line.partial = bool(data.get("partial", False))
        line.cursor = str(data.get("cursor", ""))
        return line
