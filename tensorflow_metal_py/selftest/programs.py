"""Random programs of TensorFlow ops, for comparing a rewritten graph with the original.

A program is drawn from a seed as a list of steps, each of which takes tensors that earlier steps
made and adds one. All tensors have the shape [rows, columns]; the number of rows may be unknown
when the program is traced. Some steps are branches, loops, variables, arithmetic on shapes, or a
gradient: what graph passes can go wrong on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

ROWS, COLUMNS = 6, 8
INPUTS = 3
UNARY: tuple[Callable, ...] = (
    tf.tanh, tf.sigmoid, tf.nn.relu, tf.nn.relu6, tf.nn.elu, tf.nn.softplus, tf.nn.leaky_relu,
    tf.nn.gelu, tf.nn.silu, tf.abs, tf.negative, tf.sin, tf.math.erf, tf.nn.softmax, tf.identity,
    lambda x: tf.exp(tf.minimum(x, 2.0)), lambda x: tf.sqrt(tf.abs(x) + 0.1), tf.square,
    lambda x: tf.nn.gelu(x, approximate=True), lambda x: x * 0.5 + 1.0, lambda x: x * tf.sigmoid(x),
    lambda x: tf.math.log(tf.abs(x) + 1.0), lambda x: tf.clip_by_value(x, -1.0, 1.0),
    lambda x: tf.reverse(x, [1]), lambda x: tf.roll(x, 2, 1), lambda x: tf.round(x * 4.0) / 4.0,
    lambda x: tf.cast(tf.cast(x, tf.float16), tf.float32), tf.stop_gradient,
    lambda x: tf.where(x > 0, x, 0.1 * x), lambda x: tf.cast(x > 0.0, tf.float32),
)  # fmt: skip
BINARY: tuple[Callable, ...] = (
    tf.add, tf.subtract, tf.multiply, tf.maximum, tf.minimum, tf.math.squared_difference,
    lambda x, y: x / (tf.abs(y) + 1.0), lambda x, y: tf.add_n([x, y, x]),
    lambda x, y: tf.where(x > y, x, y), lambda x, y: x + y * y,
)  # fmt: skip


@dataclasses.dataclass
class Machine:
    """The state of a program while it is traced: tensors so far, variables, constants to draw."""

    rng: np.random.Generator
    tensors: list[tf.Tensor]
    variables: list[tf.Variable]

    def pick(self) -> tf.Tensor:
        # Recent tensors are likelier: deep graphs, with some values read again much later.
        position = int(self.rng.beta(3, 1) * len(self.tensors))
        return self.tensors[min(position, len(self.tensors) - 1)]

    def constant(self, *shape: int) -> tf.Tensor:
        return tf.constant(self.rng.standard_normal(shape).astype(np.float32) * 0.5)

    def choose(self, choices):
        return choices[int(self.rng.integers(len(choices)))]


def _dense(m: Machine) -> tf.Tensor:
    y = m.pick() @ m.constant(COLUMNS, COLUMNS)
    if m.rng.random() < 0.7:
        y = (
            tf.nn.bias_add(y, m.constant(COLUMNS))
            if m.rng.random() < 0.5
            else y + m.constant(COLUMNS)
        )
    return m.choose((tf.nn.relu, tf.tanh, tf.identity, tf.nn.gelu))(y)


def _normalize(m: Machine) -> tf.Tensor:
    x = m.pick()
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(
        x, mean, variance, m.constant(COLUMNS), m.constant(COLUMNS), 1e-3
    )


def _reduce(m: Machine) -> tf.Tensor:
    reduce = m.choose((tf.reduce_sum, tf.reduce_mean, tf.reduce_max))
    return m.pick() * 0.1 + reduce(m.pick(), m.choose(([0], [1])), keepdims=True)


def _move(m: Machine) -> tf.Tensor:
    x = m.pick()
    kind = m.rng.integers(5)
    if kind == 0:
        half = COLUMNS // 2
        return tf.concat([x[:, half:], m.pick()[:, :half]], 1)
    if kind == 1:
        return tf.gather(x, tf.constant(m.rng.permutation(COLUMNS)), axis=1)
    if kind == 2:
        return tf.transpose(tf.transpose(x) * m.constant(COLUMNS, 1))
    if kind == 3:
        shape = tf.shape(x)
        return tf.reshape(tf.reshape(x, [shape[0] * 2, -1]) + 0.5, shape)
    return tf.pad(x, [[0, 0], [1, 1]])[:, 2:] + tf.split(x, 2, 1)[0][:, :1]


def _branch(m: Machine) -> tf.Tensor:
    x, y = m.pick(), m.pick()
    f, g = m.choose(UNARY), m.choose(BINARY)
    if m.rng.random() < 0.5:
        flag = tf.reduce_sum(x) > 0.0
    else:
        flag = tf.shape(x)[0] > int(m.rng.integers(2 * ROWS))
    return tf.cond(flag, lambda: f(x) + 1.0, lambda: g(x, y))


def _loop(m: Machine) -> tf.Tensor:
    x, y = m.pick(), m.pick()
    f, g = m.choose(UNARY), m.choose(BINARY)
    steps = int(m.rng.integers(1, 4))
    _, result = tf.while_loop(
        lambda i, z: i < steps,
        lambda i, z: (i + 1, tf.ensure_shape(f(g(z, y)) * 0.5, x.shape)),
        [0, x],
        shape_invariants=[tf.TensorShape([]), x.shape],
    )
    return result


def _variable(m: Machine) -> tf.Tensor:
    v = m.choose(m.variables)
    update = tf.reduce_mean(m.pick(), 0)
    kind = m.rng.integers(4)
    before = v + 0.0
    if kind == 0:
        v.assign(v * 0.9 + update * 0.1)
    elif kind == 1:
        v.assign_add(update * 0.1)
    elif kind == 2:
        v.assign_sub(tf.clip_by_value(update, -0.1, 0.1))
    return m.pick() + v - before * m.choose((0.0, 1.0))


def _gradient(m: Machine) -> tf.Tensor:
    """Through a few steps made here: the tape of the whole would follow variables' writes."""
    x = m.pick()
    steps = [(m.choose(UNARY), m.choose(BINARY)) for _ in range(int(m.rng.integers(1, 4)))]
    w = m.constant(COLUMNS, COLUMNS)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x
        for f, g in steps:
            y = g(f(y), x @ w)
        loss = tf.reduce_mean(y * y)
    gradient = tape.gradient(loss, x)
    return tf.zeros_like(x) if gradient is None else gradient


STEPS: dict[Callable[[Machine], tf.Tensor], float] = {
    lambda m: m.choose(UNARY)(m.pick()): 8,
    lambda m: m.choose(BINARY)(m.pick(), m.pick()): 6,
    _dense: 3,
    _normalize: 1,
    _reduce: 2,
    _move: 3,
    _branch: 1,
    _loop: 1,
    _variable: 1.5,
    _gradient: 1,
}


@dataclasses.dataclass(frozen=True)
class Program:
    """A program of a seed: `function(*inputs)` traces it, `inputs()` and `variables()` are new."""

    seed: int

    def inputs(self) -> list[tf.Tensor]:
        rng = np.random.default_rng([self.seed, 1])
        shape = (ROWS, COLUMNS)
        return [tf.constant(rng.standard_normal(shape), tf.float32) for _ in range(INPUTS)]

    def variables(self) -> list[tf.Variable]:
        rng = np.random.default_rng([self.seed, 2])
        return [tf.Variable(rng.standard_normal(COLUMNS), dtype=tf.float32) for _ in range(2)]

    def run(self, device: str) -> list[np.ndarray]:
        """Results of two executions and the variables after them."""
        rng = np.random.default_rng(self.seed)
        open_rows = rng.random() < 0.5
        length = int(rng.integers(6, 24))
        odds = np.array(list(STEPS.values()))
        with tf.device(device):
            variables = self.variables()
            spec = tf.TensorSpec([None if open_rows else ROWS, COLUMNS], tf.float32)

            @tf.function(autograph=False, input_signature=[spec] * INPUTS)
            def function(*inputs):
                m = Machine(np.random.default_rng([self.seed, 3]), list(inputs), variables)
                for _ in range(length):
                    step = m.rng.choice(len(STEPS), p=odds / odds.sum())
                    result = list(STEPS)[step](m)
                    # Keeps values near one, so that errors stay what they are.
                    m.tensors.append(tf.clip_by_value(result, -8.0, 8.0) if step % 3 else result)
                return m.tensors[-1], m.pick(), tf.reduce_sum(m.pick())

            inputs = self.inputs()
            results = [y for _ in range(2) for y in function(*inputs)]
            return [y.numpy() for y in [*results, *variables]]
