"""What a selftest prints at its end, and its JSON report."""

from __future__ import annotations

import collections
import datetime
import json
import math
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from tensorflow_metal_py.selftest.supervisor import Finding, Run

COLUMNS = ("float32", "float16", "bfloat16")  # of the table; other types are in the last one
FORMAT = 1  # of the JSON report
MOST_FAILURES = 50  # printed; all of them are in the report
_GROUP = re.compile(r"(?P<op>\w+)\((?P<dtype>\w+)\)")


def print_machine(machine: dict[str, Any]) -> None:
    device, limits = machine["device"], machine["limits"]
    simulated = ", simulated on this CPU" if device["simulated"] else ""
    rows = [
        ("device", f"{device['description']}{simulated}"),
        ("macOS", f"{device['macos']} ({limits['macos_build']})"),
        ("memory", f"{limits['recommended_max_working_set_size'] >> 20} MiB, "
                   f"{limits['max_buffer_length'] >> 20} MiB in one buffer"),
        ("threads", f"{limits['max_threads_per_threadgroup']} in a group"),
        ("variables", machine["variables"]),
        ("tensorflow", machine["tensorflow"]),
        ("plugin", f"{machine['version']} ({machine['library']})"),
    ]  # fmt: skip
    for name, value in rows:
        print(f"{name:12}{value}")


def errors_by_op(findings: Iterable[Finding]) -> dict[str, dict[str, float]]:
    """Op -> type -> the largest error (tasks.Result); infinity where there was no value at all."""
    table: dict[str, dict[str, float]] = collections.defaultdict(dict)
    for finding in findings:
        match = _GROUP.fullmatch(finding.group)
        if finding.section != "ops" or not match:
            continue
        error = finding.result["error"]
        if error is None:
            error = 0.0 if finding.result["ok"] else math.inf
        row = table[match["op"]]
        row[match["dtype"]] = max(row.get(match["dtype"], 0.0), error)
    return dict(sorted(table.items()))


def print_errors(table: dict[str, dict[str, float]]) -> None:
    """One row per op."""

    def show(values: list[float]) -> str:
        return f"{max(values):9.1e}" if values else f"{'-':>9}"

    print(f"\nlargest error, relative to the larger of 1 and the value\n{'op':40}", end="")
    print("  ".join(f"{name:>9}" for name in (*COLUMNS, "others")))
    for op, row in table.items():
        cells = [show([row[c]] if c in row else []) for c in COLUMNS]
        cells.append(show([v for k, v in row.items() if k not in COLUMNS]))
        print(f"{op:40}{'  '.join(cells)}")


def print_questions(findings: Iterable[Finding]) -> None:
    rows = [f for f in findings if f.section == "questions"]
    if not rows:
        return
    print("\nquestions about this macOS (docs/mac_selftest.md)")
    for finding in rows:
        verdict = "as assumed" if finding.result["ok"] else "NOT AS ASSUMED"
        print(f"  {finding.id.split('/', 1)[1]:40} {verdict}: {finding.result['detail']}")


def print_summary(run: Run) -> None:
    failed = [f for f in run.findings if not f.result["ok"]]
    print()
    for section in dict.fromkeys(f.section for f in run.findings):
        mine = [f for f in run.findings if f.section == section]
        bad = sum(not f.result["ok"] for f in mine)
        print(f"{section:12}{len(mine) - bad} of {len(mine)} passed")
    if not run.complete:
        print(f"stopped after {len(run.findings)} of {run.total} tasks: too many ended the process")
    for finding in failed[:MOST_FAILURES]:
        print(f"FAILED {finding.id}\n       {finding.result['detail']}")
    if len(failed) > MOST_FAILURES:
        print(f"... and {len(failed) - MOST_FAILURES} more")


def write_json(run: Run, banned: dict[str, Any], path: pathlib.Path) -> None:
    """The report as a file: machine, quarantine, errors by op, and every finding.

    Numbers that JSON does not have are null. Raises OSError.
    """
    content = {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": run.machine,
        "passed": run.complete and all(f.result["ok"] for f in run.findings),
        "complete": run.complete,
        "quarantine": banned,
        "errors": errors_by_op(run.findings),
        "findings": [{"id": f.id, "group": f.group, **f.result} for f in run.findings],
    }
    path.write_text(json.dumps(_finite(content), indent=1) + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return value
