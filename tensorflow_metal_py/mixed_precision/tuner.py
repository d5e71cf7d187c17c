"""Finds the precision of each layer that makes a network fastest within a budget of accuracy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from tensorflow_metal_py import timing
from tensorflow_metal_py.bench import Progress
from tensorflow_metal_py.mixed_precision import layers, measure
from tensorflow_metal_py.mixed_precision.measure import Errors, Loss, Network
from tensorflow_metal_py.mixed_precision.policy import FLOAT32, POLICIES, LayerMeasurement, Policy
from tensorflow_metal_py.tables import format_table

# A policy replaces a simpler one if it is faster in each of these, taken one after the other.
REPEATS = 3
MAX_BATCHES = 8  # of the data; the search uses the first, the last check all
# Two runs in float32 that differ by more of the budget than this: errors would be noise.
MAX_NOISE = 0.25


def tune(
    model: Any,
    data: Any,
    *,
    loss: Loss | None = None,
    policies: Sequence[str] = POLICIES[1:],
    output_budget: float = 0.01,
    gradient_budget: float = 0.05,
    batch_size: int = 32,
    rounds: int = 5,
    verbose: bool = True,
) -> Policy:
    """Measures a model in each precision and returns the fastest policy within the budget.

    Each layer is timed alone in each policy, and the network's errors are measured with that layer
    alone in lower precision. From this the candidates follow: each policy for the whole model, each
    without the layers that it slows down or whose error is too large, and each layer in what is
    fastest for it. Candidates outside of the budget give layers back to float32, worst first, until
    they fit. Then whole steps (forward and backward pass) are timed, interleaved: float32 yields to
    a global policy, and that to a mix, only if the newcomer wins all of three repeats. At last the
    errors of the winner are measured on all of the data, and it gives layers back until it fits
    there too; so what is returned never exceeds the budget on this data.

    The model keeps its policies and weights; `Policy.apply` changes them. It runs where TensorFlow
    places it; on Linux, where the GPU is simulated, seconds are those of the host.

    Args:
      model: a built model of Keras 3 or tf_keras.
      data: x, (x, y) or (x, y, sample_weight) of arrays [n, ...] (or nests of them), or a
        tf.data.Dataset or iterator of batches of these. At most 8 batches are used.
      loss: loss(y, outputs); None: what the model was compiled with; without both, or without y,
        half of the mean square of the outputs.
      policies: of "mixed_float16" and "mixed_bfloat16": what to try.
      output_budget, gradient_budget: largest relative error, in the Euclidean norm, of all outputs
        together and of the gradients of all trainable weights together, against float32.
      batch_size: examples of a batch, when `data` is arrays.
      rounds: timings of each side in each repeat, at least 3.
      verbose: show progress (on a terminal) and print the tables.

    Raises:
      ValueError: unknown policy, a budget that is not positive, no data, a model that has not been
        built, or whose results in float32 differ from run to run by more than a quarter of a
        budget.
      TypeError: not a Keras model.
    """
    for name in policies:
        if name not in POLICIES[1:]:
            raise ValueError(f"unknown policy {name!r}; to try are {', '.join(POLICIES[1:])}")
    if not (output_budget > 0 and gradient_budget > 0):
        raise ValueError(f"budgets must be positive, not {output_budget} and {gradient_budget}")
    network = Network(layers.switchable(model), loss)
    parts = measure.batches(data, batch_size, MAX_BATCHES)
    before = layers.policies(network.model)
    try:
        search = Search(network, parts, Errors(output_budget, gradient_budget), rounds, verbose)
        return search.run(tuple(policies))
    finally:
        network.restore()
        for layer, name in before:
            layers.set_policy(layer, name)


@dataclasses.dataclass
class Search:
    """One run of `tune`."""

    network: Network
    batches: list[tuple[Any, Any, Any]]
    budget: Errors
    rounds: int
    verbose: bool

    def run(self, policies: tuple[str, ...]) -> Policy:
        Policy().set(self.network.model)
        self.exact = [self.network.results(batch) for batch in self.batches]
        self._check_noise()
        self.measured: dict[str, Errors] = {}  # on the first batch, by policy
        rows = self.measure_layers(policies)
        self.severity = {(row.path, row.policy): self._worst(row) for row in rows}
        candidates = self.candidates(policies, rows)
        winner, times = self.contest(candidates)
        policy, errors = self.checked(winner)
        if str(policy) not in times:  # gave layers back after the contest
            times.update(self.time({str(policy): policy, FLOAT32: Policy()})[0])
        figures = {
            "output_error": errors.output,
            "gradient_error": errors.gradient,
            "output_budget": self.budget.output,
            "gradient_budget": self.budget.gradient,
            "seconds": times[str(policy)].median,
            "float32_seconds": times[FLOAT32].median,
        }
        policy = dataclasses.replace(policy, measured=figures, measurements=tuple(rows))
        self.say(
            f"\nchosen: {policy}; on all data output error {errors.output:.2g}, "
            f"gradient error {errors.gradient:.2g}"
        )
        return policy

    def say(self, text: str) -> None:
        if self.verbose:
            print(text, flush=True)

    def _check_noise(self) -> None:
        noise = self.network.errors(Policy(), self.batches[0], self.exact[0])
        if not self.exact[0].is_finite():
            raise ValueError("the model overflows in float32: python -m tensorflow_metal_py nans")
        if noise.worst(self.budget) > MAX_NOISE:
            raise ValueError(
                f"two runs in float32 differ by {noise.output:.2g} (outputs) and "
                f"{noise.gradient:.2g} (gradients): the model is random in a way that cannot be "
                "repeated, or the budget is below its rounding"
            )

    def _worst(self, row: LayerMeasurement) -> float:
        return Errors(row.output_error, row.gradient_error).worst(self.budget)

    # ---- layers ---------------------------------------------------------------------------------

    def measure_layers(self, policies: tuple[str, ...]) -> list[LayerMeasurement]:
        calls = measure.calls(self.network, self.batches[0])
        units = layers.units(self.network.model)
        progress = Progress(len(calls)) if self.verbose else None
        rows = []
        for path, call in calls.items():
            if progress:
                progress(path)
            times = self.time_layer(units[path], call, policies)
            exact = times.get(FLOAT32)
            for name in policies:
                errors = self.errors(Policy(FLOAT32, {path: name}))
                own = times.get(name)
                rows.append(
                    LayerMeasurement(
                        path,
                        type(units[path]).__name__,
                        name,
                        own.median * call.count if own else math.nan,
                        exact.median * call.count if exact else math.nan,
                        own.spread + exact.spread if own and exact else math.nan,
                        errors.output,
                        errors.gradient,
                    )
                )
        if progress:
            progress.close()
        self.say(format_table(_layer_rows(rows)))
        return rows

    def time_layer(
        self, layer: Any, call: measure.Call, policies: tuple[str, ...]
    ) -> dict[str, timing.Timing]:
        """Policy -> time of the layer alone; empty for a layer that does not run alone."""
        import tensorflow as tf

        steps: dict[str, Callable[[], float]] = {}
        for name in (FLOAT32, *policies):
            for part in layers.parts(layer):
                layers.set_policy(part, name)
            try:
                steps[name] = measure.layer_step(layer, call)
            except (ValueError, TypeError, tf.errors.OpError):
                steps = {}
                break
        for part in layers.parts(layer):
            layers.set_policy(part, FLOAT32)
        return timing.interleave(steps, self.rounds)

    def errors(self, policy: Policy) -> Errors:
        """On the first batch; infinite for a mix of types that the model cannot compute."""
        import tensorflow as tf

        key = str(policy)
        if key not in self.measured:
            try:
                self.measured[key] = self.network.errors(policy, self.batches[0], self.exact[0])
            except (ValueError, TypeError, tf.errors.OpError):
                self.measured[key] = Errors(math.inf, math.inf)
        return self.measured[key]

    # ---- candidates -----------------------------------------------------------------------------

    def candidates(self, policies: tuple[str, ...], rows: list[LayerMeasurement]) -> list[Policy]:
        """Float32, global policies within the budget, mixes within the budget; simplest first."""
        whole = [Policy(name) for name in policies]
        mixes = []
        for name in policies:
            harmful = [r.path for r in rows if r.policy == name and self._harms(r)]
            mixes.append(Policy(name, dict.fromkeys(harmful, FLOAT32)))
        fastest: dict[str, LayerMeasurement] = {}
        for row in rows:
            best = fastest.get(row.path)
            gains = row.seconds < row.float32_seconds * (1 - row.spread)
            if gains and not self._harms(row) and (best is None or row.seconds < best.seconds):
                fastest[row.path] = row
        mixes.append(Policy(FLOAT32, {path: row.policy for path, row in fastest.items()}))
        found = [Policy(), *(p for p in whole if self.errors(p).worst(self.budget) <= 1)]
        for mix in mixes:
            fitting = self.give_back(mix, lambda p: self.errors(p))
            if str(fitting) not in map(str, (*found, *whole)):
                found.append(fitting)
        return found

    def _harms(self, row: LayerMeasurement) -> bool:
        slow = row.seconds > row.float32_seconds * (1 + row.spread)
        return slow or self._worst(row) > 1

    def give_back(self, policy: Policy, errors: Callable[[Policy], Errors]) -> Policy:
        """The policy with as few layers returned to float32, worst first, as let it fit."""
        paths = [path for path in layers.units(self.network.model) if policy.of(path) != FLOAT32]
        paths.sort(key=lambda p: self.severity.get((p, policy.of(p)), math.inf), reverse=True)

        def without(count: int) -> Policy:
            if count == len(paths):
                return Policy()
            return policy.changed(dict.fromkeys(paths[:count], FLOAT32))

        if errors(policy).worst(self.budget) <= 1:
            return policy
        low, high = 0, len(paths)  # fits not, fits
        while high - low > 1:
            middle = (low + high) // 2
            if errors(without(middle)).worst(self.budget) <= 1:
                high = middle
            else:
                low = middle
        return without(high)

    # ---- the contest ----------------------------------------------------------------------------

    def time(self, policies: dict[str, Policy]) -> list[dict[str, timing.Timing]]:
        """The repeats: name -> time of a step on the first batch."""
        steps = {name: self.network.step(p, self.batches[0]) for name, p in policies.items()}
        progress = Progress(REPEATS) if self.verbose else None
        repeats = []
        for i in range(REPEATS):
            if progress:
                progress(f"timing {len(steps)} policies, repeat {i + 1} of {REPEATS}")
            repeats.append(timing.interleave(steps, self.rounds))
        if progress:
            progress.close()
        return repeats

    def contest(self, candidates: list[Policy]) -> tuple[Policy, dict[str, timing.Timing]]:
        """The winner, and the times of all over all repeats."""
        by_name = {str(policy): policy for policy in candidates}
        repeats = self.time(by_name)
        champion = FLOAT32
        for name in by_name:
            if name != champion and all(timing.beats(r[name], r[champion]) for r in repeats):
                champion = name
        times = {
            name: timing.Timing(tuple(s for r in repeats for s in r[name].rounds))
            for name in by_name
        }
        table = [("policy", "step ms", "spread", "output error", "gradient error", "")]
        for name, policy in by_name.items():
            errors = self.errors(policy)
            table.append(
                (
                    name if len(name) < 60 else f"{name[:56]}...",
                    f"{1e3 * times[name].median:.3f}",
                    f"{100 * times[name].spread:.0f} %",
                    f"{errors.output:.2g}",
                    f"{errors.gradient:.2g}",
                    "fastest" if name == champion else "",
                )
            )
        self.say(f"\n{format_table(table)}")
        return by_name[champion], times

    def checked(self, winner: Policy) -> tuple[Policy, Errors]:
        """The winner, or as much of it as keeps the budget on all of the data; and its errors."""

        def errors(policy: Policy) -> Errors:
            found = Errors(0.0, 0.0)
            for batch, exact in zip(self.batches, self.exact, strict=True):
                found |= self.network.errors(policy, batch, exact)
            return found

        policy = self.give_back(winner, errors)
        return policy, errors(policy)


def _layer_rows(rows: list[LayerMeasurement]) -> list[tuple[str, ...]]:
    table = [("layer", "kind", "policy", "us", "float32 us", "output error", "gradient error")]
    for row in rows:
        table.append(
            (
                row.path,
                row.kind,
                row.policy,
                f"{1e6 * row.seconds:.1f}",
                f"{1e6 * row.float32_seconds:.1f}",
                f"{row.output_error:.2g}",
                f"{row.gradient_error:.2g}",
            )
        )
    return table
