"""Which layer of a Keras model computes in which dtype policy: to apply, save and load."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tensorflow_metal_py.mixed_precision import layers

FLOAT32 = "float32"
# Variables are float32 in all of them: what a layer computes in can change at any time.
POLICIES = (FLOAT32, "mixed_float16", "mixed_bfloat16")
FORMAT = 1  # of the file; raised when its meaning changes


@dataclasses.dataclass(frozen=True)
class LayerMeasurement:
    """What `tune` measured of one layer in one policy.

    Attributes:
      path: the layer's, as in `Policy.layers`. kind: its class. policy: what it computed in.
      seconds: of the layer's forward and backward pass alone, times its calls in one step; NaN if
        it cannot run alone. float32_seconds: the same in float32.
      spread: of both, relative: half of the interquartile range.
      output_error, gradient_error: of the network when only this layer is in that policy,
        relative to float32 in the Euclidean norm; infinite if a number overflows.
    """

    path: str
    kind: str
    policy: str
    seconds: float
    float32_seconds: float
    spread: float
    output_error: float
    gradient_error: float


@dataclasses.dataclass(frozen=True)
class Policy:
    """A Keras dtype policy for each layer of a model.

    A layer here is what the model calls: layers inside of other layers (those of
    MultiHeadAttention or Bidirectional) follow the outer one, models inside of models do not.

    Attributes:
      default: policy of every layer that is not in `layers`: "float32", "mixed_float16" or
        "mixed_bfloat16".
      layers: path -> policy. A path is the layer's name, after those of the models around it:
        "dense", "encoder/dense". The outermost model is not named.
      measured: figures of the whole model: output_error and gradient_error (relative),
        output_budget and gradient_budget, seconds and float32_seconds of a step; empty for a
        policy that was not tuned.
      measurements: of the layers.

    Raises:
      ValueError: unknown policy.
    """

    default: str = FLOAT32
    layers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    measured: Mapping[str, float] = dataclasses.field(default_factory=dict)
    measurements: tuple[LayerMeasurement, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.default, *self.layers.values()):
            if name not in POLICIES:
                raise ValueError(f"unknown dtype policy {name!r}; known are {', '.join(POLICIES)}")
        # An entry that says what the default says is none.
        kept = {path: name for path, name in self.layers.items() if name != self.default}
        object.__setattr__(self, "layers", kept)

    def __str__(self) -> str:
        rest = "".join(f", {path}: {name}" for path, name in self.layers.items())
        return f"{self.default}{rest}"

    @property
    def is_global(self) -> bool:
        """Whether all layers are in one policy."""
        return not self.layers

    def of(self, path: str) -> str:
        return self.layers.get(path, self.default)

    def uses(self, name: str) -> bool:
        return name in (self.default, *self.layers.values())

    def changed(self, changes: Mapping[str, str]) -> Policy:
        """This policy with other policies for some layers, by path."""
        return dataclasses.replace(self, layers={**self.layers, **changes})

    def apply(self, model: Any) -> Any:
        """Lets a model compute so.

        Keras 3: changes the model's own layers and returns it; weights, optimizer and what it was
        compiled with stay. With a layer in float16 the optimizer of a compiled model is wrapped in
        a LossScaleOptimizer, as `compile` does under that policy. tf_keras: a variable knows from
        its making whether it may be cast, so the model is rebuilt from its config; the weights
        are copied, the optimizer starts anew.

        Raises:
          ValueError: the model has not the layers of this policy, has not been built, or is a
            subclassed model of tf_keras without get_config.
          TypeError: it is no Keras model.
        """
        model = layers.switchable(model)
        self.set(model)
        if self.uses("mixed_float16"):
            layers.scale_loss(model)
        layers.forget_functions(model)
        return model

    def set(self, model: Any) -> None:
        """Sets the policies of the layers of a model that can be switched, and nothing else."""
        units = layers.units(model)
        unknown = sorted(set(self.layers) - set(units))
        if unknown:
            raise ValueError(
                f"the model {model.name!r} has no layer {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(units)}"
            )
        for container in layers.models(model):
            layers.set_policy(container, self.default)
        for path, layer in units.items():
            for part in layers.parts(layer):
                layers.set_policy(part, self.of(path))

    @contextlib.contextmanager
    def scope(self, model: Any) -> Iterator[None]:
        """The model computes so inside of the `with`, and as before after it."""
        before = layers.policies(model)
        self.set(model)
        try:
            yield
        finally:
            for part, name in before:
                layers.set_policy(part, name)

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the policy and what was measured as JSON."""
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        pathlib.Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | pathlib.Path) -> Policy:
        """Reads what `save` has written.

        Raises:
          ValueError: the file holds no policy. OSError: it cannot be read.
        """
        try:
            content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise ValueError("another format")
            content["measurements"] = tuple(
                LayerMeasurement(**row) for row in content["measurements"]
            )
            return cls(**content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} holds no precision policy: {error}") from error
