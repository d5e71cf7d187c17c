"""Runs the C++ tests of the build tree, calm and with the host's chaos mode."""

import os
import subprocess

import pytest

from tests.conftest import BUILD, TIMEOUT_SECONDS

PROGRAMS = sorted(p for p in (BUILD / "tests" / "cc").glob("test_*") if os.access(p, os.X_OK))
# Chaos mode delays and splits what Metal's API allows; results must not change.
CHAOS_SEEDS = ["0", "1", "2"]


def test_programs_were_built():
    assert PROGRAMS, f"no C++ tests in {BUILD}: configure with -DTFMETAL_TESTS=ON"


@pytest.mark.parametrize("seed", CHAOS_SEEDS, ids=lambda seed: f"chaos{seed}")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_program(program, seed):
    result = subprocess.run(
        [program],
        env={**os.environ, "TF_METAL_HOST_CHAOS": seed},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert result.returncode == 0, f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    assert " passed, 0 failed" in result.stdout
