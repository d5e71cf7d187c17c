"""Optimizers under the graph passes: the same numbers, in few dispatches.

No pass knows any optimizer; what is shown here is that the passes for variables and clusters take
all of them, as Keras 3 and tf_keras write them.
"""

import base64
import json
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tensorflow_metal_py as metal
from tests import optimizer_training, rewriting, spine

NAMES = [
    *(f"keras/{name}" for name in (*optimizer_training.OPTIMIZERS, *optimizer_training.KERAS_3)),
    *(f"tf_keras/{name}" for name in optimizer_training.OPTIMIZERS),
]
STEP_DISPATCHES = 4  # of an Adam step: what is ready, the int64 step count, its cast, the rest


def train(run_python, **environment) -> dict[str, dict]:
    """Ten steps with each optimizer, in a process of their own."""
    env = {"TF_METAL_HOST_CHAOS": None, "TF_METAL_GRAPPLER": "all", **environment}
    code = "from tests import optimizer_training; optimizer_training.main()"
    out = run_python(code, env=env, arguments=[json.dumps(NAMES)]).stdout
    line = next(line for line in out.splitlines() if line.startswith("RESULT "))
    answer = json.loads(line.removeprefix("RESULT "))
    assert answer["cpu"] == ("TF_METAL_DISABLE" in environment)
    for result in answer["results"].values():
        result["values"] = np.frombuffer(base64.b64decode(result["values"]), "float64")
    return answer["results"]


@pytest.fixture(scope="module")
def rewritten(run_python):
    return train(run_python)


def differing(a: dict, b: dict) -> list[str]:
    return [name for name in NAMES if a[name]["values"].tobytes() != b[name]["values"].tobytes()]


def test_rewriting_changes_no_bit(rewritten, run_python):
    plain = train(run_python, TF_METAL_GRAPPLER="none")
    assert differing(rewritten, plain) == []
    for name in NAMES:
        assert rewritten[name]["fusions"].get("cluster", 0) > 0, name
        assert not plain[name]["fusions"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only the simulated GPU has chaos")
def test_chaos_changes_no_bit(rewritten, run_python):
    chaotic = train(run_python, TF_METAL_HOST_CHAOS="1", TF_METAL_POISON="1")
    assert differing(rewritten, chaotic) == []


def test_training_follows_the_cpu(rewritten, run_python):
    cpu = train(run_python, TF_METAL_DISABLE="1")
    for name in NAMES:
        got, expected = rewritten[name]["values"], cpu[name]["values"]
        scale = np.abs(expected).max()
        # Lion takes a step by the sign of what may be rounding alone.
        limit = 2.1 * 0.005 * optimizer_training.STEPS if name.endswith("lion") else 2e-4 * scale
        assert np.abs(got - expected).max() <= limit, name


def test_optimizer_dispatches():
    """All variables of a model that is dense, in one Adam step."""
    shapes = [(20, 32), (32,), (32, 32), (32,), (32, 10), (10,)]
    with tf.device(f"{spine.device_type()}:0"):
        variables = [tf.Variable(tf.ones(shape) * 0.5) for shape in shapes]
        gradients = [tf.ones(shape) * 0.1 for shape in shapes]
        optimizer = keras.optimizers.Adam(0.01)
        optimizer.build(variables)
        step = tf.function(lambda *g: optimizer.apply(g, variables))
        with rewriting.environment(TF_METAL_GRAPPLER="all"):
            step(*gradients)
        metal.reset_stats()
        step(*gradients)
        stats = metal.stats()
    assert stats["encodes"] <= STEP_DISPATCHES, stats
    assert stats["sync_op"] == stats["sync_dtoh"] == 0
    assert all(len(np.unique(v)) == 1 for v in variables)


EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", EPSILON)
@pytest.mark.parametrize("name", [*optimizer_training.OPTIMIZERS, *optimizer_training.KERAS_3])
def test_variables_of_16_bits_follow_the_cpu(name, dtype):
    """As the pure policies make them: three steps, each rounded as the CPU's ops round."""
    rng = np.random.default_rng(0)
    # Few elements: of a gradient clipped to a norm of 0.1, Adam keeps the squares times 0.001.
    shapes = [(4, 3), (3,), (3, 2)]
    weights = [rng.standard_normal(shape) for shape in shapes]
    gradients = [rng.standard_normal((3, *shape)) for shape in shapes]

    def steps(device):
        with tf.device(device):
            variables = [tf.Variable(tf.cast(w, dtype)) for w in weights]
            optimizer = optimizer_training.make_optimizer("keras", name)
            optimizer.build(variables)
            step = tf.function(lambda *g: optimizer.apply(g, variables))
            for i in range(3):
                step(*(tf.cast(g[i], dtype) for g in gradients))
            return [tf.cast(v, "float32").numpy() for v in variables]

    metal.reset_stats()
    actual = steps(f"{spine.device_type()}:0")
    assert metal.fallbacks() == {}
    for got, expected in zip(actual, steps("CPU:0"), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=8 * EPSILON[dtype])
