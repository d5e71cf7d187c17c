"""`python -m tensorflow_metal_py doctor` and `bench`, as a user calls them."""

import collections

import pytest
import tensorflow as tf

from tensorflow_metal_py import doctor
from tests import spine

DOCTOR = """
import sys
from tensorflow_metal_py.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
SCRIPT = """
import sys
import tensorflow as tf
assert sys.argv[1:] == ["--flag"]
x = tf.ones((2, 2), tf.float64)
tf.linalg.matmul(x, x)

@tf.function
def function(y):
    return tf.raw_ops.Dawsn(x=y) + tf.nn.relu(y)

function(tf.ones((3,)))
"""


@pytest.fixture
def call(run_python):
    def run(*arguments, status=0):
        return run_python(DOCTOR, arguments=[str(a) for a in arguments], status=status)

    return run


def test_machine(call):
    output = call("doctor").stdout
    for word in ("tensorflow ", "device", "variables", "memory"):
        assert word in output


def test_judge():
    device = spine.device_type()

    def verdict(op, **types):
        return doctor.judge(doctor.Signature(op, tuple(sorted(types.items()))), device)

    assert verdict("MatMul", T="float").on_device
    double = verdict("MatMul", T="double")
    assert not double.on_device and "float32" in double.advice
    assert "no kernel" in verdict("Dawsn", T="float").reason
    strings = verdict("StringLength")
    assert not strings.on_device and not strings.advice


def test_judge_agrees_with_placement():
    """An op of the verdict 'on the device' runs there."""
    counts = collections.Counter()
    graph = tf.function(lambda x: tf.nn.relu(x @ x)).get_concrete_function(
        tf.TensorSpec((2, 2), tf.float32)
    )
    counts.update(map(doctor.signature_of, doctor.nodes_of(graph.graph.as_graph_def())))
    assert all(doctor.judge(s, spine.device_type()).on_device for s in counts)
    with tf.device(f"/{spine.device_type()}:0"):
        assert spine.device_type() in tf.nn.relu(tf.ones((2, 2))).device


def test_script(call, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    output = call("doctor", script, "--flag").stdout
    assert "MatMul(T=double)" in output and "Metal has no float64" in output
    assert "Dawsn(T=float)" in output
    assert "Relu" not in output


@pytest.mark.parametrize("name", ["mlp", "unet"])  # Sequential, functional
def test_model_files(call, run_python, tmp_path, name):
    run_python(
        "import sys; from tensorflow_metal_py import models\n"
        f"m = models.build('{name}'); m.save(sys.argv[1]); m.export(sys.argv[2], verbose=False)",
        arguments=[str(tmp_path / "m.keras"), str(tmp_path / "saved")],
    )
    output = call("doctor", tmp_path / "m.keras").stdout
    assert "inference:" in output and "training step:" in output
    assert "nothing that belongs on the device leaves it" in output
    assert "signature serve" in call("doctor", tmp_path / "saved").stdout


@pytest.mark.parametrize(
    "name, content",
    [("missing.keras", None), ("broken.keras", b"no zip"), ("model.txt", b""), ("empty", "folder")],
)
def test_bad_files_are_one_line_and_status_2(call, tmp_path, name, content):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    result = call("doctor", path, status=2)
    lines = [line for line in result.stderr.splitlines() if name in line]
    assert len(lines) == 1 and "Traceback" not in result.stderr


def test_bench(call):
    output = call("bench", "--models=embedding", "--rounds=3", "--nojit").stdout
    assert output.count("embedding") == 3  # float32, and two mixed policies against it
    assert "ms" in output


@pytest.mark.parametrize("bad", ["--models=nothing", "--policies=float7", "--rounds=x", "word"])
def test_bench_refuses(call, bad):
    result = call("bench", bad, status=2)
    assert "Traceback" not in result.stderr
    assert bad.split("=")[-1] in result.stderr or "rounds" in result.stderr
