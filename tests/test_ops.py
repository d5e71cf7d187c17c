"""Every case of tests/cases, in every way the spine runs one."""

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
def no_soft_placement():
    """A kernel that is missing must fail, not run on the CPU."""
    tf.config.set_soft_device_placement(False)
    yield
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
        spine.assert_close(case, spine.on_device(case, args), spine.reference(case, args))


def test_gradient(case):
    tf.config.set_soft_device_placement(True)  # the gradient may use ops that are not ours yet
    args = spine.inputs_of(case)
    expected = spine.reference(case, args, spine.gradient)
    spine.assert_close(case, spine.on_device(case, args, spine.gradient), expected)
