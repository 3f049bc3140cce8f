"""A policy's threads bind every library that has some, whatever the environment says."""

from __future__ import annotations

import json
import subprocess
import sys

from participant.cli.up import THREAD_VARIABLES
from tests.support.docs import ROOT
from tests.support.waiting import PATIENCE_S

CODE = """
import json, sys
from pathlib import Path
from participant.cli import main, up
up._limit_threads(Path(sys.argv[1]))
import polars, torch, threadpoolctl, numpy
print(json.dumps({
    "polars": polars.thread_pool_size(),
    "torch": torch.get_num_threads(),
    **{pool["prefix"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()},
}))
"""


def test_threads_bind_every_library_whatever_the_environment_says(tmp_path) -> None:
    (tmp_path / "policy.toml").write_text("threads = 1\n")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'protos'}", **dict.fromkeys(THREAD_VARIABLES, "2")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert {"polars", "torch"} < found.keys()
    assert set(found.values()) == {1}
