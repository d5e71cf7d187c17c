"""Whole models train alike with and without the graph passes, and like the CPU.

The complaints about Apple's plugin begin with fused graphs that train to other results: each model
is held to the losses of its own unfused graph, step by step.
"""

import numpy as np
import pytest

from tests import rewriting, spine, training

GPU, CPU = f"/{spine.device_type()}:0", "/CPU:0"
STEPS, SOAK_STEPS = 50, 200
MODELS = ("mlp", "cnn", "unet", "small_transformer", "small_lstm", "embedding", "vae", "gan")
# One batch again and again: the loss falls by orders of magnitude, and with it what rounding leaves
# of it. So the difference is held against the first loss.
FUSED, LIKE_CPU = 1e-5, 1e-3
# Adam's usual step makes the loss of the larger models jump, and multiplies rounding by thousands.
LEARNING_RATE = 1e-4


def _losses(name: str, device: str, passes: str, steps: int, seed: int = 0) -> np.ndarray:
    with rewriting.environment(TF_METAL_GRAPPLER=passes):
        if name == "gan":
            return np.array(training.gan_losses(device, steps))
        return np.array(training.losses(name, device, "float32", steps, seed, LEARNING_RATE))


def _check(name: str, steps: int, seed: int = 0) -> None:
    fused = _losses(name, GPU, "all", steps, seed)
    bounds = {"none": FUSED, "CPU": LIKE_CPU}
    others = {
        "none": _losses(name, GPU, "none", steps, seed),
        "CPU": _losses(name, CPU, "all", steps, seed),
    }
    first = others["none"][0]
    apart = {side: np.abs(fused - losses).max() / first for side, losses in others.items()}
    # `pytest -rP` shows it; docs/benchmarks.md has the largest of each model.
    print(f"gate {name} {seed}: " + ", ".join(f"{side} {x:.1e}" for side, x in apart.items()))
    for side, losses in others.items():
        np.testing.assert_allclose(fused, losses, rtol=0, atol=bounds[side] * first)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_losses_of_a_training(name):
    _check(name, STEPS)


@pytest.mark.slow
def test_losses_of_a_residual_network():
    fused, plain = (_losses("resnet", GPU, passes, 5) for passes in ("all", "none"))
    np.testing.assert_allclose(fused, plain, rtol=1e-3)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", MODELS)
def test_losses_of_a_long_training(name, seed):
    _check(name, SOAK_STEPS, seed)
