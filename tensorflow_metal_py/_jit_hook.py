"""What the plugin changes in the Python of the process that loads it.

The plugin library carries this file and runs it while TensorFlow imports, with DEVICE_TYPE set to
the type of its devices. `TF_METAL_JIT_HOOK=0` switches all of it off.

* Keras asks XLA to compile whenever a GPU is listed; XLA has no compiler for Metal, so `fit` would
  fail. Keras is told that models do not support it, as it tells itself on a Mac.
* `tf.function(jit_compile=True)` runs uncompiled, with one warning.
* `tf.config.experimental.get_memory_info` and its kin ask the plugin for its devices: TensorFlow
  knows nothing about memory that the plugin allocates.
* What `tf.config.optimizer.set_experimental_options` says of `auto_mixed_precision` is noted in the
  environment, where the plugin's graph pass looks: TensorFlow's own pass knows CUDA only, and no
  plugin is shown the option.

Everything is decided when it is used: devices that the program hides count as absent.
"""

import functools
import importlib.abc
import importlib.util
import os
import sys

KERAS_TRAINER = "keras.src.trainers.trainer"


def has_device(device_type: str) -> bool:
    """Whether the program may use a device of this type."""
    from tensorflow.python.framework import config

    return bool(config.get_visible_devices(device_type))


def in_cpu_scope() -> bool:
    """Whether eager ops are pinned to the CPU here, where XLA can compile."""
    from tensorflow.python.eager import context

    return "CPU" in (context.context().device_name or "").upper()


@functools.cache
def warn_once(message: str) -> None:
    from absl import logging

    logging.warning("tensorflow-metal-py: %s", message)


class JitCompile:
    """Replaces the attribute of tf.function that holds jit_compile."""

    def __init__(self, device_type: str):
        self.device_type = device_type

    def __set__(self, function, value):
        function.__dict__["_jit_compile"] = value

    def __get__(self, function, owner=None):
        if function is None:
            return self
        value = function.__dict__["_jit_compile"]
        if not value or in_cpu_scope() or not has_device(self.device_type):
            return value
        warn_once("XLA cannot compile for Metal: tf.function(jit_compile=True) runs without it.")
        return None


def patch_tf_function(device_type: str) -> None:
    from tensorflow.python.eager.polymorphic_function import polymorphic_function

    polymorphic_function.Function._jit_compile = JitCompile(device_type)


def patch_memory_functions(device_type: str) -> None:
    from tensorflow.python.eager import context
    from tensorflow.python.framework import device_spec

    def routed(name, answer):
        original = getattr(context.Context, name)

        @functools.wraps(original)
        def method(self, dev):
            try:
                is_ours = device_spec.DeviceSpecV2.from_string(dev).device_type == device_type
                import tensorflow_metal_py
            except (ValueError, ImportError):  # not a device, or the library alone is installed
                return original(self, dev)
            if not is_ours:
                return original(self, dev)
            return answer(tensorflow_metal_py, dev)

        setattr(context.Context, name, method)

    def memory_info(metal, device):
        info = metal.memory_info(device)
        return {"current": info["current"], "peak": info["peak"]}

    routed("get_memory_info", memory_info)
    routed("reset_memory_stats", lambda metal, device: metal.reset_memory_stats(device))


def watch_mixed_precision(device_type: str) -> None:
    from tensorflow.python.eager import context

    original = context.Context.set_optimizer_experimental_options

    @functools.wraps(original)
    def set_optimizer_experimental_options(self, options):
        original(self, options)
        if "auto_mixed_precision" in options:
            switch = "1" if options["auto_mixed_precision"] else ""
            os.environ["TF_METAL_STOCK_MIXED_PRECISION"] = switch

    context.Context.set_optimizer_experimental_options = set_optimizer_experimental_options


def patch_trainer(module, device_type: str) -> None:
    original = module.model_supports_jit

    @functools.wraps(original)
    def model_supports_jit(model):
        on_tensorflow = module.backend.backend() == "tensorflow"
        return original(model) and not (on_tensorflow and has_device(device_type))

    module.model_supports_jit = model_supports_jit


class KerasFinder(importlib.abc.MetaPathFinder):
    """Patches Keras' trainer when it is imported, then removes itself."""

    def __init__(self, device_type: str):
        self.device_type = device_type

    def find_spec(self, name, path, target=None):
        if name != KERAS_TRAINER or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                patch_trainer(module, self.device_type)

            spec.loader.exec_module = exec_module
        return spec


def patch_keras(device_type: str) -> None:
    if KERAS_TRAINER in sys.modules:
        patch_trainer(sys.modules[KERAS_TRAINER], device_type)
    else:
        sys.meta_path.insert(0, KerasFinder(device_type))


def install(device_type: str) -> None:
    """Applies each patch; one that this TensorFlow or Keras has no place for is a warning."""
    for patch in (
        patch_keras,
        patch_tf_function,
        patch_memory_functions,
        watch_mixed_precision,
    ):
        try:
            patch(device_type)
        except (ImportError, AttributeError) as error:
            warn_once(f"{patch.__name__} does not fit this TensorFlow or Keras: {error}")


if "DEVICE_TYPE" in globals():
    install(globals()["DEVICE_TYPE"])
