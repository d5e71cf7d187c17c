"""What a precision costs and saves: errors of a network, seconds of its layers and steps."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tensorflow_metal_py.mixed_precision import layers
from tensorflow_metal_py.mixed_precision.policy import Policy

Loss = Callable[[Any, Any], Any]
# Factors of the loss in float16, largest first: the first one that overflows nothing counts, as
# with Keras' LossScaleOptimizer, which begins with 2^15.
LOSS_SCALES = tuple(2.0**power for power in (15, 10, 5, 0))


@dataclasses.dataclass(frozen=True)
class Errors:
    """Relative differences to float32 in the Euclidean norm: of the outputs together, of the
    gradients of all trainable weights together. Infinite if a number is not finite."""

    output: float
    gradient: float

    def __or__(self, other: Errors) -> Errors:
        """The larger of each."""
        return Errors(max(self.output, other.output), max(self.gradient, other.gradient))

    def worst(self, budget: Errors) -> float:
        """The larger share of its budget; fits if it is at most 1."""
        return max(self.output / budget.output, self.gradient / budget.gradient)


@dataclasses.dataclass(frozen=True)
class Results:
    """Flattened outputs and gradients, in float64, without those that are None."""

    outputs: list[np.ndarray]
    gradients: list[np.ndarray]

    def is_finite(self) -> bool:
        return all(np.isfinite(x).all() for x in (*self.outputs, *self.gradients))


def batches(data: Any, size: int, limit: int) -> list[tuple[Any, Any, Any]]:
    """At most `limit` batches (x, y, weights) of arrays [n, ...] or of an iterable of batches.

    Raises:
      ValueError: there is no data.
    """
    import tensorflow as tf

    if isinstance(data, tf.data.Dataset) or isinstance(data, Iterator):
        found = list(itertools.islice(data, limit))
    else:
        total = min((len(x) for x in tf.nest.flatten(data) if x is not None), default=0)
        starts = range(0, min(total, size * limit), size)
        found = [_slice(data, start, start + size) for start in starts]
    if not found:
        raise ValueError("no data to measure on")
    parts = (batch if isinstance(batch, tuple) else (batch,) for batch in found)
    return [tuple(_tensors(part) for part in (*batch, None, None)[:3]) for batch in parts]


def _slice(data: Any, start: int, stop: int) -> Any:
    import tensorflow as tf

    return tf.nest.map_structure(lambda x: None if x is None else x[start:stop], data)


def _tensors(data: Any) -> Any:
    """On the device, in float32 what was float64."""
    import tensorflow as tf

    def convert(x: Any) -> Any:
        if x is None:
            return None
        tensor = tf.convert_to_tensor(x)
        return tf.identity(tf.cast(tensor, "float32") if tensor.dtype == "float64" else tensor)

    return tf.nest.map_structure(convert, data)


class Network:
    """A model with its loss: `loss(y, outputs)`, or what it was compiled with, or, without both or
    without targets, half of the mean square of its outputs."""

    def __init__(self, model: Any, loss: Loss | None):
        self.model, self._loss = model, loss
        self._state = [(v, v.numpy()) for v in model.non_trainable_variables]

    def loss(self, batch: Sequence[Any], outputs: Any) -> Any:
        """Scalar, float32."""
        import tensorflow as tf

        x, y, weights = batch
        if y is not None and self._loss is not None:
            return tf.reduce_mean(tf.cast(self._loss(y, outputs), "float32"))
        if y is not None and getattr(self.model, "optimizer", None) is not None:
            loss = self.model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=weights)
            return tf.cast(loss, "float32")
        parts = [tf.cast(out, "float32") for out in tf.nest.flatten(outputs)]
        return tf.add_n([tf.reduce_mean(tf.square(part)) / 2 for part in parts])

    def restore(self) -> None:
        """Moving averages and generators of random numbers as they were at the beginning."""
        for variable, value in self._state:
            variable.assign(value)

    def pass_once(self, batch: Sequence[Any], scale: float = 1.0) -> tuple[Any, Any]:
        """Outputs, and gradients of the scaled loss."""
        import tensorflow as tf

        variables = self.model.trainable_variables
        values = [getattr(v, "value", v) if layers.is_keras_3(self.model) else v for v in variables]
        with tf.GradientTape() as tape:
            outputs = self.model(batch[0], training=True)
            loss = self.loss(batch, outputs) * scale
        return outputs, tape.gradient(loss, values)

    def results(self, batch: Sequence[Any], scales: Sequence[float] = (1.0,)) -> Results:
        """Of one batch, eagerly, with the policies that the model has now."""
        import tensorflow as tf

        for scale in scales:
            self.restore()
            with _without_chance(self.model):
                outputs, gradients = self.pass_once(batch, scale)
            found = Results(
                [_flat(x) for x in tf.nest.flatten(outputs)],
                [_flat(g) / scale for g in gradients if g is not None],
            )
            if found.is_finite():
                break
        self.restore()
        return found

    def errors(self, policy: Policy, batch: Sequence[Any], exact: Results) -> Errors:
        """Of a policy on one batch, against what float32 gives."""
        with policy.scope(self.model):
            got = self.results(batch, LOSS_SCALES if policy.uses("mixed_float16") else (1.0,))
        return Errors(
            relative_error(got.outputs, exact.outputs),
            relative_error(got.gradients, exact.gradients),
        )

    def step(self, policy: Policy, batch: Sequence[Any]) -> Callable[[], float]:
        """A traced forward and backward pass; a call returns when its work is done."""
        import tensorflow as tf

        def run():
            outputs, gradients = self.pass_once(batch)
            return checksum([*tf.nest.flatten(outputs), *gradients])

        with policy.scope(self.model):
            traced = tf.function(run, autograph=False).get_concrete_function()
        return lambda: float(traced())


def _flat(tensor: Any) -> np.ndarray:
    import tensorflow as tf

    dense = tf.convert_to_tensor(tensor)  # the gradient of an Embedding is sparse
    return tf.cast(dense, "float32").numpy().astype(np.float64).ravel()


def relative_error(got: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> float:
    """|got - exact| / |exact| over all numbers; infinite if one of `got` is not finite."""
    if len(got) != len(exact) or not all(np.isfinite(x).all() for x in got):
        return math.inf
    difference = math.sqrt(
        sum(float(np.sum((a - b) ** 2)) for a, b in zip(got, exact, strict=True))
    )
    norm = math.sqrt(sum(float(np.sum(b**2)) for b in exact))
    return difference / norm if norm else (0.0 if difference == 0 else math.inf)


def checksum(tensors: Iterable[Any]) -> Any:
    """One number that depends on all of the work, so that reading it waits for it."""
    import tensorflow as tf

    parts = [getattr(t, "values", t) for t in tensors if t is not None]
    sums = [tf.reduce_sum(tf.cast(part, "float32")) for part in parts if part.dtype.is_floating]
    return tf.add_n(sums) if sums else tf.zeros(())


@contextlib.contextmanager
def _overridden(chosen: Iterable[Any], wrap: Callable[[Any, Callable], Callable]) -> Iterator[None]:
    """Each layer's `call` is `wrap(layer, call)`. Set on the instance, past Keras' tracking."""
    changed = []
    try:
        for layer in chosen:
            if "call" not in vars(layer):  # else somebody else did the same: left alone
                object.__setattr__(layer, "call", wrap(layer, layer.call))
                changed.append(layer)
        yield
    finally:
        for layer in changed:
            object.__delattr__(layer, "call")


def _without_chance(model: Any) -> contextlib.AbstractContextManager[None]:
    """Layers that draw random numbers (Dropout) do as in inference, all others train: two
    precisions draw different numbers, and that is no error of either."""

    def is_random(layer: Any) -> bool:
        return any(name in vars(layer) for name in ("seed_generator", "_random_generator"))

    def still(layer: Any, call: Callable) -> Callable:
        def run(*args, **kwargs):
            return call(
                *args, **{**kwargs, **({"training": False} if "training" in kwargs else {})}
            )

        return run

    parts = {id(p): p for unit in layers.units(model).values() for p in layers.parts(unit)}
    return _overridden(filter(is_random, parts.values()), still)


@dataclasses.dataclass
class Call:
    """How a model calls a layer: the arguments of the first call, and how often."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    count: int = 1


def calls(network: Network, batch: Sequence[Any]) -> dict[str, Call]:
    """Path -> call, of the layers that one batch reaches, in the order of their calls."""
    units = layers.units(network.model)
    paths = {id(layer): path for path, layer in units.items()}
    found: dict[str, Call] = {}

    def note(layer: Any, call: Callable) -> Callable:
        def run(*args, **kwargs):
            path = paths[id(layer)]
            if path in found:
                found[path].count += 1
            else:
                found[path] = Call(args, dict(kwargs))
            return call(*args, **kwargs)

        return run

    with _overridden(units.values(), note):
        network.model(batch[0], training=True)
    network.restore()
    return found


def layer_step(layer: Any, call: Call) -> Callable[[], float]:
    """The layer's forward and backward pass alone, traced in its present policy, on inputs of its
    own type, as neighbours of the same policy hand them."""
    import tensorflow as tf

    def ready(x: Any) -> Any:
        is_float = tf.is_tensor(x) and x.dtype.name in layers.FLOATS
        return tf.identity(tf.cast(x, layer.compute_dtype)) if is_float else x

    args, kwargs = tf.nest.map_structure(ready, (call.args, call.kwargs))

    def run():
        sources = [
            x for x in tf.nest.flatten((args, kwargs)) if tf.is_tensor(x) and x.dtype.is_floating
        ]
        sources += [v.value if layers.is_keras_3(layer) else v for v in layer.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch([x for x in sources if tf.is_tensor(x)])
            outputs = layer(*args, **kwargs)
        outputs = [x for x in tf.nest.flatten(outputs) if x is not None and x.dtype.is_floating]
        gradients = tape.gradient(outputs, sources) if outputs else []
        return checksum([*outputs, *gradients])

    traced = tf.function(run, autograph=False).get_concrete_function()
    return lambda: float(traced())
