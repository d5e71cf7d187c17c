"""Functions that the graph passes rewrite, and what is left of them on the device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from tensorflow_metal_py._environment import environment
from tests import rewriting, spine


def _update(x):
    """Becomes a read, a sum with the negative, and an assignment."""
    variable = tf.Variable(tf.ones((4, 4)))

    def function(x):
        variable.assign_sub(x * 2.0)
        return variable.read_value()

    return function


def _attention(x):
    def function(x):
        return tf.matmul(tf.nn.softmax(tf.matmul(x, x, transpose_b=True) * x), x)

    return function


def _chain(x):
    return lambda x: tf.exp(tf.tanh(x * 2.0) - 1.0) + x


def _dense(x):
    """With 16 bits inside, where that is asked for."""
    return lambda x: tf.nn.relu(tf.matmul(tf.nn.relu(tf.matmul(x, x)), x))


def _loop(x):
    tf.keras.utils.set_random_seed(1)
    layer = tf.keras.layers.SimpleRNN(4, return_sequences=True)
    layer.build((1, 4, 4))
    return lambda x: layer(x[None])


# Name -> what makes the function; whether in mixed precision.
FUNCTIONS = {
    "variables": (_update, False),
    "remapper": (_attention, False),
    "cluster": (_chain, False),
    "mixed_precision": (_dense, True),
    "rnn": (_loop, False),
}


def on_device(graph: graph_pb2.GraphDef) -> Iterator[tuple[str, str]]:
    """Op and first type of the nodes there, those inside of clusters included."""
    rows = spine.registered()
    for node in graph.node:
        if node.device and spine.device_type() not in node.device:
            continue  # those of clusters name none
        if node.op == "_MetalCluster":
            yield from on_device(graph_pb2.GraphDef.FromString(node.attr["graph"].s))
        for types in rows.get(node.op, [])[:1]:
            name = next(iter(types), None)
            yield node.op, tf.as_dtype(node.attr[name].type).name if name else "bool"


def run(name: str) -> tuple[float, list[list[str]]]:
    """The largest error of the function, and what its last graph has on the device."""
    make, mixed = FUNCTIONS[name]
    x = tf.constant(np.random.default_rng(2).standard_normal((4, 4)), tf.float32)
    with tf.device("/CPU:0"):
        expected = make(x)(x).numpy()
    with environment(TF_METAL_MIXED_PRECISION="float16" if mixed else "off"):
        with tf.device(f"/{spine.device_type()}:0"):
            function = make(x)
        result, graph = rewriting.run(function, x)
    error = float(np.abs(result.numpy() - expected).max())
    return error, sorted(map(list, set(on_device(graph.after))))
