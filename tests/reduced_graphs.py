"""Runs functions with and without the pass for automatic mixed precision."""

import numpy as np
import tensorflow as tf

from tests import rewriting, spine

PASS = "mixed_precision"
SETTING = "TF_METAL_MIXED_PRECISION"
DTYPES = ("float16", "bfloat16")
GPU = f"/{spine.device_type()}:0"
# Of the largest result, in a few layers.
TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2}


def rng(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


X, W, W2 = rng(4, 8), rng(8, 8, seed=1), rng(8, 8, seed=2)


class Rewritten:
    """A function's results and graph with the pass, and its results in float32."""

    def __init__(self, function, *arguments, to="float16", passes=PASS, **environment):
        def body():
            with tf.device(GPU):
                return tf.function(function, autograph=False)(*arguments)

        with rewriting.environment(**{SETTING: "off"}):
            self.plain, _ = rewriting.recorded(body, passes)
        with rewriting.environment(**{SETTING: to}, **environment):
            self.result, graphs = rewriting.recorded(body, passes)
        (self.calls,) = graphs
        self.graph = self.calls[0].after

    def types(self, op, attr="T"):
        """The types of the nodes of this op."""
        found = [tf.as_dtype(n.attr[attr].type).name for n in self.graph.node if n.op == op]
        assert found, rewriting.ops(self.graph)
        return found

    def all(self, op, dtype, attr="T"):
        return set(self.types(op, attr)) == {dtype}

    def node(self, name):
        return next(n for n in self.graph.node if n.name == name)

    def casts(self):
        return [(self._from(n), tf.as_dtype(n.attr["DstT"].type).name) for n in self._of("Cast")]

    def _of(self, op):
        return [n for n in self.graph.node if n.op == op]

    @staticmethod
    def _from(node):
        return tf.as_dtype(node.attr["SrcT"].type).name

    def check(self, tolerance):
        """Results have the same types, and nearly the same values."""
        for got, wanted in zip(
            tf.nest.flatten(self.result), tf.nest.flatten(self.plain), strict=True
        ):
            assert got.dtype == wanted.dtype and got.shape == wanted.shape
            largest = max(1.0, np.abs(wanted).max(initial=0))
            np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * largest)
        return self

    def on_cpu(self, *arguments):
        """What the rewritten graph gives on the CPU."""
        graph = tf.compat.v1.GraphDef()
        graph.CopyFrom(self.graph)
        fed, fetched = {}, {}
        for node in graph.node:
            node.device = "/device:CPU:0"
            if node.op == "_Arg":
                fed[f"{node.name}:0"] = arguments[node.attr["index"].i].numpy()
                dtype = node.attr["T"].type
                node.op = "Placeholder"
                node.ClearField("attr")
                node.attr["dtype"].type = dtype
            if node.op == "_Retval":
                fetched[node.attr["index"].i] = node.input[0]
        kept = [node for node in graph.node if node.op != "_Retval"]
        del graph.node[:]
        graph.node.extend(kept)
        with tf.Graph().as_default() as imported:
            tf.import_graph_def(graph, name="")
        config = tf.compat.v1.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        names = [n if ":" in n else f"{n}:0" for _, n in sorted(fetched.items())]
        with tf.compat.v1.Session(graph=imported, config=config) as session:
            return session.run(names, fed)


def layers(x, w, w2):
    h = tf.nn.relu(tf.nn.bias_add(tf.matmul(x, w), w[0]))
    return tf.nn.softmax(tf.matmul(h, w2))
