"""Many threads at once: each must get what it gets alone, bit for bit."""

from __future__ import annotations

import concurrent.futures
import functools
import threading
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from tensorflow_metal_py.selftest import programs
from tensorflow_metal_py.selftest.tasks import Result, Task

THREADS = 8
SEEDS = range(THREADS)  # of random programs, one for each thread
EAGER_ROUNDS = 30


def _bits(results: list[np.ndarray]) -> list[bytes]:
    return [x.tobytes() for x in results]


def _at_once(works: list[Callable[[], list[bytes]]]) -> list[list[bytes]]:
    """Runs all, each in a thread of its own, begun together."""
    start = threading.Barrier(len(works))

    def run(work):
        start.wait()
        return work()

    with concurrent.futures.ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def _compare(alone: list[list[bytes]], together: list[list[bytes]], what: str) -> Result:
    wrong = [i for i, (a, b) in enumerate(zip(alone, together, strict=True)) if a != b]
    return Result(not wrong, f"{what} {wrong} answer otherwise under load" if wrong else "")


def run_programs(device: str) -> Result:
    """Random programs, traced and run twice in each thread, graph passes included."""
    works = [lambda s=seed: _bits(programs.Program(s).run(device)) for seed in SEEDS]
    return _compare([work() for work in works], _at_once(works), "programs of the seeds")


def _eager(device: str, seed: int, rounds: int) -> list[bytes]:
    """Ops, variables and copies in both directions."""
    rng = np.random.default_rng(seed)
    results = []
    with tf.device(device):
        variable = tf.Variable(rng.standard_normal((64, 64)).astype(np.float32))
        for _ in range(rounds):
            x = tf.constant(rng.standard_normal((64, 64)).astype(np.float32))
            y = tf.nn.relu(x @ variable) / 8.0
            variable.assign_add(tf.transpose(y) * 0.01)
            results.append(tf.reduce_sum(tf.transpose(y) * x, 1).numpy())
        results.append(variable.numpy())
    return _bits(results)


def run_eager(device: str) -> Result:
    """Ops one by one, whose results each thread reads at once."""
    works = [lambda s=seed: _eager(device, s, EAGER_ROUNDS) for seed in SEEDS]
    return _compare([work() for work in works], _at_once(works), "eager threads")


def run_shared(device: str) -> Result:
    """One function, called by all threads."""
    weights = np.random.default_rng(0).standard_normal((48, 48)).astype(np.float32)
    with tf.device(device):
        w = tf.constant(weights)

    @tf.function(autograph=False)
    def function(x):
        for _ in range(4):
            x = tf.nn.gelu(x @ w * 0.1) + tf.nn.softmax(x)
        return x

    def work(seed: int) -> list[bytes]:
        x = np.random.default_rng(seed).standard_normal((32, 48)).astype(np.float32)
        with tf.device(device):
            return _bits([function(tf.constant(x)).numpy() for _ in range(EAGER_ROUNDS)])

    works = [functools.partial(work, seed) for seed in SEEDS]
    return _compare([one() for one in works], _at_once(works), "callers of one function")


def race_tasks(device: str) -> Iterator[Task]:
    for run in (run_programs, run_eager, run_shared):
        yield Task(f"races/{run.__doc__.rstrip('.')}", "races", functools.partial(run, device))
