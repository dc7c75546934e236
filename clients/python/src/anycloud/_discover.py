"""Which control plane, found as the command line finds it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Tuple

from .errors import NotStarted

# The first start builds the home; it takes a moment.
_START_FOR = 60  # seconds


def home() -> str:
    """Where everything local lies."""
    given = os.environ.get("ANYCLOUD_HOME")
    if given:
        return os.path.abspath(given)
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "anycloud")


def find() -> Tuple[str, str]:
    """The endpoint and its token. Starts the local control plane if needed."""
    endpoint = os.environ.get("ANYCLOUD_ENDPOINT")
    if endpoint:
        if not endpoint.startswith(("http://", "https://")):
            raise NotStarted(f"ANYCLOUD_ENDPOINT {endpoint!r} is no URL: write for example http://127.0.0.1:8080")
        return endpoint, os.environ.get("ANYCLOUD_TOKEN", "")
    # Any command starts the control plane where none answers; two at once end up
    # with the same one.
    program = os.environ.get("ANYCLOUD_BIN") or shutil.which("anycloud")
    if not program:
        raise NotStarted("no control plane is configured and the program anycloud is not in the PATH: "
                         "set ANYCLOUD_ENDPOINT, or build anycloud and set ANYCLOUD_BIN to it")
    try:
        done = subprocess.run([program, "list", "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, timeout=_START_FOR, check=False)
    except (OSError, subprocess.TimeoutExpired) as err:
        raise NotStarted(f"the control plane could not be started: {err}") from err
    if done.returncode != 0:
        raise NotStarted(done.stderr.strip() or f"{program} list ended with {done.returncode}")
    return _read("endpoint"), _read("token")


def _read(name: str) -> str:
    path = os.path.join(home(), name)
    try:
        with open(path, encoding="utf-8") as f:
            return f.read().strip()
    except OSError as err:
        raise NotStarted(f"the control plane's {name} cannot be read: {err}") from err
