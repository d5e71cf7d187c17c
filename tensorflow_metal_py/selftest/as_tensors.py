"""Ops that take or answer more than tensors, as functions from tensors to tensors.

A variable or a list of tensors is made from an argument before the op runs and read after it; what
only another kernel understands (the reserve space of a recurrent layer) is handed to that kernel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import op_def_registry

R = tf.raw_ops


def _tensors(result: Any) -> list[tf.Tensor]:
    """Without the operations and None that ops without outputs answer."""
    return [y for y in tf.nest.flatten(result) if tf.is_tensor(y)]


def _on_variable(op: str, name: str, **arguments: Any) -> list[tf.Tensor]:
    """The argument `name` is a variable of that value; what it holds then is the last result."""
    value = arguments[name]
    # Named, so that it may be made in functions as well; each call gives it a value again.
    variable = f"as_tensors_{value.dtype.name}"
    handle = R.VarHandleOp(dtype=value.dtype, shape=value.shape, shared_name=variable)
    R.AssignVariableOp(resource=handle, value=value)
    results = _tensors(getattr(R, op)(**{**arguments, name: handle}))
    return [*results, R.ReadVariableOp(resource=handle, dtype=value.dtype)]


def _on_lists(op: str, **arguments: Any) -> list[tf.Tensor]:
    """Each argument is a list of its rows, and so is the result."""

    def listed(x: tf.Tensor) -> tf.Tensor:
        return R.TensorListFromTensor(tensor=x, element_shape=x.shape[1:].as_list())

    (first, *_) = tf.nest.flatten(arguments)
    result = getattr(R, op)(**tf.nest.map_structure(listed, arguments))
    shape = first.shape[1:].as_list()
    return [R.TensorListStack(input_handle=result, element_shape=shape, element_dtype=first.dtype)]


def _states(arguments: dict[str, Any]) -> slice:
    """Of the outputs (output, output_h, output_c): only an LSTM has the last."""
    return slice(3 if arguments["rnn_mode"] == "lstm" else 2)


def _rnn(op: str, **arguments: Any) -> list[tf.Tensor]:
    return list(getattr(R, op)(**arguments)[_states(arguments)])


def _rnn_gradient(op: str, **arguments: Any) -> list[tf.Tensor]:
    """With the gradients of the outputs as arguments, of those of the forward op that it needs."""
    gradients = {k: v for k, v in arguments.items() if k.endswith("_backprop")}
    given = {k: v for k, v in arguments.items() if k not in gradients}
    forward = getattr(R, op.replace("Backprop", ""))(**given, is_training=True)
    outputs = forward._asdict()
    gradients.setdefault("output_c_backprop", tf.zeros_like(outputs["output_c"]))
    results = getattr(R, op)(**given, **outputs, **gradients)
    names = ("input", "input_h", "input_c", "params")
    kept = [n for n in names if n != "input_c" or arguments["rnn_mode"] == "lstm"]
    return [getattr(results, f"{n}_backprop") for n in kept]


_RNN = {f"CudnnRNN{v}": _rnn for v in ("", "V2", "V3")}
_RNN |= {f"CudnnRNNBackprop{v}": _rnn_gradient for v in ("", "V2", "V3")}


def function_of(op: str, dtype: str) -> Callable[..., Any]:
    """`op` of tf.raw_ops as a function from tensors to tensors, by the names of its arguments.

    dtype: "variant" for lists of tensors.
    """
    if op in _RNN:
        return functools.partial(_RNN[op], op)
    if dtype == "variant":
        return functools.partial(_on_lists, op)
    definition = op_def_registry.get(op)
    for argument in definition.input_arg if definition else ():
        if argument.type == types_pb2.DT_RESOURCE:
            return functools.partial(_on_variable, op, argument.name)
    return getattr(tf.raw_ops, op)
