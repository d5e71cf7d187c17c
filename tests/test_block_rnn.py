"""Block RNN ops where TensorFlow's CPU kernels are no example: they abort or skip outputs."""

import numpy as np
import pytest
import tensorflow as tf

from tests import clusters
from tests.test_errors import R, f, gru, lstm

pytestmark = pytest.mark.usefixtures("on_device")


@pytest.mark.parametrize("op", [R.BlockLSTM, R.BlockLSTMV2, R.BlockLSTMGrad, R.BlockLSTMGradV2])
@pytest.mark.parametrize("steps", [-1, 4])
def test_length_out_of_range(op, steps):
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"between 0 and 3 but is {steps}"):
        lstm(op, (3, 2, 4), seq_len_max=tf.constant(steps, tf.int64))


@pytest.mark.parametrize("op", [R.BlockLSTMGrad, R.LSTMBlockCell, R.LSTMBlockCellGrad])
def test_used_peepholes_have_one_weight_per_unit(op):
    x = (3, 2, 4) if op is R.BlockLSTMGrad else (2, 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"wcf must have shape \[5\].*\[3\]"):
        lstm(op, x, wcf=f(3), use_peephole=True)


def test_gradients_with_fewer_rows_than_the_input():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"h_grad must have shape \[3,2,5\]"):
        lstm(R.BlockLSTMGrad, (3, 2, 4), h_grad=f(2, 2, 5))


def test_gru_without_units():
    none, rows = f(2, 0), {"w_ru": f(4, 0), "w_c": f(4, 0), "b_ru": f(0), "b_c": f(0)}
    gates = dict.fromkeys(["h_prev", "r", "u", "c", "d_h"], none)
    dx, *others = gru(R.GRUBlockCellGrad, **gates, **rows)
    np.testing.assert_array_equal(dx, np.zeros((2, 4)))
    assert all(y.shape == (2, 0) for y in others)


def test_steps_behind_the_last_are_zero():
    outputs = lstm(R.BlockLSTM, (3, 2, 4), seq_len_max=tf.constant(1, tf.int64))
    for y in outputs:
        assert np.all(y[0] != 0)
        np.testing.assert_array_equal(y[1:], np.zeros((2, 2, 5)))


def test_sequence_is_its_cells():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(4, 2, 3)), rng.normal(size=(8, 20))
    x, w = tf.constant(x, tf.float32), tf.constant(w, tf.float32)
    rest = {"wci": f(5), "wcf": f(5) / 2, "wco": -f(5), "b": f(20), "use_peephole": True}
    c = h = f(2, 5)
    sequence = R.BlockLSTM(seq_len_max=4, x=x, cs_prev=c, h_prev=h, w=w, **rest)
    for step in range(4):
        cell = R.LSTMBlockCell(x=x[step], cs_prev=c, h_prev=h, w=w, **rest)
        c, h = cell.cs, cell.h
        for one, all_ in zip(cell, sequence, strict=True):
            np.testing.assert_allclose(one, all_[step], rtol=1e-5, atol=1e-6)


def test_length_from_outside_of_a_cluster():
    names = ["cs_prev", "h_prev", "w", "wci", "wcf", "wco", "b"]
    args = [f(3, 2, 4), f(2, 5), f(2, 5), f(9, 20), f(5), f(5), f(5), f(20)]

    def function(steps, *tensors):
        return R.BlockLSTM(seq_len_max=steps, **dict(zip(["x", *names], tensors, strict=True)))

    for steps in [3, 1, 0]:
        length = tf.constant(steps, tf.int64)
        with tf.device("/CPU:0"):
            host = tf.identity(length)
        for y, e in zip(clusters.run(function, args, [host]), function(host, *args), strict=True):
            np.testing.assert_array_equal(y, e)
