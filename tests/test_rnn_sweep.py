"""Recurrent layers of random configurations: fused, as the loop that they were, and on the CPU.

Each commit draws others; `make soak` draws hundreds.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests import commit, rewriting
from tests.recurrent_loops import DEVICE, EPSILON, OP, L

SEEDS, SOAK_SEEDS = 12, 300
SCALE = 8  # roundings of a result, in parts of sqrt(products summed)


@dataclasses.dataclass
class Configuration:
    """A layer, the shapes that it gets, and what is asked for."""

    seed: int

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        self.rng = rng
        self.kind = str(rng.choice(["LSTM", "GRU", "SimpleRNN"]))
        # In a graph that knows of one batch row only, TensorFlow sums no gradient of a bias over
        # the batch, and the loop stays.
        self.batch, self.steps, self.features, self.units = (
            int(rng.integers(low, high)) for low, high in [(2, 40), (1, 30), (1, 90), (1, 70)]
        )
        self.dtype = str(rng.choice(["float32", "float32", "mixed_float16", "mixed_bfloat16"]))
        flags = ("use_bias", "return_sequences", "return_state", "go_backwards")
        self.arguments = {name: bool(rng.random() < 0.6) for name in flags}
        if self.kind == "SimpleRNN":
            self.arguments["activation"] = str(rng.choice(["tanh", "relu"]))
        else:
            self.arguments["use_cudnn"] = False
        self.has_state, self.of_input, self.any_shape = (rng.random(3) < 0.5).tolist()

    @property
    def computes(self) -> str:
        return self.dtype.removeprefix("mixed_")

    def layer(self):
        layer = getattr(L, self.kind)(self.units, dtype=self.dtype, **self.arguments)
        layer.build((self.batch, self.steps, self.features))
        rng = np.random.default_rng(self.seed + 1)
        for weight in layer.trainable_variables:
            weight.assign(rng.standard_normal(weight.shape) / np.sqrt(weight.shape[0] + 1))
        return layer

    def operands(self) -> list[tf.Tensor]:
        rng = np.random.default_rng(self.seed + 2)
        shapes = [(self.batch, self.steps, self.features)]
        if self.has_state:
            shapes += [(self.batch, self.units)] * (2 if self.kind == "LSTM" else 1)
        return [tf.cast(rng.standard_normal(shape) * 0.5, self.computes) for shape in shapes]

    def function(self, layer):
        signature = [
            tf.TensorSpec([None] * 2 + [x.shape[2]] if len(x.shape) == 3 and self.any_shape
                          else x.shape, x.dtype)
            for x in self.operands()
        ]  # fmt: skip

        @tf.function(autograph=False, input_signature=signature)
        def compute(*operands):
            sources = [v.value for v in layer.trainable_variables]
            if self.of_input:
                sources = [*operands, *sources]
            with tf.GradientTape() as tape:
                tape.watch(operands)
                states = list(operands[1:])
                results = layer(operands[0], initial_state=states or None, training=True)
                results = tf.nest.flatten(results)
                loss = sum(tf.reduce_sum(tf.cast(y, "float32") ** 2) for y in results) / 8
            return [*results, *tape.gradient(loss, sources)]

        return compute

    def run(self, device: str, passes: str) -> tuple[list[np.ndarray], int]:
        with tf.device(device):
            layer = self.layer()
            operands = self.operands()
            results, graphs = rewriting.recorded(lambda: self.function(layer)(*operands), passes)
        fired = sum(calls[-1].count(OP) + calls[-1].count(f"{OP}Grad") for calls in graphs)
        return [np.array(tf.cast(y, "float64")) for y in results], fired


def check(seed: int) -> None:
    case = Configuration(seed)
    fused, fired = case.run(DEVICE, "all")
    assert fired == 2, case.__dict__
    sums = np.sqrt(case.features + case.units + case.batch * case.steps)
    bound = SCALE * EPSILON[case.computes] * sums
    for passes, device in (("none", DEVICE), ("all", "/CPU:0")):
        others, _ = case.run(device, passes)
        for i, (got, wanted) in enumerate(zip(fused, others, strict=True)):
            largest = max(1.0, np.abs(wanted).max(initial=0))
            np.testing.assert_allclose(
                got / largest, wanted / largest, rtol=0, atol=bound, err_msg=f"{i}: {case.__dict__}"
            )


@pytest.mark.parametrize("index", range(SEEDS))
def test_configurations_of_this_commit(index):
    check(commit.number() * SEEDS + index)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(SOAK_SEEDS))
def test_many_configurations(seed):
    check(10**8 + seed)
