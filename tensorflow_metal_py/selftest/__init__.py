"""`python -m tensorflow_metal_py selftest`: whether this machine computes what it should.

What the plugin assumes of macOS, its shaders, each op in each type, each fusion, and many threads
at once are held to vectors that were recorded with TensorFlow's CPU kernels
(tools/make_selftest.py). What is wrong is quarantined: from the next start of TensorFlow on it runs
on the CPU. Importing this package imports neither TensorFlow nor the plugin.
"""

from __future__ import annotations

import functools
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from tensorflow_metal_py import _flags

SECTIONS = ("audit", "shaders", "questions", "ops", "fusions", "races")


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("report", "", "JSON file to write", flag_values=values)
    flags.DEFINE_list("sections", list(SECTIONS), "what to test", flag_values=values)
    flags.DEFINE_string("only", "", "tasks to run, such as 'ops/*Conv2D*'", flag_values=values)
    flags.DEFINE_boolean("quarantine", True, "ban what is wrong", flag_values=values)
    flags.DEFINE_boolean(
        "clear", False, "only remove this machine's quarantine file", flag_values=values
    )
    flags.DEFINE_string("vectors", "", "file of other recorded vectors", flag_values=values)


def check(options: flags.FlagValues, rest: list[str]) -> str:
    """What is wrong with a command line, or ""."""
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        return f"there is no section {unknown[0]!r}; there are {', '.join(SECTIONS)}"
    if rest:
        return f"unknown: {', '.join(rest)}"
    if options.vectors and not pathlib.Path(options.vectors).is_file():
        return f"{options.vectors} does not exist"
    if options.report and not pathlib.Path(options.report).absolute().parent.is_dir():
        return f"the folder of {options.report} does not exist"
    return ""


def clear() -> int:
    from tensorflow_metal_py import _runtime

    path = _runtime.call("quarantine")["path"]
    if path and pathlib.Path(path).exists():
        pathlib.Path(path).unlink()
        print(f"removed {path}")
    else:
        print("there is no quarantine file for this machine")
    return 0


def finish(run: Any, options: flags.FlagValues) -> int:
    """Prints and writes what was found; returns the exit status."""
    from tensorflow_metal_py.selftest import quarantine, report

    report.print_questions(run.findings)
    errors = report.errors_by_op(run.findings)
    if errors:
        report.print_errors(errors)
    report.print_summary(run)
    ops, fusions = quarantine.entries(run.machine["quarantine"], run.findings)
    if options.quarantine:
        path = quarantine.write(run.machine, run.findings)
        if path:
            print(f"\n{len(ops)} ops and {len(fusions)} fusions are not used from now on: {path}")
    if options.report:
        report.write_json(run, {"ops": ops, "fusions": fusions}, pathlib.Path(options.report))
        print(f"\nreport: {options.report}")
    passed = run.complete and all(finding.result["ok"] for finding in run.findings)
    return 0 if passed else 1


def main(arguments: Sequence[str]) -> int:
    """test this machine: macOS, shaders, every op and fusion; what is wrong goes to the CPU"""
    options = flags.FlagValues()
    define_flags(options)
    if _flags.parse(options, "selftest", arguments, functools.partial(check, options)) is None:
        return 2
    if options.clear:
        return clear()
    from tensorflow_metal_py.bench import Progress
    from tensorflow_metal_py.selftest import report, supervisor
    from tensorflow_metal_py.selftest.worker import Order

    order = Order(
        options.sections,
        options.only,
        os.environ.get("TF_METAL_QUARANTINE", ""),
        options.vectors,
    )
    bar = Progress(1)

    def progress(done: int, total: int, name: str) -> None:
        bar.done, bar.total = done, total
        bar(name[:60])

    try:
        run = supervisor.run_all(order, progress)
    except supervisor.WorkerError as error:
        bar.close()
        print(error, file=sys.stderr)
        return 2
    bar.close()
    if not run.machine["active"]:
        print(f"No Metal device: {run.machine['reason']}", file=sys.stderr)
        return 2
    if not run.findings:
        print(f"no task matches {options.only!r}", file=sys.stderr)
        return 2
    report.print_machine(run.machine)
    try:
        return finish(run, options)
    except OSError as error:
        print(f"cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
