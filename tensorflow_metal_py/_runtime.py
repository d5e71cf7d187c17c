"""The one way into the plugin: the op MetalRuntime, which takes and gives JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

# "GPU:0", "/gpu:0", "/device:GPU:0", "/job:localhost/replica:0/task:0/device:GPU:0", "GPU"
DEVICE_NAME = re.compile(r"(?:^|/|device:)(?P<type>[a-z]\w*)(?::(?P<index>\d+))?$", re.IGNORECASE)


class PluginNotLoadedError(RuntimeError):
    """TensorFlow did not load the plugin library."""


def call(name: str, **arguments: Any) -> Any:
    """Calls `name` in the plugin, eagerly, also from inside a graph.

    Raises:
      ValueError: the plugin does not know the call or does not like the arguments.
      PluginNotLoadedError: there is no plugin in this process.
    """
    import tensorflow as tf
    from tensorflow.python.eager import context, execute

    request = json.dumps({"call": name, **arguments}).encode()
    with context.eager_mode(), tf.device("CPU:0"):
        tensor = tf.constant(np.frombuffer(request, np.uint8))
        try:
            (response,) = execute.execute(
                b"MetalRuntime", 1, inputs=[tensor], attrs=None, ctx=context.context()
            )
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(error.message) from None
        except tf.errors.NotFoundError as error:
            raise PluginNotLoadedError(
                "TensorFlow has not loaded the tensorflow-metal-py plugin. It looks for it in the "
                "folder tensorflow-plugins of site-packages and at "
                "TF_PLUGGABLE_DEVICE_LIBRARY_PATH."
            ) from error
    return json.loads(response.numpy().tobytes())


def ordinal(device: str | int | None) -> int:
    """The plugin's index of a device that TensorFlow knows by `device`.

    They differ when the program has hidden devices with `tf.config.set_visible_devices`.
    """
    if isinstance(device, int):
        return device
    device_type = call("loading")["type"]
    match = DEVICE_NAME.search(device if device is not None else device_type)
    if match is None or match["type"].upper() != device_type:
        raise ValueError(
            f"{device!r} is not a device of the plugin; those are of type {device_type}"
        )
    index = int(match["index"] or 0)

    import tensorflow as tf

    physical = tf.config.list_physical_devices(device_type)
    visible = [d for d in tf.config.get_visible_devices() if d in physical]
    if index >= len(visible):
        raise ValueError(f"there is no device {device!r}: {len(visible)} of its type are visible")
    return physical.index(visible[index])
