"""tensorflow_metal_py: the calls, from eager code and from inside functions; the command line."""

import json
import re
import subprocess
import sys

import pytest
import tensorflow as tf

import tensorflow_metal_py as metal
from tensorflow_metal_py import _runtime

MEBIBYTE = 1 << 20


def call_op(request: bytes):
    """MetalRuntime without the conveniences."""
    from tensorflow.python.eager import context, execute

    with tf.device("CPU"):
        tensor = tf.constant(list(request), tf.uint8)
        (response,) = execute.execute(b"MetalRuntime", 1, [tensor], None, context.context())
    return json.loads(response.numpy().tobytes())


def test_status():
    status = metal.status()
    assert status["active"] and status["reason"] == ""
    assert (status["platform"], status["type"]) == ("METAL", "GPU")
    assert status["version"] == metal.__version__
    assert status["tensorflow"] == tf.version.VERSION
    assert status["library"].endswith((".so", ".dylib"))


def test_devices_are_tensorflows():
    (device,) = metal.devices()
    assert device.name == "/GPU:0"
    assert len(tf.config.list_physical_devices("GPU")) == 1
    assert device.description
    assert re.fullmatch(r"\d+\.\d+", device.macos)
    assert device.simulated == (sys.platform == "linux")


def test_memory_info_counts_tensors():
    before = metal.memory_info()
    with tf.device("GPU:0"):
        tensor = tf.identity(tf.zeros([4 * MEBIBYTE], tf.uint8))
    during = metal.memory_info("GPU:0")
    grown = during["current"] - before["current"]
    assert 4 * MEBIBYTE <= grown < 6 * MEBIBYTE  # a size class may round up
    assert during["peak"] >= during["current"]
    assert during["limit"] >= during["reserved"] >= during["current"]
    assert during["allocations"] > before["allocations"]
    del tensor
    assert metal.memory_info(0)["current"] <= before["current"] + MEBIBYTE
    assert metal.memory_info()["peak"] >= during["current"]
    metal.reset_memory_stats()
    assert metal.memory_info()["peak"] < during["current"]


@pytest.mark.parametrize("device", ["GPU", "gpu:0", "/GPU:0", "/device:GPU:0", 0, None])
def test_device_names(device):
    assert metal.memory_info(device)["limit"] > 0


@pytest.mark.parametrize(
    ("device", "text"),
    [("CPU:0", "not a device of the plugin"), ("GPU:7", "no device"), (7, "no Metal device 7")],
)
def test_unknown_devices(device, text):
    with pytest.raises(ValueError, match=text):
        metal.memory_info(device)


def test_stats_count_and_reset():
    metal.reset_stats()
    assert metal.stats()["bytes_htod"] == 0
    with tf.device("GPU:0"):
        tf.identity(tf.constant([1.0, 2.0])).numpy()
    stats = metal.stats()
    assert stats["bytes_htod"] >= 8 and stats["bytes_dtoh"] >= 8
    assert stats["sync_dtoh"] >= 1
    assert isinstance(stats["fusions"], dict)


def test_environment_lists_every_variable(monkeypatch):
    monkeypatch.setenv("TF_METAL_LOG", "0")
    rows = {row.name: row for row in metal.environment()}
    assert rows["TF_METAL_DEVICE_TYPE"].default == "GPU"
    assert all(name.startswith("TF_") and row.help for name, row in rows.items())


def test_variable_mode():
    mode = metal.variable_mode()
    assert mode["mode"] in {"c_api", "shim", "sync"}
    assert mode["reason"]


def test_inside_a_function_and_without_eager():
    @tf.function
    def f():
        return tf.constant(len(metal.devices()))

    assert f() == 1


def test_without_eager_execution(run_python):
    run_python(
        "import tensorflow as tf\n"
        "tf.compat.v1.disable_eager_execution()\n"
        "import tensorflow_metal_py as metal\n"
        "assert len(metal.devices()) == 1"
    )


def test_imports_before_tensorflow_and_without(run_python):
    code = (
        "import sys, tensorflow_metal_py as metal\n"
        "assert 'tensorflow' not in sys.modules\n"
        "assert len(metal.devices()) == 1"
    )
    run_python(code)


def test_says_when_there_is_no_plugin(run_python):
    code = (
        "import tensorflow_metal_py as metal\n"
        "try: metal.devices()\n"
        "except RuntimeError as e: assert 'has not loaded' in str(e), e\n"
        "else: raise AssertionError"
    )
    run_python(code, env={"TF_PLUGGABLE_DEVICE_LIBRARY_PATH": None})


def test_hidden_devices_shift_the_names(run_python):
    code = """
import tensorflow as tf
import tensorflow_metal_py as metal
first, second = tf.config.list_physical_devices("GPU")
tf.config.set_visible_devices([second], "GPU")
before = metal.memory_info(1)["current"]
with tf.device("GPU:0"):
    kept = tf.identity(tf.zeros([1 << 22], tf.uint8))
assert metal.memory_info("GPU:0") == metal.memory_info(1)
assert metal.memory_info(1)["current"] >= before + (1 << 22)
assert metal.memory_info(0)["current"] == 0
"""
    run_python(code, env={"TF_METAL_DEVICES": "2"})


def test_unknown_call_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r"unknown call 'nothing'; known are: .*memory_info.*stats"
    ):
        _runtime.call("nothing")
    assert {"stats", "memory_info", "devices", "environment"} <= set(_runtime.call("calls"))


MALFORMED = [
    b"",
    b"{",
    b"[]",
    b'"stats"',
    b'{"call": 1}',
    b'{"call": "stats"} x',
    b'{"call": "stats",}',
    b'{"call": "\\ud800"}',
    b'{"call": "a\nb"}',
    b"[" * 100_000,
    b'{"call": 01}',
    b"nul",
]


@pytest.mark.parametrize("request_bytes", MALFORMED, ids=lambda b: repr(b[:12]))
def test_malformed_requests_are_invalid(request_bytes):
    with pytest.raises(tf.errors.InvalidArgumentError, match="MetalRuntime: "):
        call_op(request_bytes)


def test_json_survives_the_way_there_and_back(tmp_path):
    """An unknown call is quoted in the error, so any text can be sent there and back."""
    for text in ['quote " \\ / ', "ünï ☃ 😀", "\x01 \n \t", '{"a": [1]}']:
        with pytest.raises(ValueError) as error:
            _runtime.call(text)
        assert f"unknown call '{text}'" in str(error.value)


def run_command(*arguments):
    command = [sys.executable, "-m", "tensorflow_metal_py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_env():
    result = run_command("env")
    assert result.returncode == 0, result.stderr
    assert "TF_METAL_DISABLE" in result.stdout and "/GPU:0" in result.stdout


def test_command_stats():
    result = run_command("stats")
    assert result.returncode == 0, result.stderr
    assert "bytes_htod" in result.stdout


@pytest.mark.parametrize("arguments", [(), ("nothing",), ("env", "more")])
def test_command_usage(arguments):
    result = run_command(*arguments)
    assert result.returncode == 2
    assert "usage:" in result.stderr and "env" in result.stderr
