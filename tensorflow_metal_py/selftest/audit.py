"""Whether this macOS has the methods that the plugin sends, with the types that it sends them with;
and whether its compiler takes the shaders."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from tensorflow_metal_py import _runtime
from tensorflow_metal_py.selftest.tasks import Result, Task

# What differs in an encoding without any difference to a call: signs, sorts of object pointers, of
# other pointers, and the names of structs.
SAME = {"q": "Q", "i": "I", "s": "S", "l": "Q", "L": "Q", "c": "B", "C": "B", "#": "@"}
_QUALIFIERS = "rnNoORV"
_NAMED = re.compile(r'"[^"]*"|\d+')
_STRUCT = re.compile(r"\{[^={}]*=")


def normalize(encoding: str) -> str:
    """An encoding of the Objective-C runtime in one spelling: without offsets, names and signs.

    >>> normalize('@40@0:8Q16{MTLSize=QQQ}24')
    '@@:Q{QQQ}'
    """
    text = _STRUCT.sub("{", _NAMED.sub("", encoding))
    text = text.replace("@?", "@").translate({ord(c): None for c in _QUALIFIERS})
    text = re.sub(r"\^(\{[^{}]*\}|\^*.)", "^", text)
    return "".join(SAME.get(c, c) for c in text)


def audit_class(methods: list[list[Any]], macos: int) -> Result:
    """Methods as golden.Golden has them, of one class."""
    present = [m for m in methods if m[4] <= macos]
    answers = _runtime.call("method_types", methods=[m[:3] for m in present])
    wrong = []
    for (name, kind, selector, types, _), answer in zip(present, answers, strict=True):
        if answer is None:
            wrong.append(f"{kind}[{name} {selector}] is missing")
        elif normalize(answer) != normalize(types):
            wrong.append(f"{kind}[{name} {selector}] has the types {answer}, not {types}")
    return Result(not wrong, "; ".join(wrong[:3]) + (" ..." if len(wrong) > 3 else ""))


def audit_tasks(methods: list[list[Any]], macos: str) -> Iterator[Task]:
    major, minor = (macos.split(".") + ["0"])[:2]
    version = int(major) * 100 + int(minor)
    for name in sorted({m[0] for m in methods}):
        of_class = [m for m in methods if m[0] == name]
        run = functools.partial(audit_class, of_class, version)
        yield Task(f"audit/{name} ({len(of_class)} methods)", "methods", run)


def shader_tasks(names: list[str]) -> Iterator[Task]:
    def make(name: str) -> Result:
        problem = _runtime.call("make_pipeline", shader=name)
        return Result(not problem, problem)

    for name in names:
        yield Task(f"shaders/{name}", "shaders", functools.partial(make, name))
