"""From keywords to the JSON of a job."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Mapping, Optional

from .types import CloudConfig

_LISTS = ("cloud", "region", "zone")


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value


def _deadline(value: Any) -> Any:
    if isinstance(value, timedelta):
        value = datetime.now(timezone.utc) + value
    if isinstance(value, datetime):
        if value.tzinfo is None:
            value = value.astimezone()  # as the clock on the wall here
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return value


def fields(config: Optional[CloudConfig], given: Mapping[str, Any]) -> Dict[str, Any]:
    """The fields that were given; keywords win over the config."""
    out: Dict[str, Any] = {}
    if config is not None:
        for f in dataclasses.fields(config):
            value = getattr(config, f.name)
            if value is not None:
                out[f.name] = value
    out.update({k: v for k, v in given.items() if v is not None})
    for name, value in out.items():
        if name in _LISTS and isinstance(value, str):
            out[name] = [value]
        elif name == "deadline":
            out[name] = _deadline(value)
        elif name == "command" and isinstance(value, str):
            raise TypeError("command must be a list of words, such as ['python', 'train.py']")
        elif name == "command":
            out[name] = [str(word) for word in value]
        elif name == "env":
            out[name] = {str(k): str(v) for k, v in value.items()}
        else:
            out[name] = _duration(value)
    return out
