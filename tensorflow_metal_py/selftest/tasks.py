"""What a selftest is made of: tasks, each with an id, which run in the worker process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass
class Result:
    """What a task found.

    Attributes:
      ok: whether the machine answered what it should.
      detail: what is wrong, in one line; for a question, what was measured.
      error: largest difference, relative to the larger of 1 and what is expected.
      of_tolerance: the same as a part of what is allowed; above 1 is a failure.
      expected: for a question, the answer that the plugin assumes.
      quarantine: what must not be used if this failed: {"op": ..., "dtype": ...} or
        {"fusion": ...}.
    """

    ok: bool
    detail: str = ""
    error: float | None = None
    of_tolerance: float | None = None
    expected: str = ""
    quarantine: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Task:
    """`id` is "section/name"; `group` is what it counts as in the table."""

    id: str
    group: str
    run: Callable[[], Result]
    # Known before it runs, for the case that the process dies in it.
    quarantine: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def section(self) -> str:
        return self.id.split("/")[0]


def first_line(error: Any, most: int = 300) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:most]
