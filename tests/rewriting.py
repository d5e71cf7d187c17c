"""Runs functions under chosen graph passes and shows the graphs before and after."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import tempfile
from collections.abc import Callable

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.grappler import tf_optimizer

from tensorflow_metal_py._environment import environment
from tests import spine


@dataclasses.dataclass(frozen=True)
class Graph:
    """One optimized graph as it went into and came out of a call of the passes."""

    before: graph_pb2.GraphDef
    after: graph_pb2.GraphDef
    unchanged: bool  # byte by byte

    def node(self, name: str):
        return next(n for n in self.after.node if n.name == name)

    def count(self, op: str) -> int:
        return ops(self.after)[op]

    def count_read(self, op: str) -> int:
        """Nodes whose output some node reads."""
        inputs = {name.split(":")[0] for node in self.after.node for name in node.input}
        return sum(node.op == op and node.name in inputs for node in self.after.node)


def ops(graph: graph_pb2.GraphDef) -> collections.Counter:
    return collections.Counter(node.op for node in graph.node)


def _load(path: pathlib.Path) -> graph_pb2.GraphDef:
    return graph_pb2.GraphDef.FromString(path.read_bytes())


def recorded(body: Callable[[], object], passes: str) -> tuple[object, list[list[Graph]]]:
    """What `body` returns, and for each graph optimized meanwhile its two calls of the passes."""
    with tempfile.TemporaryDirectory() as directory:
        with environment(TF_METAL_GRAPPLER=passes, TF_METAL_DUMP_GRAPHS=directory):
            result = body()
        calls: dict[int, list[Graph]] = collections.defaultdict(list)
        for before in sorted(pathlib.Path(directory).glob("*_before.pb"), key=_numbers):
            after = before.with_name(before.name.replace("before", "after"))
            same = before.read_bytes() == after.read_bytes()
            calls[_numbers(before)[0]].append(Graph(_load(before), _load(after), same))
    return result, list(calls.values())


def _numbers(path: pathlib.Path) -> tuple[int, int]:
    _, _, graph, call, _ = path.stem.split("_")
    return int(graph), int(call)


def run(function: Callable, *arguments, passes: str = "all") -> tuple[object, Graph]:
    """Runs a Python function as a tf.function on the device: its result and its last graph."""

    def body():
        with tf.device(f"{spine.device_type()}:0"):
            return tf.function(function, autograph=False)(*arguments)

    result, graphs = recorded(body, passes)
    assert len(graphs) == 1, f"{len(graphs)} graphs instead of one"
    return result, graphs[0][-1]


def optimize(function) -> graph_pb2.GraphDef:
    """A concrete function's graph as TensorFlow optimizes it, plugin included; nothing runs."""
    graph = function.graph.as_graph_def()
    for node in graph.node:
        node.device = (
            node.device or f"/job:localhost/replica:0/task:0/device:{spine.device_type()}:0"
        )
    meta = tf.compat.v1.train.export_meta_graph(graph_def=graph, graph=function.graph)
    train_ops = tf.compat.v1.GraphKeys.TRAIN_OP
    for tensor in function.outputs:
        meta.collection_def[train_ops].node_list.value.append(tensor.name)
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    return tf_optimizer.OptimizeGraph(config, meta)
