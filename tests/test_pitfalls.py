"""docs/pitfalls.md: each row names tests that exist. Those without another place are here."""

import re
import sys

import numpy as np
import pytest
import tensorflow as tf

import tensorflow_metal_py as metal
from tests import spine
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import check_selectors  # noqa: E402

DEVICE = f"/{spine.device_type()}:0"


def _rows() -> list[list[str]]:
    lines = (ROOT / "docs" / "pitfalls.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines
            if line.startswith("| ")]  # fmt: skip
    return rows[2:]


def _exists(test: str) -> bool:
    file, name = test.split(":", 1)
    path = ROOT / file
    if not path.exists():
        return False
    text = path.read_text()
    patterns = {
        ".py": rf"^def {re.escape(name)}\(",
        ".cc": rf"\b(?:DEATH_)?TEST\({re.escape(name)}[,)]",
        ".tsv": rf"^[DMU] {re.escape(name)}\t",
    }
    return re.search(patterns[path.suffix], text, re.M) is not None


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0][:40])
def test_every_row_has_a_guard_and_tests_that_exist(row):
    assert len(row) == 4
    _, _, guard, tests = row
    assert guard
    named = re.findall(r"`([^`]+)`", tests)
    assert named
    missing = [test for test in named if not _exists(test)]
    assert not missing
    files = re.findall(r"`((?:kernels|plugin|tests)/[\w/.]+)`", guard)
    assert all((ROOT / file).exists() for file in files)


def test_a_name_that_is_gone_is_seen():
    assert _exists("tests/test_pitfalls.py:test_a_name_that_is_gone_is_seen")
    assert not _exists("tests/test_pitfalls.py:test_gone")
    assert not _exists("tests/cc/test_seam.cc:gone")
    assert not _exists("tests/gone.cc:gone")


# Methods of MPSGraph and MPS that are wrong on some macOS; what they do is shaders here.
AVOIDED = r"""^(?:arrayView|sort|argSort|topK|bottomK|cumulative|scatter|gather|random|dropout|LSTM
|GRU|singleGateRNN|maxPooling|avgPooling|resize|sample|inverse|nonZero|nonMaximum|variable|assign
|readVariable|encodeToCommandBuffer:sourceArrays|adam|stochasticGradientDescent|FastFourier
|realToHermitean|HermiteanToReal|.*[rR]educedPrecision)""".replace("\n", "")


def test_avoided_methods():
    """No wrapper that the plugin calls sends one of them."""
    from tests import test_fidelity

    catalogue = check_selectors.read_catalogue()
    declared = {row[1] for name, rows in catalogue.methods.items() for row in rows
                if name.startswith("MPS")}  # fmt: skip
    assert sum(bool(re.match(AVOIDED, selector)) for selector in declared) > 100
    used = test_fidelity._used()
    assert not [selector for selector in used if re.match(AVOIDED, selector)]


def test_reduced_precision_is_off_by_default():
    values = check_selectors.read_catalogue().values["MPSGraphReducedPrecisionFastMath"]
    none = values["MPSGraphReducedPrecisionFastMathNone"]
    assert values["MPSGraphReducedPrecisionFastMathDefault"] == none == 0


@pytest.mark.parametrize("op", ["reduce_any", "reduce_all", "reduce_max", "reduce_sum"])
def test_reductions_over_early_axes(op):
    x = np.random.default_rng(0).integers(0, 2, (2, 3, 1, 2, 2, 3, 2))
    x = x.astype(bool if op in ("reduce_any", "reduce_all") else np.float32)
    for axes in [(0,), (0, 1), (1, 3, 5), (0, 1, 2, 3, 4, 5)]:
        expected = getattr(tf, op)(x, axes)
        with tf.device(DEVICE):
            np.testing.assert_array_equal(getattr(tf, op)(tf.constant(x), axes), expected)


def test_convolutions_have_tensorflows_layout():
    """The layout of images is that of the op in each descriptor, and nobody asks for another."""
    from tests import test_fidelity

    assert "convertLayoutToNHWC" not in test_fidelity._used()
    text = (ROOT / "kernels" / "lowering" / "convolution.cc").read_text()
    made = re.findall(r"mpsg::(?:Convolution|Depthwise)\dD::make\(.*?\);", text, re.S)
    layouts = [re.findall(r"first \? mpsg::Layout::(\w+) : mpsg::Layout::(\w+)", m) for m in made]
    assert layouts == [[("NCHW", "NHWC")], [("NCDHW", "NDHWC")], [("NCHW", "NHWC")]]
    assert "transpose" not in text
    x = np.random.default_rng(1).standard_normal((2, 7, 6, 3)).astype(np.float32)
    w = tf.constant(np.random.default_rng(2).standard_normal((3, 2, 3, 4)), tf.float32)
    args = {"filter": w, "strides": [1, 1, 1, 1], "padding": "SAME"}
    with tf.device("/CPU:0"):
        expected = tf.raw_ops.Conv2D(input=x, **args).numpy()
    with tf.device(DEVICE):
        last = tf.raw_ops.Conv2D(input=x, **args).numpy()
        first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        first = tf.raw_ops.Conv2D(input=first, **args, data_format="NCHW").numpy()
    np.testing.assert_allclose(last, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), last)


def test_a_graph_starts_once():
    """Equal computations in other functions, and in the same one made again, are not compiled."""
    x = tf.constant(np.random.default_rng(3).standard_normal((5, 11)), tf.float32)

    def run(x, factor):
        return tf.function(lambda x: tf.tanh(tf.matmul(x, x, transpose_b=True)) * factor)(x)

    with tf.device(DEVICE):
        x = tf.identity(x)
        expected = run(x, 0.75)
        before = metal.stats()["compiles"]
        for _ in range(3):
            np.testing.assert_array_equal(run(x, 0.75), expected)
        assert metal.stats()["compiles"] == before
        run(x[:4], 0.75)
    assert metal.stats()["compiles"] > before


def test_placeholders_have_shapes():
    """The lowering makes placeholders in one place, with the extents of the tensor."""
    calls = [
        line.strip()
        for path in (ROOT / "kernels").rglob("*.cc")
        for line in path.read_text().splitlines()
        if "g_.placeholder(" in line or "g.placeholder(" in line
    ]
    assert len(calls) == 1 and "g_.list(tensor.shape)" in calls[0]


def test_groups_that_share_memory_are_small():
    """Apple's GPUs allow at least 256 threads for any shader that compiles."""
    headers = "".join(path.read_text() for path in (ROOT / "kernels" / "msl").glob("*.h"))
    sizes = {name: int(size) for name, size in re.findall(r"#define (\w+_THREADS) (\d+)", headers)}
    assert len(sizes) >= 3
    assert max(sizes.values()) <= 256


def test_training_leaves_nothing_autoreleased(run_python):
    """Every thread that TensorFlow calls has a pool: the host warns of objects without one."""
    code = f"""
import tensorflow as tf
with tf.device({DEVICE!r}):
    w = tf.Variable(tf.ones((8, 8)))
    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.nn.relu(tf.matmul(x, w)) + tf.random.normal((8, 8)))
        w.assign_sub(0.01 * tape.gradient(loss, w))
        return loss
    for i in range(5):
        step(tf.ones((8, 8))).numpy()
        tf.where(tf.constant([True, False, True])).numpy()
print("right")
"""
    result = run_python(code, env={"TF_METAL_LOG": "0"})
    assert "right" in result.stdout
    assert "with no pool" not in result.stderr
