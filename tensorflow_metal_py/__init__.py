"""TensorFlow on Apple GPUs: what the plugin can tell about itself.

TensorFlow loads the plugin by itself; nothing here is needed to use the GPU. Importing this package
imports neither TensorFlow nor the plugin; the functions do.

    >>> import tensorflow_metal_py as metal
    >>> metal.devices()
    [Device(name='/GPU:0', description='Apple M2', macos='15.0', simulated=False)]
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tensorflow_metal_py import _runtime

__version__ = "0.1.0"

__all__ = [
    "Device",
    "EnvironmentVariable",
    "devices",
    "environment",
    "fallbacks",
    "memory_info",
    "reset_memory_stats",
    "reset_stats",
    "stats",
    "status",
    "variable_mode",
]


@dataclasses.dataclass(frozen=True)
class Device:
    """A Metal device.

    Attributes:
      name: what TensorFlow calls it, as long as no device is hidden: "/GPU:0".
      description: what Metal calls it: "Apple M2".
      macos: version of macOS: "15.0".
      simulated: whether the host side on Linux plays the GPU.
    """

    name: str
    description: str
    macos: str
    simulated: bool


@dataclasses.dataclass(frozen=True)
class EnvironmentVariable:
    """An environment variable that the plugin reads: its value now, its default, its meaning."""

    name: str
    value: str
    default: str
    help: str


def status() -> dict[str, Any]:
    """Whether the plugin is active in this process.

    Returns:
      active (bool), reason (why not and what to do; empty when active), platform and type (the
      names under which TensorFlow knows it), library (path), version (of the plugin), tensorflow
      (version).
    """
    return _runtime.call("loading")


def devices() -> list[Device]:
    """The Metal devices of this process; empty when the plugin declined (see `status`)."""
    return [
        Device(
            name=f"/{row['type']}:{row['ordinal']}",
            description=row["name"],
            macos=row["macos"],
            simulated=row["simulated"],
        )
        for row in _runtime.call("devices")
    ]


def memory_info(device: str | int | None = None) -> dict[str, int]:
    """Memory of a device, in bytes, as the plugin's own allocator counts it.

    Args:
      device: a name such as "GPU:0" or "/device:GPU:0", an index, or None for the first device.

    Returns:
      current: bytes in tensors. peak: the most since the start or `reset_memory_stats`.
      reserved: bytes taken from Metal, free blocks that are kept for reuse included.
      limit: the most that the plugin takes. largest: the largest tensor. allocations: how many
      there were.

    Raises:
      ValueError: there is no such device.
    """
    return _runtime.call("memory_info", device=_runtime.ordinal(device))


def reset_memory_stats(device: str | int | None = None) -> None:
    """Sets `peak` of `memory_info` to `current`. Arguments and errors as there."""
    _runtime.call("reset_memory_stats", device=_runtime.ordinal(device))


def stats() -> dict[str, Any]:
    """What the plugin did in this process since the start or `reset_stats`.

    Returns:
      A count for each name (ops, fallbacks, compiles, hits, evictions, encodes, commits, host
      synchronisations by cause), bytes for each `bytes_` name, and `fusions`: how often each graph
      pattern fired.
    """
    return _runtime.call("stats")


def reset_stats() -> None:
    """Sets all counters of `stats` and `fallbacks` to zero."""
    _runtime.call("reset_stats")


def fallbacks() -> dict[str, int]:
    """Floating-point ops that TensorFlow placed on the CPU in graphs that also use the device.

    Returns:
      Op -> number of nodes, over all graphs since the start or `reset_stats`. Ops that run eagerly
      and functions of less than four nodes are not seen.
    """
    return _runtime.call("fallbacks")


def variable_mode() -> dict[str, str]:
    """How variables are updated in this process.

    Returns:
      mode: "c_api" (TensorFlow exports the functions), "shim" (a library of ours provides them) or
      "sync" (the plugin waits for the GPU after every op). reason: why this one.
    """
    return _runtime.call("variable_mode")


def environment() -> list[EnvironmentVariable]:
    """Every environment variable that the plugin reads."""
    return [EnvironmentVariable(**row) for row in _runtime.call("environment")]
