"""Lower precision for a region of code."""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tensorflow_metal_py import _runtime

DTYPES = ("float16", "bfloat16")
# TensorFlow's generated modules of Python functions, one function for each op: every public
# function (tf.matmul, tf.nn.conv2d, Keras' layers) looks its op up there when it is called.
MODULES = ("gen_math_ops", "gen_nn_ops", "gen_linalg_ops", "gen_rnn_ops", "gen_cudnn_rnn_ops")

_here = threading.local()  # .dtype: of the innermost context of this thread, None outside
_lock = threading.Lock()
_replaced: list[tuple[Any, str, Callable]] = []  # module, name, original
_contexts = 0  # that are open, in all threads


@contextlib.contextmanager
def autocast(dtype: str | None) -> Iterator[None]:
    """Matrix products, convolutions and recurrent layers called inside compute in `dtype`.

    Their float32 tensors are cast to `dtype`, and what they return is cast back to float32, so that
    no other code sees another type; products are summed in float32. The ops are those of the class
    `allow` of the op table (`python -m tensorflow_metal_py ops`); everything else, and any op that
    gets other types, runs as it is. Gradients of such an op are computed in `dtype` as well,
    wherever the tape is asked for them. It acts on calls from Python in this thread: in eager code,
    and in a tf.function while it is traced (open it inside of the function: a function traced
    before stays as it is). It does nothing to calls of tf.raw_ops, to loaded graphs, and to layers
    whose policy is mixed already.

    Args:
      dtype: "float16", "bfloat16", or None: float32 again in an inner region.

    Raises:
      ValueError: another dtype. PluginNotLoadedError: there is no plugin, whose op table it is.
    """
    name = getattr(dtype, "name", dtype)
    if name is not None and name not in DTYPES:
        raise ValueError(f"autocast takes {', '.join(DTYPES)} or None, not {dtype!r}")
    before = getattr(_here, "dtype", None)
    _open()
    _here.dtype = name
    try:
        yield
    finally:
        _here.dtype = before
        _close()


def functions() -> dict[str, tuple[Any, str]]:
    """Op -> (module, name) of the Python functions of the ops that are worth casting."""
    modules = [importlib.import_module(f"tensorflow.python.ops.{name}") for name in MODULES]
    found = {}
    for op in {row["op"] for row in _runtime.call("ops") if row["precision"] == "allow"}:
        name = _snake(op)
        for module in modules:
            if callable(getattr(module, name, None)):
                found[op] = (module, name)
    return found


def _snake(op: str) -> str:
    """ "batch_mat_mul_v2" for "BatchMatMulV2", as TensorFlow's generator names functions."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1_\2", op)
    return re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", spaced).lower()


def _open() -> None:
    global _contexts
    with _lock:
        if not _contexts:
            for module, name in functions().values():
                original = getattr(module, name)
                _replaced.append((module, name, original))
                setattr(module, name, _casting(original))
        _contexts += 1


def _close() -> None:
    global _contexts
    with _lock:
        _contexts -= 1
        if not _contexts:
            for module, name, original in _replaced:
                setattr(module, name, original)
            _replaced.clear()


def _casting(original: Callable) -> Callable:
    @functools.wraps(original)
    def call(*args, **kwargs):
        import tensorflow as tf

        dtype = getattr(_here, "dtype", None)
        floats = [x for x in (*args, *kwargs.values()) if _is_float(x)]
        if dtype is None or not floats or any(tf.as_dtype(x.dtype) != tf.float32 for x in floats):
            return original(*args, **kwargs)

        def down(x: Any) -> Any:
            return tf.cast(x, dtype) if _is_float(x) else x

        def up(x: Any) -> Any:
            return tf.cast(x, "float32") if tf.is_tensor(x) and x.dtype == dtype else x

        result = original(*map(down, args), **{name: down(x) for name, x in kwargs.items()})
        return tf.nest.map_structure(up, result)

    return call


def _is_float(x: Any) -> bool:
    import tensorflow as tf

    # The dtype of a Keras variable is a string.
    return (tf.is_tensor(x) or isinstance(x, tf.Variable)) and tf.as_dtype(x.dtype).is_floating
