"""Every case of tests/cases, in every way the spine runs one."""

import dataclasses
import fnmatch

import numpy as np
import pytest
import tensorflow as tf

from tests import spine
from tests.cases import all_cases


def pytest_generate_tests(metafunc):
    pattern = metafunc.config.getoption("--case")
    chosen = [c for c in all_cases() if not pattern or fnmatch.fnmatch(str(c), pattern)]
    if metafunc.function is test_gradient:
        chosen = [c for c in chosen if c.grad]
    if metafunc.function is test_special_values:
        chosen = [c for c in chosen if c.special and c.dtype in spine.FLOATS]
    metafunc.parametrize("case", chosen, ids=str)


@pytest.fixture(autouse=True)
def strict_placement():
    """A kernel that is missing must fail, not run on the CPU; none may be folded away."""
    tf.config.set_soft_device_placement(False)
    tf.config.optimizer.set_experimental_options({"constant_folding": False})
    yield
    tf.config.optimizer.set_experimental_options({"constant_folding": True})
    tf.config.set_soft_device_placement(True)


def _bits(tensors):
    return [t.numpy().tobytes() for t in tensors]


def test_value(case):
    args = spine.inputs_of(case)
    expected = spine.reference(case, args)
    eager = spine.on_device(case, args)
    for y in eager:
        assert spine.device_type() in y.device
    spine.assert_close(case, eager, expected)
    assert _bits(eager) == _bits(spine.on_device(case, args)), "a second run differs"
    graph = spine.on_device(case, args, spine.as_function)
    assert _bits(eager) == _bits(graph), "tf.function differs from eager"


def test_special_values(case):
    args = spine.inputs_of(case, special=True)
    with np.errstate(all="ignore"):
        # Stock float64 kernels are wrong in places (erf(inf) is NaN), so float32 is the reference.
        expected = spine.reference(case, args, widest="float32")
        spine.assert_close(case, spine.on_device(case, args), expected)


def test_gradient(case):
    tf.config.set_soft_device_placement(True)  # the gradient may use ops that are not ours yet
    args = spine.inputs_of(case)
    expected = spine.reference(case, args, spine.gradient)
    # A chain of ops, each of which rounds, and sums over broadcast axes.
    chain = dataclasses.replace(case, exact=False, scale=max(case.scale, 4))
    spine.assert_close(chain, spine.on_device(case, args, spine.gradient), expected)
