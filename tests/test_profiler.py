"""The device's rows in TensorFlow's profiler."""

import subprocess

import pytest
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from tests.conftest import BUILD

TOOL = BUILD / "tests" / "cc" / "tool_xspace"
PS_PER_NS = 1000


def encode(lines: list[str], boot_ns: int) -> xplane_pb2.XSpace:
    result = subprocess.run(
        [TOOL, str(boot_ns)], input="\n".join(lines).encode(), capture_output=True, check=True
    )
    space = xplane_pb2.XSpace()
    space.ParseFromString(result.stdout)
    return space


def rows(plane, line) -> list[tuple]:
    """(op, {stat: text}, start in ns since the epoch, duration in ns) of each event."""
    return [
        (
            plane.event_metadata[event.metadata_id].name,
            {plane.stat_metadata[s.metadata_id].name: s.str_value for s in event.stats},
            line.timestamp_ns + event.offset_ps // PS_PER_NS,
            event.duration_ps // PS_PER_NS,
        )
        for event in line.events
    ]


def test_encoder():
    boot_ns = 1_700_000_000_000_000_000
    space = encode(
        [
            "Relu act,300,350,1,0",
            "MatMul dense/MatMul,100,250,0,0",
            "copy,260,261,0,0",
            "MatMul:other,50,90,0,0",  # earlier, though recorded later
            "Mul m,7,7,4,1",
        ],
        boot_ns,
    )
    assert [p.name for p in space.planes] == ["/device:GPU:0", "/device:GPU:1"]
    first, second = space.planes
    assert [(line.id, line.name) for line in first.lines] == [
        (0, "Metal Stream #0"),
        (1, "Metal Stream #1"),
    ]
    assert first.lines[0].timestamp_ns == boot_ns + 50
    assert rows(first, first.lines[0]) == [
        ("MatMul", {"tf_op": "other:MatMul"}, boot_ns + 50, 40),
        ("MatMul", {"tf_op": "dense/MatMul:MatMul"}, boot_ns + 100, 150),
        ("copy", {}, boot_ns + 260, 1),
    ]
    assert rows(first, first.lines[1]) == [("Relu", {"tf_op": "act:Relu"}, boot_ns + 300, 50)]
    assert rows(second, second.lines[0]) == [("Mul", {"tf_op": "m:Mul"}, boot_ns + 7, 0)]
    assert {m.name for m in first.event_metadata.values()} == {"MatMul", "copy", "Relu"}
    assert all(key == m.id for key, m in first.event_metadata.items())


def test_nothing_recorded():
    assert not encode([], 0).planes


PROFILE = """
import pathlib, sys, time
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

@tf.function
def step(a, b):
    return tf.nn.relu(tf.matmul(a, b) * b, name="act")

with tf.device("/GPU:0"):
    a = tf.ones((64, 64)) * 0.01
    b = tf.ones((64, 64))
    step(a, b).numpy()
    for _ in range(2):  # a second session starts from nothing
        start = time.time_ns()
        tf.profiler.experimental.start(sys.argv[1])
        for _ in range({steps}):
            result = step(a, b)
        result.numpy()
        tf.profiler.experimental.stop()
        time.sleep(1.1)  # sessions are told apart by the second

space = xplane_pb2.XSpace()
trace = sorted(pathlib.Path(sys.argv[1]).rglob("*.xplane.pb"))[-1]
space.ParseFromString(trace.read_bytes())
planes = {{plane.name: plane for plane in space.planes}}
gpu, host = planes["/device:GPU:0"], planes["/host:CPU"]
lines = [line for line in gpu.lines if line.name.startswith("Metal Stream")]
names = [gpu.event_metadata[e.metadata_id].name for line in lines for e in line.events]
print("MATMUL", sum("MatMul" in name for name in names))
tf_ops = [s.str_value for line in lines for e in line.events for s in e.stats
          if gpu.stat_metadata[s.metadata_id].name == "tf_op"]
print("TF_OPS", sum(text.endswith(":MatMul") for text in tf_ops))

def span(lines):
    starts = [line.timestamp_ns * 1000 + e.offset_ps for line in lines for e in line.events]
    ends = [line.timestamp_ns * 1000 + e.offset_ps + e.duration_ps
            for line in lines for e in line.events]
    return min(starts) / 1e9, max(ends) / 1e9

(gpu_start, gpu_end), (host_start, host_end) = span(lines), span(host.lines)
# In ms. The work lies within the time that the host's own rows cover.
print("INSIDE", host_start - 1 <= gpu_start and gpu_end <= host_end + 1,
      gpu_start, gpu_end, host_start, host_end)
print("POSITIVE", all(e.duration_ps > 0 for line in lines for e in line.events))
"""


@pytest.fixture(scope="module")
def profile(run_python, tmp_path_factory) -> dict[str, str]:
    result = run_python(
        PROFILE.format(steps=5),
        env={"TF_METAL_GRAPPLER": "none"},  # a cluster is one row
        arguments=[str(tmp_path_factory.mktemp("trace"))],
    )
    return dict(line.split(" ", 1) for line in result.stdout.splitlines() if line[:1].isupper())


def test_each_matmul_is_a_row(profile):
    assert profile["MATMUL"] == profile["TF_OPS"] == "5"


def test_rows_are_aligned_with_the_host(profile):
    assert profile["INSIDE"].startswith("True"), profile["INSIDE"]


def test_rows_have_a_duration(profile):
    assert profile["POSITIVE"] == "True"


TWO_DEVICES = """
import pathlib, sys
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

tf.profiler.experimental.start(sys.argv[1])
for i in range(2):
    with tf.device(f"/GPU:{i}"):
        tf.tanh(tf.ones((64,)) * 0.5).numpy()
tf.profiler.experimental.stop()
space = xplane_pb2.XSpace()
(trace,) = pathlib.Path(sys.argv[1]).rglob("*.xplane.pb")
space.ParseFromString(trace.read_bytes())
for plane in space.planes:
    names = {plane.event_metadata[e.metadata_id].name for l in plane.lines for e in l.events}
    if any("Tanh" in name for name in names) and "device" in plane.name:
        print("PLANE", plane.name)
"""


def test_each_device_is_a_plane(run_python, tmp_path):
    result = run_python(TWO_DEVICES, env={"TF_METAL_DEVICES": "2"}, arguments=[str(tmp_path)])
    planes = [line for line in result.stdout.splitlines() if line.startswith("PLANE")]
    assert planes == ["PLANE /device:GPU:0", "PLANE /device:GPU:1"]
