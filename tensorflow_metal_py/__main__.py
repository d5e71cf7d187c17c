"""python -m tensorflow_metal_py COMMAND: what the plugin says about this machine."""

from __future__ import annotations

import sys

import tensorflow_metal_py as metal
from tensorflow_metal_py import _runtime, bench, doctor, fusions, nans, selftest
from tensorflow_metal_py.tables import format_table


def env() -> None:
    """status, devices and every environment variable"""
    print(format_table([*metal.status().items()]))
    print()
    for device in metal.devices():
        print(device)
    print()
    rows = metal.environment()
    print(format_table([(row.name, row.value or "-", row.help) for row in rows]))


def ops() -> None:
    """the ops that the device has kernels for, with their dtypes"""
    print(format_table([tuple(row.values()) for row in _runtime.call("ops")]))


def stats() -> None:
    """the names of the counters, and their values in a fresh process"""
    print(format_table([*metal.stats().items()]))


# Each takes the arguments that follow its name and returns the exit status; None is success.
COMMANDS = {
    "doctor": doctor.main,
    "fusions": fusions.main,
    "nans": nans.main,
    "bench": bench.main,
    "selftest": selftest.main,
    "env": env,
    "ops": ops,
    "stats": stats,
}
WITH_ARGUMENTS = {"doctor", "fusions", "nans", "bench", "selftest"}


def main(arguments: list[str]) -> int:
    name = arguments[0] if arguments else ""
    if name not in COMMANDS or (arguments[1:] and name not in WITH_ARGUMENTS):
        print("usage: python -m tensorflow_metal_py COMMAND\n", file=sys.stderr)
        for name, command in COMMANDS.items():
            print(f"  {name:8} {command.__doc__}", file=sys.stderr)
        return 2
    command = COMMANDS[name]
    try:
        status = command(arguments[1:]) if name in WITH_ARGUMENTS else command()
    except (ValueError, _runtime.PluginNotLoadedError) as error:
        print(error, file=sys.stderr)
        return 1
    return status or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
