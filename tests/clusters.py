"""Runs a piece of TensorFlow code as one ``_MetalCluster`` op, without the graph passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.eager import context, execute


def _types(tensors: Sequence[Any]) -> list[int]:
    return [t.dtype.as_datatype_enum for t in tensors]


def serialized(graph: tf.Graph, inputs: Sequence[tf.Tensor], outputs: Sequence[tf.Tensor]) -> bytes:
    """The attribute ``graph`` for a traced graph (kernels/cluster/program.h)."""
    indices = {t.op.name: i for i, t in enumerate(inputs)}
    result = graph_pb2.GraphDef()
    for node in graph.as_graph_def().node:
        copy = result.node.add()
        copy.CopyFrom(node)
        copy.device = ""
        if node.name in indices:
            copy.op = "_Arg"
            copy.ClearField("attr")
            copy.attr["index"].i = indices[node.name]
            copy.attr["T"].type = node.attr["dtype"].type
    for i, tensor in enumerate(outputs):
        node = result.node.add(name=f"result{i}", op="_Retval", input=[tensor.name])
        node.attr["index"].i = i
        node.attr["T"].type = tensor.dtype.as_datatype_enum
    return result.SerializeToString()


def execute_graph(
    graph: bytes, host: Sequence[tf.Tensor], args: Sequence[tf.Tensor], results: list[int]
) -> list[tf.Tensor]:
    attrs = ("Thost", _types(host), "Targs", _types(args), "Tresults", results)
    attrs += ("graph", graph, "pattern", "test")
    inputs = [*host, *args]
    return execute.execute(b"_MetalCluster", len(results), inputs, attrs, context.context())


def run(
    function: Callable[..., Any],
    args: Sequence[tf.Tensor],
    host: Sequence[tf.Tensor] = (),
    open_shapes: bool = False,
) -> list[tf.Tensor]:
    """function(*host, *args) as one cluster, eagerly; on the current device.

    Args:
      function: called in a graph, with placeholders; returns tensors in any structure.
      args: tensors for the device.
      host: tensors whose values the cluster reads on the host.
      open_shapes: whether the function is traced without knowing any extent.
    """
    with tf.Graph().as_default() as graph:
        shapes = [[None] * t.shape.rank if open_shapes else t.shape for t in [*host, *args]]
        inputs = [
            tf.compat.v1.placeholder(t.dtype, shape)
            for t, shape in zip([*host, *args], shapes, strict=True)
        ]
        outputs = tf.nest.flatten(function(*inputs))
    return execute_graph(serialized(graph, inputs, outputs), host, args, _types(outputs))
