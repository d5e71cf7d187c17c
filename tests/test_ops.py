"""Every case of tests/cases, in every way the spine runs one."""

import dataclasses
import fnmatch
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import spine
from tests.cases import all_cases
from tests.expected_failures import EXPECTED


def _sample(cases):
    """One case for each op: the first op's first, the second's second, so that types take turns."""
    by_op = {}
    for case in cases:
        by_op.setdefault(case.op, []).append(case)
    return [rows[i % len(rows)] for i, rows in enumerate(by_op.values())]


def pytest_generate_tests(metafunc):
    if "case" not in metafunc.fixturenames:
        return
    pattern = metafunc.config.getoption("--case")
    chosen = [c for c in all_cases() if not pattern or fnmatch.fnmatch(str(c), pattern)]
    if metafunc.config.getoption("--sample"):
        chosen = _sample(chosen)
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


def expectable(test):
    """Holds a case of tests/expected_failures.py to its entry."""

    @functools.wraps(test)
    def wrapper(case):
        pattern = next(
            (p for name, p in EXPECTED.items() if fnmatch.fnmatch(str(case), name)), None
        )
        if pattern is None:
            return test(case)
        with pytest.raises(Exception, match=pattern):
            test(case)
            pytest.fail(f"{case} passes: remove its entry from tests/expected_failures.py")

    return wrapper


def _bits(tensors):
    return [t.numpy().tobytes() for t in tensors]


@expectable
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
    if case.op in spine.clusterable():
        clustered = spine.on_device(case, args, spine.in_cluster)
        assert _bits(eager) == _bits(clustered), "a cluster differs from eager"


@expectable
def test_special_values(case):
    args = spine.inputs_of(case, special=True)
    with np.errstate(all="ignore"):
        # Stock float64 kernels are wrong in places (erf(inf) is NaN), so float32 is the reference.
        expected = spine.reference(case, args, widest="float32")
        spine.assert_close(case, spine.on_device(case, args), expected)


@expectable
def test_gradient(case):
    tf.config.set_soft_device_placement(True)  # the gradient may use ops that are not ours yet
    args = spine.inputs_of(case)
    # A chain of ops, each of which rounds, and sums over broadcast axes.
    chain = dataclasses.replace(case, exact=False, scale=max(case.scale, 4))
    expected = spine.reference(chain, args, spine.gradient)
    spine.assert_close(chain, spine.on_device(chain, args, spine.gradient), expected)


class TestExpectedFailures:
    """The mechanism itself."""

    @pytest.fixture
    def expect(self, monkeypatch):
        return lambda pattern: monkeypatch.setitem(EXPECTED, "known", pattern)

    def test_failure_with_the_message_is_fine(self, expect):
        expect("division by zero")
        expectable(lambda case: 1 / 0)("known")

    def test_failure_with_another_message_is_not(self, expect):
        expect("out of memory")
        with pytest.raises(AssertionError, match="pattern did not match"):
            expectable(lambda case: 1 / 0)("known")

    def test_entry_expires(self, expect):
        expect("division by zero")
        with pytest.raises(BaseException, match="remove its entry"):
            expectable(lambda case: None)("known")
