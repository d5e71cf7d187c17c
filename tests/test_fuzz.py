"""Random programs: the rewritten graph gives what the original gives, and what the CPU gives.

100 seeds in the usual run, another 100 for each commit; `make soak` runs thousands.
"""

import numpy as np
import pytest

from tensorflow_metal_py.selftest import programs
from tests import commit, rewriting, spine

SEEDS = 100
# Programs that once went wrong.
FOUND = [1806177]  # a norm before a loop fused with a sum after it
SOAK_SEEDS = range(10_000, 12_000)
# The same lowerings on the same numbers: only rewrites that compute otherwise round otherwise.
FUSED = {"rtol": 2e-5, "atol": 2e-5}
CPU = {"rtol": 2e-3, "atol": 2e-3}  # the rounding of up to 24 steps, some of which divide


def check(seed: int) -> None:
    program = programs.Program(seed)
    device = f"/{spine.device_type()}:0"
    runs = {}
    for passes in ("none", "all"):
        with rewriting.environment(TF_METAL_GRAPPLER=passes):
            runs[passes] = program.run(device)
    for i, (fused, plain) in enumerate(zip(runs["all"], runs["none"], strict=True)):
        np.testing.assert_allclose(fused, plain, **FUSED, err_msg=f"seed {seed}, result {i}")
    for i, (fused, cpu) in enumerate(zip(runs["all"], program.run("/CPU:0"), strict=True)):
        np.testing.assert_allclose(fused, cpu, **CPU, err_msg=f"seed {seed}, result {i}")


@pytest.mark.parametrize("seed", [*range(SEEDS), *FOUND])
def test_known_programs(seed):
    check(seed)


@pytest.mark.parametrize("index", range(SEEDS))
def test_programs_of_this_commit(index):
    check(1_000_000 + commit.number() * SEEDS + index)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SOAK_SEEDS)
def test_many_programs(seed):
    check(seed)
