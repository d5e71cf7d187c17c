"""Measures two sides in one process, interleaved, so that both see the same machine.

Each row is run alternately on each side for a number of rounds; a round is the mean of enough calls
to last a few milliseconds. Printed are the median of the rounds, their spread (half of the range
between the quartiles, in percent of the median) and the ratio of the medians; rows in which the
first side loses are marked, and a ratio whose spread includes 1 is marked as a tie.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

ROUND_SECONDS = 0.02  # a round shorter than this measures the clock
DEFAULT_ROUNDS = 15


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one call, over the rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """Half of the interquartile range, relative to the median."""
        low, _, high = statistics.quantiles(self.rounds, n=4)
        return (high - low) / 2 / self.median


def _round(run: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        run()
    return (clock() - start) / calls


def interleave(
    sides: dict[str, Callable[[], object]],
    rounds: int = DEFAULT_ROUNDS,
    clock: Callable[[], float] | None = None,
) -> dict[str, Timing]:
    """Times each callable; every one must have finished its work when it returns.

    Args:
      clock: seconds; None: wall time. `time.process_time`, all threads of this process, says what
        a simulated device costs on a machine that does other work as well.
    """
    clock = clock or time.perf_counter
    calls = {}
    for name, run in sides.items():
        run()  # compiles, allocates
        calls[name] = max(1, int(ROUND_SECONDS / max(_round(run, 1, clock), 1e-9)))
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds):
        order = list(sides) if i % 2 == 0 else list(reversed(sides))
        for name in order:
            seconds[name].append(_round(sides[name], calls[name], clock))
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def beats(a: Timing, b: Timing) -> bool:
    """Whether `a` is faster than `b` by more than their spread."""
    return b.median / a.median - 1 > a.spread + b.spread


def print_row(
    label: str, timings: dict[str, Timing], unit: float = 1e-6, name: str = "us"
) -> float:
    """Prints one comparison; returns the second side's median over the first's."""
    (a_name, a), (b_name, b) = timings.items()
    ratio = b.median / a.median
    tie = abs(ratio - 1) < a.spread + b.spread
    verdict = "tie" if tie else (f"{a_name} wins" if ratio > 1 else f"{a_name} LOSES")
    print(
        f"{label:<36} {a_name} {a.median / unit:9.2f} {name} ±{100 * a.spread:2.0f}%   "
        f"{b_name} {b.median / unit:9.2f} {name} ±{100 * b.spread:2.0f}%   "
        f"{ratio:6.2f}x  {verdict}",
        flush=True,
    )
    return ratio
