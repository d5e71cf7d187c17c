"""The file by which the plugin knows what not to use on this machine (plugin/quarantine.h)."""

from __future__ import annotations

import functools
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from tensorflow_metal_py import _runtime
from tensorflow_metal_py.selftest.supervisor import Finding

# The plugin's own ops -> what makes them: they are not met where that is switched off.
MADE_BY = {
    "_MetalAttention": "remapper/dot_product_attention",
    "_MetalBoxNumbers": "lists",
    "_MetalCluster": "cluster",
    "_MetalHostLogical": "host_predicates",
    "_MetalRnn": "rnn",
    "_MetalRnnGrad": "rnn",
    "_MetalUnboxNumbers": "lists",
}


@functools.cache
def _registered() -> dict[tuple[str, str], bool]:
    """Ops and first types -> whether the CPU may take over. What reaches variables on the device
    has no other kernels, nor have the plugin's own ops (kernels/quarantined.h)."""
    return {
        (row["op"], dtype): not row["own"] and row["kind"] not in ("resource", "variant")
        for row in _runtime.call("ops")
        for dtype in next(iter(row["types"].values()), ["bool"])
    }


def entry(op: str, dtype: str) -> dict[str, str]:
    """What to ban when the op is wrong in this type; nothing if that cannot be."""
    if op in MADE_BY:
        return {"fusion": MADE_BY[op]}
    return {"op": op, "dtype": dtype} if _registered().get((op, dtype), True) else {}


def _key(banned: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(banned.items()))


def entries(
    before: dict[str, Any], findings: Iterable[Finding]
) -> tuple[list[dict[str, str]], list[str]]:
    """Ops and fusions to ban: those that failed, and those banned `before` that were not tested."""
    tested, failed = set(), set()
    for finding in findings:
        tested.add(_key(finding.candidate))
        if not finding.result["ok"] and finding.result["quarantine"]:
            failed.add(_key(finding.result["quarantine"]))
    banned = {_key(row) for row in before["ops"]}
    banned |= {_key({"fusion": name}) for name in before["fusions"]}
    rows = [dict(key) for key in sorted(banned - tested | failed)]
    return [row for row in rows if "op" in row], [r["fusion"] for r in rows if "fusion" in r]


def write(machine: dict[str, Any], findings: Iterable[Finding]) -> pathlib.Path | None:
    """Writes what is banned to the machine's file, or removes that if nothing is.

    Args:
      machine: as worker.machine describes it.

    Returns:
      The file, or None if there is none now.

    Raises:
      OSError: the folder cannot be written.
    """
    about = machine["quarantine"]
    if not about["path"]:
        return None
    path = pathlib.Path(about["path"])
    ops, fusions = entries(about, findings)
    if not ops and not fusions:
        path.unlink(missing_ok=True)
        return None
    content = {
        **{name: about[name] for name in ("format", "macos_build", "chip")},
        "version": machine["version"],
        "ops": ops,
        "fusions": fusions,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}.new")
    new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    new.replace(path)
    return path
