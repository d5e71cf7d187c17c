"""Names the op in which NaN or infinity appears first.

    python -m tensorflow_metal_py nans model.keras                 random data, seed 0
    python -m tensorflow_metal_py nans model.keras 7               random data, seed 7
    python -m tensorflow_metal_py nans model.keras data.npy        one array [n, ...] of inputs
    python -m tensorflow_metal_py nans model.keras data.npz        arrays by name; y: targets
    python -m tensorflow_metal_py nans saved_model/ data.npz       each signature
    flags: --policy=mixed_float16 or a file that Policy.save wrote, --batch=8, --all

The graph runs op by op on the device: the call of the model and, if it is compiled, a training
step. An op is named if an output is not finite although all of its inputs are. Exit status: 1 if
there is one, 0 if not, 2 if the model or data cannot be used.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from tensorflow_metal_py import _flags, doctor, interpreter
from tensorflow_metal_py.mixed_precision.policy import POLICIES, Policy

TARGETS = "y"  # the array of a .npz with what the model shall learn
OPAQUE = "reserve_space"  # outputs that only the op's own gradient can read
BATCH = 8  # examples of random data


@dataclasses.dataclass(frozen=True)
class Range:
    """What is in a tensor.

    Attributes:
      dtype, shape: of the tensor. low, high: of its finite numbers; NaN if there are none.
      nans, infinities: how many.
    """

    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float
    nans: int
    infinities: int

    @classmethod
    def of(cls, tensor: Any) -> Range:
        """Of a float or complex tensor (real and imaginary parts)."""
        import tensorflow as tf

        wide = tensor if tensor.dtype.is_complex else tf.cast(tensor, "float64")
        numbers = wide.numpy()
        if np.iscomplexobj(numbers):
            numbers = np.stack([numbers.real, numbers.imag])
        finite = numbers[np.isfinite(numbers)]
        low, high = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
        nans, infinities = np.isnan(numbers).sum(), np.isinf(numbers).sum()
        shape = tuple(tensor.shape.as_list())
        return cls(tensor.dtype.name, shape, float(low), float(high), int(nans), int(infinities))

    @property
    def is_finite(self) -> bool:
        return not self.nans and not self.infinities

    def __str__(self) -> str:
        found = [f"{self.nans} NaN"] * bool(self.nans)
        found += [f"{self.infinities} Inf"] * bool(self.infinities)
        found += [f"{self.low:.4g} to {self.high:.4g}"] * bool(self.low <= self.high)
        return f"{self.dtype}{list(self.shape)}: {', '.join(found) or 'empty'}"


@dataclasses.dataclass(frozen=True)
class Finding:
    """An op that makes NaN or infinity of finite inputs.

    Attributes:
      node: its name. op: its type. dtypes: its type attributes, as in "T=half".
      layer: the scope of names that it is in, after those of the functions that call it.
      inputs, outputs: ranges of its float tensors.
    """

    node: str
    op: str
    dtypes: str
    layer: str
    inputs: tuple[Range, ...]
    outputs: tuple[Range, ...]

    def __str__(self) -> str:
        rows = [f"  op      {self.node}", f"  type    {self.op}({self.dtypes})"]
        rows.append(f"  layer   {self.layer or '-'}")
        rows += [f"  input   {x}" for x in self.inputs]
        rows += [f"  output  {x}" for x in self.outputs]
        return "\n".join(rows)


class Watch:
    """Observer of an `interpreter.Interpreter` that collects findings, in order."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.ops = 0
        self._bad: dict[int, Any] = {}  # by id, kept alive: tensors that hold or may hold them

    def __call__(self, node: Any, place: tuple[str, ...], inputs: list, outputs: list) -> None:
        self.ops += 1
        names = interpreter.output_names(node)
        outputs = [x for x, name in zip(outputs, names, strict=True) if OPAQUE not in name]
        ranges = [Range.of(x) for x in outputs if _is_float(x)]
        finite = all(x.is_finite for x in ranges)
        infected = any(id(x) in self._bad for x in inputs)
        if finite and not infected:
            return
        for x in outputs:
            # A list of tensors cannot be looked into.
            if not Range.of(x).is_finite if _is_float(x) else infected and x.dtype == "variant":
                self._bad[id(x)] = x
        if finite or infected or node.op == "Const":  # a constant is meant to be infinite
            return
        signature = doctor.signature_of(node)
        self.findings.append(
            Finding(
                node.name,
                node.op,
                ", ".join(f"{name}={dtype}" for name, dtype in signature.types),
                " > ".join([*place, node.name.rpartition("/")[0]]).removesuffix(" > "),
                tuple(Range.of(x) for x in inputs if _is_float(x)),
                tuple(ranges),
            )
        )


def _is_float(tensor: Any) -> bool:
    return tensor.dtype.is_floating or tensor.dtype.is_complex


def examine(function: Any, inputs: Sequence[Any]) -> Watch:
    """Runs a ConcreteFunction on flat inputs, op by op; returns what was found.

    Raises:
      doctor.BadInputError: the inputs are not finite, or the graph cannot be run so.
    """
    import tensorflow as tf

    watch = Watch()
    for x in inputs:
        if _is_float(x) and not Range.of(x).is_finite:
            raise doctor.BadInputError(f"the data is not finite: {Range.of(x)}")
    try:
        interpreter.Interpreter(watch).run(function, inputs)
    except interpreter.UnsupportedGraphError as error:
        raise doctor.BadInputError(str(error)) from error
    except tf.errors.OpError as error:
        line = error.message.splitlines()[0]
        raise doctor.BadInputError(f"the graph does not run: {line}") from error
    return watch


# ---- model and data -----------------------------------------------------------------------------


class Data:
    """Arrays of a file, or random ones, for inputs that are asked for by name and TensorSpec."""

    def __init__(self, source: str, batch: int):
        self._batch, self._source = batch, source
        self.arrays: Mapping[str, np.ndarray] | None = None  # None: random
        if source.isdecimal():
            self._rng = np.random.default_rng(int(source))
            return
        path = pathlib.Path(source)
        if path.suffix not in (".npy", ".npz"):
            raise doctor.BadInputError(f"{source} is no .npy, .npz or seed")
        try:
            loaded = np.load(path, allow_pickle=False)
            self.arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise doctor.BadInputError(f"{source} cannot be read: {error}") from error

    def tensors(self, specs: Mapping[str, Any]) -> list[Any]:
        """A tensor for each spec; a single one may have any name in the file."""
        inputs = [name for name in self.arrays or () if name != TARGETS]
        if self.arrays is not None and len(specs) == len(inputs) == 1:
            return [self._convert(self.arrays[inputs[0]], spec) for spec in specs.values()]
        return [self._tensor(name, spec) for name, spec in specs.items()]

    def _tensor(self, name: str, spec: Any) -> Any:
        if self.arrays is None:
            return self.random(spec)
        if name not in self.arrays:
            known = ", ".join(filter(None, self.arrays)) or "one without a name"
            raise doctor.BadInputError(f"{self._source} has no array {name!r}; it has {known}")
        return self._convert(self.arrays[name], spec)

    def _convert(self, array: np.ndarray, spec: Any) -> Any:
        import tensorflow as tf

        if not spec.shape.is_compatible_with(array.shape):
            raise doctor.BadInputError(
                f"{self._source} has an array of shape {array.shape}; the model takes {spec.shape}"
            )
        return tf.cast(tf.constant(array), spec.dtype)

    def random(self, spec: Any, classes: int = 2) -> Any:
        """Of the normal distribution, or integers below `classes`."""
        import tensorflow as tf

        shape = [self._batch if d is None else d for d in spec.shape]
        if spec.dtype.is_floating or spec.dtype.is_complex:
            return tf.cast(tf.constant(self._rng.standard_normal(shape)), spec.dtype)
        if not (spec.dtype.is_integer or spec.dtype.is_bool):
            raise doctor.BadInputError(f"no random data for the type {spec.dtype.name}: give some")
        return tf.cast(tf.constant(self._rng.integers(0, classes, shape)), spec.dtype)

    def targets(self, outputs: Any) -> Iterator[Any]:
        """What a model with these outputs may be trained on: y of the file, or guesses."""
        import tensorflow as tf

        if self.arrays is not None:
            if TARGETS in self.arrays:
                yield tf.constant(self.arrays[TARGETS])
            return
        flat = tf.nest.flatten(outputs)
        for specs in doctor.target_specs(outputs):
            yield tf.nest.map_structure(lambda s: self.random(s, flat[0].shape[-1] or 2), specs)


def keras_runs(path: pathlib.Path, policy: Policy | None, data: Data) -> Iterator[tuple]:
    """(title, ConcreteFunction, flat inputs) of a Keras model."""
    import tensorflow as tf

    model = doctor.load_keras(path)
    if policy:
        try:
            model = policy.apply(model)
        except ValueError as error:
            raise doctor.BadInputError(str(error)) from error
    structure = doctor.input_structure(model)
    flat = tf.nest.flatten(structure)
    specs = {x.name: tf.TensorSpec(x.shape, x.dtype) for x in flat}
    x = tf.nest.pack_sequence_as(structure, data.tensors(specs))
    call = tf.function(lambda x: model(x, training=False), autograph=False)
    concrete = call.get_concrete_function(x)
    yield "inference", concrete, tf.nest.flatten(x)
    if getattr(model, "optimizer", None) is None:
        return
    error: Exception | None = None
    step = tf.function(lambda x, y: model.train_step((x, y)), autograph=False)
    for y in data.targets(concrete.structured_outputs):
        try:
            concrete = step.get_concrete_function(x, y)
        except (ValueError, TypeError, tf.errors.OpError) as failed:
            error = failed
        else:
            yield "training step", concrete, tf.nest.flatten((x, y))
            return
    if error:
        print(f"The training step could not be traced: {doctor.first_line(error)}")


def saved_model_runs(path: pathlib.Path, data: Data) -> Iterator[tuple]:
    """(title, ConcreteFunction, flat inputs) of each signature of a SavedModel."""
    for title, function in doctor.saved_model_functions(path):
        specs = function.structured_input_signature[1]
        tensors = dict(zip(specs, data.tensors(specs), strict=True))
        # A signature takes its arguments in the order of its graph's inputs.
        yield title, function, [tensors[name] for name in function._arg_keywords]


def load_policy(text: str) -> Policy | None:
    """Of --policy; BadInputError if it is none."""
    if not text:
        return None
    try:
        return Policy(text) if text in POLICIES else Policy.load(text)
    except FileNotFoundError as error:
        message = f"{text} is no file and no policy; policies are {', '.join(POLICIES)}"
        raise doctor.BadInputError(message) from error
    except (OSError, ValueError) as error:
        raise doctor.BadInputError(str(error)) from error


# ---- the report ---------------------------------------------------------------------------------


def report(title: str, watch: Watch, everything: bool) -> None:
    if not watch.findings:
        print(f"{title}: no NaN or Inf in {watch.ops} ops")
        return
    print(f"{title}: NaN or Inf appears first in")
    shown = watch.findings if everything else watch.findings[:1]
    print("\n\n".join(map(str, shown)))
    if len(watch.findings) > len(shown):
        print(f"  and anew in {len(watch.findings) - len(shown)} later ops: --all shows them")


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "policy", "", f"of {', '.join(POLICIES)}, or a file of one", flag_values=values
    )
    flags.DEFINE_integer("batch", BATCH, "examples of random data", 1, flag_values=values)
    flags.DEFINE_boolean("all", False, "show all such ops", flag_values=values)


def main(arguments: Sequence[str]) -> int:
    """which op of a Keras model or SavedModel makes the first NaN or infinity, on given data"""
    values = flags.FlagValues()
    define_flags(values)
    rest = _flags.parse(
        values,
        "nans MODEL [DATA or SEED]",
        arguments,
        lambda rest: "" if 1 <= len(rest) <= 2 else "a model is missing, or too much is given",
    )
    if rest is None:
        return 2
    path = pathlib.Path(rest[0])
    found = False
    try:
        if not path.exists():
            raise doctor.BadInputError(f"{path} does not exist")
        data = Data(rest[1] if rest[1:] else "0", values.batch)
        policy = load_policy(values.policy)
        if policy and path.is_dir():
            raise doctor.BadInputError("--policy is for Keras models, not for a SavedModel")
        runs = saved_model_runs(path, data) if path.is_dir() else keras_runs(path, policy, data)
        for title, function, inputs in runs:
            watch = examine(function, inputs)
            report(title, watch, values.all)
            found = found or bool(watch.findings)
    except doctor.BadInputError as error:
        print(error, file=sys.stderr)
        return 2
    return int(found)
