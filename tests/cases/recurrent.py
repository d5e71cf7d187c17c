"""CudnnRNN ops, of which TensorFlow has no CPU kernels: against a loop of its CPU ops. What the
forward op keeps for its gradient is not compared (selftest/as_tensors.py)."""

import dataclasses
import itertools
from typing import Any

import tensorflow as tf

from tests import rnn_reference
from tests.rnn_reference import GATES, Model
from tests.spine import Case, Host, Tensor, expand

_PLAIN = [Model(layers=2), *(Model(mode=mode, bidirectional=True) for mode in GATES)]
# Of the third version only: lengths, another layout, a projection.
_FURTHER = [
    Model(layers=2, bidirectional=True, lengths=(3, 5)),
    Model(mode="gru", time_major=False, lengths=(0, 4)),
    Model(projection=3, layers=2),
]
_SCALE = 4  # sums and functions of some steps


@dataclasses.dataclass(frozen=True)
class Reference:
    """Outputs of the model or, given those of the outputs, gradients of its arguments."""

    model: Model

    def __call__(self, input, input_h, input_c, params, **others: Any) -> list[tf.Tensor]:
        lstm = self.model.mode == "lstm"
        cell = input_c if lstm else None
        given = [x for x in (input, input_h, cell, params) if x is not None]
        names = ("output_backprop", "output_h_backprop", "output_c_backprop")
        weights = [others[name] for name in names if name in others]
        with tf.GradientTape() as tape:
            tape.watch(given)
            outputs = rnn_reference.run(self.model, input, input_h, cell, params)
            outputs = outputs[: 3 if lstm else 2]
        if not weights:
            return outputs
        return tape.gradient(outputs, given, weights, unconnected_gradients="zero")


def _arguments(model: Model, version: str) -> tuple[dict[str, Any], dict[str, Any]]:
    lstm = model.mode == "lstm"
    args: dict[str, Any] = {
        "input": Tensor(model.input_shape()),
        "input_h": Tensor(model.state_shape(model.output), "unit"),
        "input_c": Tensor(model.state_shape(model.units) if lstm else (), "unit"),
        "params": Tensor((model.parameters(),), "unit"),
    }
    attrs = model.attributes()
    if version == "V3":
        args["sequence_lengths"] = Host(list(model.lengths or [model.steps] * model.batch))
        attrs = {**attrs, "num_proj": model.projection, "time_major": model.time_major}
    return args, attrs


def _layers() -> list[Case]:
    result = []
    for version, model in itertools.product(("", "V2", "V3"), _PLAIN + _FURTHER):
        if model in _FURTHER and version != "V3":
            continue
        args, attrs = _arguments(model, version)
        settings = {"scale": _SCALE, "reference": Reference(model)}
        result += expand(Case(f"CudnnRNN{version}", args, attrs, **settings))
        wide = model.directions * model.output
        shape = (*model.input_shape()[:2], wide)
        args = {**args, "output_backprop": Tensor(shape, "unit")}
        args["output_h_backprop"] = args["input_h"]
        if model.mode == "lstm":
            args["output_c_backprop"] = args["input_c"]
        result += expand(Case(f"CudnnRNNBackprop{version}", args, attrs, **settings))
    return result


# ---- parameters ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Size:
    model: Model

    def __call__(self, S, **_: Any) -> tf.Tensor:
        return tf.constant([self.model.parameters()], S)


@dataclasses.dataclass(frozen=True)
class _Pieces:
    model: Model

    def __call__(self, params, **_: Any) -> list[tf.Tensor]:
        shapes = self.model.weight_shapes()
        biases = [self.model.units] * self.model.bias_count()
        pieces = tf.split(params, [a * b for a, b in shapes] + biases)
        weights = [tf.reshape(p, s) for p, s in zip(pieces, shapes, strict=False)]
        return [*weights, *pieces[len(shapes) :]]


def _whole(weights, biases, **_: Any) -> tf.Tensor:
    return tf.concat([tf.reshape(x, [-1]) for x in [*weights, *biases]], 0)


def _parameters() -> list[Case]:
    """Of the first version: with as many weights as biases."""
    result = []
    plain = Model(layers=2, units=3, inputs=5)
    projected = Model(layers=2, bidirectional=True, units=5, projection=3)
    for model, version in [(plain, ""), (plain, "V2"), (projected, "V2")]:
        sizes = {
            "num_layers": Host(model.layers),
            "num_units": Host(model.units),
            "input_size": Host(model.inputs),
        }
        attrs = model.attributes()
        if version:
            attrs["num_proj"] = model.projection
        shapes, biases = model.weight_shapes(), model.bias_count()
        counts = {"num_params_weights": len(shapes), "num_params_biases": biases}
        params = {**sizes, "params": Tensor((model.parameters(),))}
        to = f"CudnnRNNParamsToCanonical{version}"
        named = {**attrs, **(counts if version else {"num_params": len(shapes)})}
        result += expand(Case(to, params, named, exact=True, reference=_Pieces(model)))
        parts = {
            **sizes,
            "weights": [Tensor(shape) for shape in shapes],
            "biases": [Tensor((model.units,))] * biases,
        }
        back = f"CudnnRNNCanonicalToParams{version}"
        result += expand(Case(back, parts, attrs, exact=True, reference=_whole))
        if not version:
            for index in ("int32", "int64"):
                case = Case("CudnnRNNParamsSize", sizes, attrs, exact=True, reference=_Size(model))
                typed = [
                    dataclasses.replace(c, types={"T": c.dtype, "S": index}) for c in expand(case)
                ]
                result += typed
    return result


def cases() -> list[Case]:
    return [*_layers(), *_parameters()]
