"""Runs the graph of a function op by op, eagerly, and shows each op to an observer."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
CONDITIONS = ("If", "StatelessIf")
CASES = ("Case", "StatelessCase")
LOOPS = ("While", "StatelessWhile")
# Control flow of TensorFlow 1, whose ops run in an order that depends on values.
FRAMES = ("Switch", "Merge", "Enter", "Exit", "NextIteration")

# observer(node: NodeDef, place: names of the calling nodes, inputs, outputs: lists of tensors)
Observer = Callable[[Any, tuple[str, ...], list[Any], list[Any]], None]


class UnsupportedGraphError(ValueError):
    """The graph cannot be run op by op; the message says why, in one line."""


class Interpreter:
    """Runs functions on eager tensors. Functions, conditions and loops are entered; what an op
    writes to variables, it writes."""

    def __init__(self, observer: Observer):
        self._observer = observer
        self._functions: dict[str, _Function] = {}

    def run(self, function: Any, inputs: Sequence[Any]) -> list[Any]:
        """Runs a ConcreteFunction on its flat inputs, without captures; returns flat outputs.

        Raises:
          UnsupportedGraphError: control flow of TensorFlow 1.
          tf.errors.OpError: an op fails.
        """
        body = _Function(function.function_def)
        return self._run(body, [*inputs, *function.captured_inputs], ())

    def _run(self, function: _Function, inputs: Sequence[Any], place: tuple[str, ...]) -> list[Any]:
        values = {f"{name}:0": x for name, x in zip(function.arguments, inputs, strict=True)}
        for node in function.nodes:
            names = [n if ":" in n else f"{n}:0" for n in node.input if n[0] != "^"]
            given = [values[name] for name in names]
            outputs = self._execute(node, given, place)
            values.update((f"{node.name}:{i}", x) for i, x in enumerate(outputs))
            if node.op not in (*CALLS, *CONDITIONS, *CASES, *LOOPS):
                self._observer(node, place, given, outputs)
        return [values[name] for name in function.results]

    def _execute(self, node: Any, inputs: list[Any], place: tuple[str, ...]) -> list[Any]:
        def call(attribute: str, inputs: Sequence[Any], index: int | None = None) -> list[Any]:
            value = node.attr[attribute]
            name = value.func.name if index is None else value.list.func[index].name
            return self._run(self._function(name), inputs, (*place, node.name))

        if node.op in CALLS:
            return call("f", inputs)
        if node.op in CONDITIONS:
            return call("then_branch" if bool(inputs[0]) else "else_branch", inputs[1:])
        if node.op in CASES:
            last = len(node.attr["branches"].list.func) - 1
            index = int(inputs[0])
            return call("branches", inputs[1:], index if 0 <= index <= last else last)
        if node.op in LOOPS:
            while bool(call("cond", inputs)[0]):
                inputs = call("body", inputs)
            return inputs
        if node.op in FRAMES:
            raise UnsupportedGraphError(f"{node.name}: {node.op} is control flow of TensorFlow 1")
        return execute(node, inputs)

    def _function(self, name: str) -> _Function:
        from tensorflow.python.eager import context

        if name not in self._functions:
            self._functions[name] = _Function(context.context().get_function_def(name))
        return self._functions[name]


class _Function:
    """A FunctionDef with its nodes in an order in which they can run."""

    def __init__(self, definition: Any):
        from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

        graph, flat = function_def_to_graph_def(definition)
        self.arguments = [arg.name for arg in definition.signature.input_arg]
        given = set(self.arguments)
        self.nodes = ordered([node for node in graph.node if node.name not in given])
        self.results = [
            flat[definition.ret[result.name]] for result in definition.signature.output_arg
        ]


def ordered(nodes: Sequence[Any]) -> list[Any]:
    """NodeDefs after what they need, else in the order in which they are given: that in which the
    program made them."""
    index = {node.name: i for i, node in enumerate(nodes)}
    needs = [{i.lstrip("^").split(":")[0] for i in n.input} & index.keys() for n in nodes]
    readers: dict[str, list[int]] = {name: [] for name in index}
    for i, names in enumerate(needs):
        for name in names:
            readers[name].append(i)
    missing = [len(names) for names in needs]
    ready = [i for i, count in enumerate(missing) if not count]
    heapq.heapify(ready)
    result = []
    while ready:
        node = nodes[heapq.heappop(ready)]
        result.append(node)
        for reader in readers[node.name]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(result) != len(nodes):
        raise UnsupportedGraphError("the graph has a cycle: control flow of TensorFlow 1")
    return result


def execute(node: Any, inputs: list[Any]) -> list[Any]:
    """The outputs of one NodeDef."""
    import tensorflow as tf
    from tensorflow.python.eager import context
    from tensorflow.python.eager import execute as eager
    from tensorflow.python.framework import op_def_registry

    if node.op == "Const":
        return [tf.constant(tf.make_ndarray(node.attr["value"].tensor))]
    definition = op_def_registry.get(node.op)
    attributes: list[Any] = []
    for attr in definition.attr:
        if attr.name in node.attr:
            attributes += [attr.name, _value(node.attr[attr.name])]
    outputs = eager.execute(
        node.op.encode(),
        len(output_names(node)),
        inputs=inputs,
        attrs=tuple(attributes),
        ctx=context.context(),
    )
    return list(outputs) if outputs is not None else []


def output_names(node: Any) -> list[str]:
    """Of each output of a NodeDef, the name of the output argument that it belongs to."""
    from tensorflow.python.framework import op_def_registry

    arguments = op_def_registry.get(node.op).output_arg
    return [arg.name for arg in arguments for _ in range(_count(node, arg))]


def _count(node: Any, arg: Any) -> int:
    """How many tensors an output argument stands for."""
    if arg.number_attr:
        return node.attr[arg.number_attr].i
    return len(node.attr[arg.type_list_attr].list.type) if arg.type_list_attr else 1


def _value(attribute: Any) -> Any:
    """An AttrValue in Python, as TensorFlow's eager runtime takes it."""
    kind = attribute.WhichOneof("value")
    if kind == "list":
        filled = [field for field, _ in attribute.list.ListFields()]
        values = getattr(attribute.list, filled[0].name) if filled else ()
        return [_scalar(filled[0].name, value) for value in values]
    return _scalar(kind, getattr(attribute, kind))


def _scalar(kind: str, value: Any) -> Any:
    if kind == "shape":
        return None if value.unknown_rank else [d.size for d in value.dim]
    return value.name if kind == "func" else value
