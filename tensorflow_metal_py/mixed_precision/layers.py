"""The layers of Keras 3 and tf_keras models, and how their dtype policy is changed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

FLOATS = ("float32", "float16", "bfloat16")
# Marks a tf_keras model whose variables can all be cast.
SWITCHABLE = "_tensorflow_metal_py_switchable"


def keras_of(layer: Any) -> ModuleType:
    """The package, keras or tf_keras, that a layer or model belongs to; TypeError if to none."""
    for name in ("keras", "tf_keras"):
        if any(base.__module__.split(".")[0] == name for base in type(layer).__mro__):
            return importlib.import_module(name)
    raise TypeError(f"{type(layer).__name__} is not a model of keras or tf_keras")


def is_keras_3(layer: Any) -> bool:
    return keras_of(layer).__name__ == "keras"


def models(model: Any) -> Iterator[Any]:
    """The model and the models that it calls."""
    yield model
    for layer in model.layers:
        if isinstance(layer, keras_of(layer).Model):
            yield from models(layer)


def units(model: Any) -> dict[str, Any]:
    """Path -> layer: what `Policy.layers` may name. Layers without float weights or computation
    (inputs, integers, strings) are not among them."""
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def walk(container: Any, prefix: str) -> None:
        for layer in container.layers:
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            keras = keras_of(layer)
            if isinstance(layer, keras.Model):
                walk(layer, f"{prefix}{layer.name}/")
            elif not isinstance(layer, keras.layers.InputLayer) and is_float(layer):
                path, twin = f"{prefix}{layer.name}", 2
                while path in found:  # a subclassed model may give a name twice
                    path, twin = f"{prefix}{layer.name}#{twin}", twin + 1
                found[path] = layer

    keras_of(model)
    walk(model, "")
    return found


def parts(layer: Any) -> list[Any]:
    """A layer and the layers inside of it, those for floats."""
    return [part for part in layer._flatten_layers() if is_float(part)]


def is_float(layer: Any) -> bool:
    """Whether its policy can be switched: variables of float32."""
    return layer.compute_dtype in FLOATS and layer.variable_dtype == "float32"


def policy_name(layer: Any) -> str:
    policy = layer.dtype_policy
    if hasattr(policy, "default_policy"):
        policy = policy[layer.path]  # a DTypePolicyMap
    return policy.name


def set_policy(layer: Any, name: str) -> None:
    """Of this layer alone."""
    if is_keras_3(layer):
        layer.dtype_policy = name
    else:
        layer._set_dtype_policy(keras_of(layer).mixed_precision.Policy(name))


def policies(model: Any) -> list[tuple[Any, str]]:
    """Each layer with its policy, to set them again."""
    inside = [part for layer in units(model).values() for part in parts(layer)]
    return [(layer, policy_name(layer)) for layer in (*models(model), *inside)]


def switchable(model: Any) -> Any:
    """The model, or a copy, whose policies can be set; see `Policy.apply`."""
    keras = keras_of(model)
    if not model.built:
        raise ValueError(f"the model {model.name!r} has not been built: call it on data first")
    if is_keras_3(model) or hasattr(model, SWITCHABLE):
        return model

    def rebuild(layer: Any) -> Any:
        config = layer.get_config()
        if is_float(layer):
            config["dtype"] = "mixed_bfloat16"  # so that its variables can be cast
        return layer.__class__.from_config(config)

    try:
        copy = keras.models.clone_model(model, clone_function=rebuild)
    except (ValueError, NotImplementedError) as error:
        raise ValueError(
            f"the model {model.name!r} cannot be rebuilt from its config, which tf_keras needs to "
            f"change precision: {str(error).splitlines()[0]}"
        ) from error
    copy.set_weights(model.get_weights())
    if model.optimizer is not None:
        arguments = model._get_compile_args()
        optimizer = arguments.pop("optimizer")
        copy.compile(optimizer.__class__.from_config(optimizer.get_config()), **arguments)
    setattr(copy, SWITCHABLE, True)
    return copy


def scale_loss(model: Any) -> None:
    """Wraps the optimizer of a compiled model, if it does not scale the loss already."""
    keras = keras_of(model)
    scaler = (
        keras.optimizers.LossScaleOptimizer
        if is_keras_3(model)
        else keras.mixed_precision.LossScaleOptimizer
    )
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not isinstance(optimizer, scaler):
        model.optimizer = scaler(optimizer)


def forget_functions(model: Any) -> None:
    """What was traced for fit, evaluate and predict has the old policies."""
    model.train_function = model.test_function = model.predict_function = None
