"""Says what the graph passes fuse in a model, and what they nearly do.

    python -m tensorflow_metal_py fusions model.keras [--dtype POLICY] [--graph_rewrite DTYPE]
    python -m tensorflow_metal_py fusions saved_model/ [--graph_rewrite DTYPE]

The graphs of the model go through TensorFlow's graph optimizer, with all nodes on the device;
nothing is executed. TF_METAL_GRAPPLER applies. docs/fusions.md describes the patterns and rules.
With --graph_rewrite, or when automatic mixed precision is on, it also says which nodes were
converted, which were not, and why (docs/mixed_precision.md).
"""

from __future__ import annotations

import collections
import functools
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags

from tensorflow_metal_py import _flags, _runtime, doctor
from tensorflow_metal_py.mixed_precision.graph_rewrite import DTYPES, set_graph_rewrite

FED = "/fed"  # suffix of the placeholders behind those with a known shape


def placed(function: Any, device: str) -> Any:
    """The GraphDef of a ConcreteFunction with all nodes, also those of its library, on `device`.

    Variables that are only read become placeholders of their values: outside of the function
    TensorFlow would not know their shapes.
    """
    import tensorflow as tf
    from tensorflow.python.ops import handle_data_util

    graph = function.graph.as_graph_def(add_shapes=True)
    handles = {}
    for _, inside in function.graph.captures:
        if inside.dtype != tf.resource:
            continue
        data = handle_data_util.get_resource_handle_data(inside)
        if data is not None and data.is_set and data.shape_and_type:
            handles[inside.op.name] = data.shape_and_type[0]
    for node in [*graph.node, *(n for f in graph.library.function for n in f.node_def)]:
        node.device = device
    for node in graph.node:
        if node.op == "ReadVariableOp" and node.input[0] in handles:
            known = handles[node.input[0]]
            node.op = "Placeholder"
            del node.input[:]
            node.attr["shape"].shape.CopyFrom(known.shape)
    for node in list(graph.node):
        if node.op == "Placeholder" and node.attr["dtype"].type != tf.resource.as_datatype_enum:
            fix_shape(graph, node)
    return graph


def fix_shape(graph: Any, node: Any) -> None:
    """What is fed may have any shape, for all that TensorFlow's optimizer knows: checks it."""
    fed = graph.node.add()
    fed.CopyFrom(node)
    fed.name = node.name + FED
    shape, dtype = fed.attr["shape"].shape, fed.attr["dtype"].type
    node.Clear()
    node.name, node.op, node.device = fed.name.removesuffix(FED), "EnsureShape", fed.device
    node.input.append(fed.name)
    node.attr["T"].type = dtype
    node.attr["shape"].shape.CopyFrom(shape)


def optimized(graph: Any, keep: Iterable[str], stock: bool = True) -> Any:
    """The GraphDef after TensorFlow's graph optimizer, the plugin's passes included.

    Args:
      graph: a GraphDef with devices. keep: names of the nodes that are fetched.
      stock: whether TensorFlow's own passes run as well.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
    from tensorflow.python.grappler import tf_optimizer

    config = config_pb2.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.min_graph_nodes = -1
    if not stock:
        for field in rewrite.DESCRIPTOR.fields:
            is_pass = field.enum_type is rewriter_config_pb2.RewriterConfig.Toggle.DESCRIPTOR
            if is_pass and field.name != "use_plugin_optimizers":
                setattr(rewrite, field.name, rewriter_config_pb2.RewriterConfig.OFF)
        rewrite.memory_optimization = rewriter_config_pb2.RewriterConfig.NO_MEM_OPT
        rewrite.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph, name="")
        meta_graph = tf.compat.v1.train.export_meta_graph(graph=imported)
    meta_graph.collection_def["train_op"].node_list.value.extend(keep)
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def keep_of(function: Any) -> list[str]:
    """What a ConcreteFunction returns, and what it does besides."""
    graph = function.graph
    return sorted({x.op.name for x in graph.outputs} | {op.name for op in graph.control_outputs})


def unique(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """TensorFlow optimizes a graph more than once."""
    return list({(row["pattern"], row["root"]): row for row in rows}.values())


def first_of_each_node(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is float32 after the first time is looked at again, with another outcome."""
    return list({row["node"]: row for row in reversed(rows)}.values())[::-1]


def examine(function: Any, device_type: str) -> tuple[Any, dict[str, list[dict[str, Any]]]]:
    """The optimized GraphDef of a ConcreteFunction; and "fusions", "refusals" and "precision", as
    recorded."""
    graph = placed(function, f"/job:localhost/replica:0/task:0/device:{device_type}:0")
    _runtime.call("record_fusions", on=True)
    try:
        result = optimized(graph, keep_of(function))
        record = _runtime.call("recorded_fusions")
    finally:
        _runtime.call("record_fusions", on=False)
    record["precision"] = first_of_each_node(record["precision"])
    return result, record | {kind: unique(record[kind]) for kind in ("fusions", "refusals")}


def clusters_of(graph: Any) -> list[tuple[str, int]]:
    """Pattern and number of members of each fused op in a GraphDef."""
    from tensorflow.core.framework import graph_pb2

    found = []
    for node in graph.node:
        if node.op == "_MetalCluster":
            inside = graph_pb2.GraphDef.FromString(node.attr["graph"].s).node
            members = [n for n in inside if n.op not in ("_Arg", "_Retval", "Const")]
            found.append((node.attr["pattern"].s.decode(), len(members)))
    return found


def report_precision(rows: list[dict[str, Any]]) -> None:
    """Prints what automatic mixed precision did with the float32 nodes that have a class."""
    converted = sum(row["converted"] for row in rows)
    print(f"  {converted} of {len(rows)} float32 nodes compute with 16 bits")
    groups = collections.defaultdict(list)
    for row in rows:
        verb = "converted" if row["converted"] else "kept"
        groups[(verb, row["class"], row["why"])].append(row["op"])
    for (verb, name, why), ops in sorted(groups.items()):
        counts = collections.Counter(ops).most_common()
        listed = ", ".join(f"{count} {op}" for op, count in counts)
        print(f"    {verb}, {name}: {why}: {listed}")


def report(title: str, function: Any, device_type: str) -> None:
    """Prints what fuses in one function."""
    before = len(function.graph.as_graph_def().node)
    result, record = examine(function, device_type)
    after = sum(not node.name.endswith(FED) for node in result.node)
    print(f"\n{title}: {before} nodes become {after}")
    by_pattern = collections.defaultdict(list)
    for row in record["fusions"]:
        by_pattern[row["pattern"]].append(row)
    for pattern, rows in sorted(by_pattern.items()):
        print(f"  {len(rows):4} x {pattern}")
        for row in rows:
            print(f"         {row['root']}: {len(row['nodes'])} nodes")
    clusters = [size for pattern, size in clusters_of(result) if pattern not in by_pattern]
    if clusters:
        print(f"  {len(clusters):4} x cluster, of {', '.join(map(str, clusters))} nodes")
    if not by_pattern and not clusters:
        print("  nothing fuses")
    fused = {row["root"] for row in record["fusions"]}
    missed = [row for row in record["refusals"] if row["root"] not in fused]
    if missed:
        print("  near misses:")
    for row in missed:
        print(f"         {row['pattern']} at {row['root']}: {row['rule']} ({row['node']})")
    if record["precision"]:
        report_precision(record["precision"])


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "dtype", "", "dtype policy of the layers, such as mixed_bfloat16", flag_values=values
    )
    flags.DEFINE_enum(
        "graph_rewrite", None, DTYPES, "automatic mixed precision to this", flag_values=values
    )


def check(options: flags.FlagValues, rest: list[str]) -> str:
    """What is wrong with a command line, or ""."""
    if len(rest) != 1:
        return "one model: a .keras or .h5 file, or the folder of a SavedModel"
    if not pathlib.Path(rest[0]).exists():
        return f"{rest[0]} does not exist"
    if options.dtype and pathlib.Path(rest[0]).is_dir():
        return "--dtype is for Keras models: a SavedModel has the types that it was saved with"
    return ""


def main(arguments: Sequence[str]) -> int:
    """what the graph passes fuse in a Keras model or SavedModel, and what they nearly do"""
    options = flags.FlagValues()
    define_flags(options)
    rest = _flags.parse(options, "fusions MODEL", arguments, functools.partial(check, options))
    if rest is None:
        return 2
    model = pathlib.Path(rest[0])
    if options.graph_rewrite:
        set_graph_rewrite(options.graph_rewrite)
    device_type = _runtime.call("loading")["type"] or "GPU"
    functions = (
        doctor.keras_functions(model, options.dtype)
        if options.dtype
        else doctor.functions_of(model)
    )
    try:
        for title, function in functions:
            report(title, function, device_type)
    except doctor.BadInputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
