"""The process in which a selftest runs: TensorFlow, the plugin, and one task after the other.

    python -m tensorflow_metal_py.selftest.worker ORDER

ORDER is an `Order` as JSON. It writes a line of JSON for each thing that it begins or finds to the
descriptor that was its standard output; what others print goes to standard error. If a task ends
the process, the supervisor starts another one behind it.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Order:
    """What to do.

    Attributes:
      sections: of selftest.SECTIONS.
      pattern: of the ids of tasks (fnmatch); "" is all.
      folder: where the quarantine file is, as TF_METAL_QUARANTINE says it.
      golden: the file of recorded vectors; "" is the one of the package.
      done: tasks to leave out, from the first on.
    """

    sections: list[str]
    pattern: str = ""
    folder: str = ""
    golden: str = ""
    done: int = 0


def machine(folder: str) -> dict[str, Any]:
    """What is tested, for the report."""
    import tensorflow as tf

    import tensorflow_metal_py as metal
    from tensorflow_metal_py import _runtime

    status = metal.status()
    found = metal.devices()
    info = {
        "active": status["active"],
        "reason": status["reason"],
        "version": metal.__version__,
        "library": status["library"],
        "tensorflow": tf.__version__,
        "python": sys.version.split()[0],
    }
    if found:
        info["device"] = dataclasses.asdict(found[0])
        info["limits"] = _runtime.call("device_limits")
        info["variables"] = metal.variable_mode()["mode"]
        info["quarantine"] = _runtime.call("quarantine", folder=folder)
    return info


def tasks(order: Order, device: dict[str, Any]) -> Iterator[Any]:
    """All tasks of the sections, in their order."""
    from tensorflow_metal_py.selftest import audit, golden, properties, questions, races, replay

    recorded = golden.read(pathlib.Path(order.golden) if order.golden else golden.PATH)
    name = device["name"]
    makers = {
        "audit": lambda: audit.audit_tasks(recorded.methods, device["macos"]),
        "shaders": lambda: audit.shader_tasks(recorded.shaders),
        "questions": lambda: questions.question_tasks(device["macos"]),
        "ops": lambda: itertools.chain(
            replay.op_tasks(recorded.ops, name), properties.property_tasks(name)
        ),
        "fusions": lambda: replay.fusion_tasks(recorded.fusions, name),
        "races": lambda: races.race_tasks(name),
    }
    for section in order.sections:
        yield from makers[section]()


def run_task(task: Any) -> Any:
    from tensorflow_metal_py.selftest.tasks import Result, first_line

    try:
        return task.run()
    except Exception as error:  # whatever an op does wrong is a finding
        what = f"{type(error).__name__}: {first_line(error)}"
        return Result(False, what, quarantine=task.quarantine)


def run(emit: Callable[[dict[str, Any]], None], order: Order) -> None:
    about = machine(order.folder)
    emit({"machine": about})
    if not about["active"]:
        return
    found = tasks(order, about["device"])
    chosen = [t for t in found if not order.pattern or fnmatch.fnmatch(t.id, order.pattern)]
    emit({"total": len(chosen)})
    for task in chosen[order.done :]:
        emit({"begin": task.id, "group": task.group, "quarantine": task.quarantine})
        emit({"result": dataclasses.asdict(run_task(task))})
    emit({"end": True})


def main(arguments: list[str]) -> None:
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    run(
        lambda line: print(json.dumps(line), file=out, flush=True),
        Order(**json.loads(arguments[0])),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
