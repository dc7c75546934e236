"""The page's snippet as it is written, on an image of that name built here."""

from __future__ import annotations

from typing import Iterator

import pytest

import anycloud as ac
from anycloud.types import CloudConfig

import engine

IMAGE = "ghcr.io/acme/my-training"

# The page's training loop in the words of a shell: no image can be pulled here.
TRAINING = r"""
n=0; s=/mnt/checkpoint/state.json
test -e $s && n=$(sed 's/[^0-9]//g' $s)
while test $n -lt 100; do echo epoch $n; n=$((n+1)); echo "{\"epoch\": $n}" > $s.new; mv $s.new $s; sleep 0.1; done
"""


@pytest.fixture
def image() -> Iterator[str]:
    yield engine.make(IMAGE, {"train.sh": TRAINING}, ['ENTRYPOINT ["sh", "/train.sh"]'])
    engine.remove(f"{IMAGE}:latest")


def test_the_pages_snippet(home: object, image: str) -> None:
    job = ac.submit("ghcr.io/acme/my-training:latest", gpu="a100:all", cloud_config=CloudConfig(spot=True))
    lines = []
    for line in job.logs(follow=True):
        if line.stream == "stdout":
            lines.append(line)
            if line == "epoch 20":
                job.preempt(notice=5)
    status = job.wait()
    assert status.succeeded, (status.reason, status.message)
    assert sorted({int(line.split()[1]) for line in lines}) == list(range(100))
    assert status.preemptions == 1 and status.attempts[0].placement.gpus == 8
