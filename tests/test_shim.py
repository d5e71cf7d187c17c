"""The variable shim, its loader and variable_api, through ops on the CPU (cc/variable_ops.cc).

Runs in every TensorFlow: where it exports the variable functions itself, the same tests go through
those; the stricter error contract of the shim is tested only where the shim is in use.
"""

import ctypes
import os
import pathlib
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parent.parent
TF = pathlib.Path(tf.__file__).parent
CXX = os.environ.get("CXX", "g++")
SOURCES = (
    "tests/cc/variable_ops.cc",
    "plugin/variables/shim_loader.cc",
    "plugin/variables/variable_api.cc",
    "plugin/tf_api.cc",
    "plugin/env.cc",
    "plugin/log.cc",
)
DEADLOCK_SECONDS = 60
SHARED = ("-std=c++20", "-O1", "-fPIC", "-shared", "-fvisibility=hidden")

sys.path.insert(0, str(ROOT / "tools"))
import build_shim  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="builds with the Linux linker")


@pytest.fixture(scope="module")
def layout(tmp_path_factory) -> pathlib.Path:
    """site/tensorflow-plugins/ops.so and, if TensorFlow needs one, site/.../_shims/<shim>."""
    site = tmp_path_factory.mktemp("site")
    shims = site / "tensorflow_metal_py" / "_shims"
    # -I -S: nothing but the standard library, as in an isolated build.
    command = [sys.executable, "-I", "-S", ROOT / "tools" / "build_shim.py"]
    subprocess.run([*command, "--python-tf", TF, "--out", shims, "--cxx", CXX], check=True)
    library = site / "tensorflow-plugins" / "ops.so"
    library.parent.mkdir()
    command = [CXX, *SHARED, f"-I{ROOT}", "-isystem", TF / "include"]
    subprocess.run([*command, *(ROOT / s for s in SOURCES), "-o", library, "-ldl"], check=True)
    return library


@pytest.fixture(scope="module")
def exported() -> bool:
    return build_shim.of_this_interpreter().exports_variables()


class Ops:
    """The ops of the library, and what it counts."""

    def __init__(self, library: pathlib.Path):
        module = tf.load_op_library(str(library))
        self.c = ctypes.CDLL(str(library))
        for name in ("mode", "reason"):
            getattr(self.c, f"variable_test_{name}").restype = ctypes.c_char_p
        self.c.variable_test_synchronous.restype = ctypes.c_bool
        for op in (
            "assign",
            "assign_add",
            "assign_sub",
            "scatter_add",
            "exchange",
            "add_n",
            "zeros_like",
        ):
            setattr(self, op, getattr(module, f"variable_test_{op}"))

    @property
    def copies(self) -> int:
        return self.c.variable_test_copies()

    @property
    def mode(self) -> str:
        return self.c.variable_test_mode().decode()


@pytest.fixture(scope="module")
def ops(layout) -> Ops:
    os.environ.pop("TF_METAL_SHIM", None)
    return Ops(layout)


@pytest.fixture(autouse=True)
def on_cpu():
    with tf.device("CPU:0"):
        yield


def variable(value=1.0, shape=(4, 2)) -> tf.Variable:
    return tf.Variable(tf.fill(shape, tf.constant(value)))


def all_equal(tensor, value) -> bool:
    return bool(np.all(np.asarray(tensor) == value))


def test_mode_follows_tensorflows_exports(ops, exported):
    assert ops.mode == ("api" if exported else "shim")
    assert not ops.c.variable_test_synchronous()
    if not exported:
        assert b"_shims/libvariables-" in ops.c.variable_test_reason()


def test_assign(ops):
    v = variable()
    before = v.read_value()
    ops.assign(v.handle, tf.fill((4, 2), 3.0))
    assert all_equal(v, 3.0) and all_equal(before, 1.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"wrong shape.*\[4,2\].*\[2,2\]"):
        ops.assign(v.handle, tf.ones((2, 2)))
    assert all_equal(v, 3.0)


def test_assign_creates_the_variable(ops):
    handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=(2,), shared_name="created")
    assert not tf.raw_ops.VarIsInitializedOp(resource=handle)
    ops.assign(handle, tf.constant([1.0, 2.0]))
    value = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)
    assert value.numpy().tolist() == [1.0, 2.0]


def test_assign_takes_over_the_buffer_until_an_update(ops):
    v, value = variable(), tf.fill((4, 2), 5.0)
    copies = ops.copies
    ops.assign(v.handle, value)
    assert ops.copies == copies
    ops.assign_add(v.handle, tf.ones((4, 2)))
    assert ops.copies == copies + 1  # `value` still reads the old buffer
    assert all_equal(value, 5.0) and all_equal(v, 6.0)


@pytest.mark.parametrize("op, sign", [("assign_add", 1.0), ("assign_sub", -1.0)])
def test_update_copies_only_what_is_read(ops, op, sign):
    v, one = variable(), tf.ones((4, 2))
    getattr(ops, op)(v.handle, one)  # now the variable owns its buffer
    copies = ops.copies
    getattr(ops, op)(v.handle, one)
    assert ops.copies == copies
    before = v.read_value()
    getattr(ops, op)(v.handle, one)
    assert ops.copies == copies + 1
    assert all_equal(before, 1.0 + 2 * sign) and all_equal(v, 1.0 + 3 * sign)


def test_update_checks_the_shape(ops):
    v = variable()
    with pytest.raises(tf.errors.InvalidArgumentError, match="shapes must be equal"):
        ops.assign_sub(v.handle, tf.ones((2, 4)))
    assert all_equal(v, 1.0)


def test_update_in_a_function(ops):
    v = variable()

    @tf.function
    def step(x):
        for _ in range(3):
            ops.assign_add(v.handle, x)
        return v.read_value()

    assert all_equal(step(tf.ones((4, 2))), 4.0)


def test_scatter_makes_reads_copy(ops):
    v = variable()
    before = v.read_value()
    ops.scatter_add(v.handle, tf.constant([1, 1, 3]), tf.ones((3, 2)))
    assert v.numpy()[:, 0].tolist() == [1.0, 3.0, 1.0, 2.0] and all_equal(before, 1.0)
    copies, after = ops.copies, v.read_value()
    ops.scatter_add(v.handle, tf.constant([0]), tf.ones((1, 2)))
    assert ops.copies == copies  # `after` is TensorFlow's copy, so rows change in place
    assert after.numpy()[0, 0] == 1.0 and v.numpy()[0, 0] == 2.0


def test_assign_after_scatter_does_not_alias(ops):
    v, value = variable(), tf.fill((4, 2), 5.0)
    ops.scatter_add(v.handle, tf.constant([0]), tf.ones((1, 2)))
    ops.assign(v.handle, value)
    ops.scatter_add(v.handle, tf.constant([0]), tf.ones((1, 2)))
    assert all_equal(value, 5.0) and v.numpy()[0, 0] == 6.0


def test_destroyed_variable_is_an_error(ops):
    handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=(4, 2), shared_name="gone")
    ones, index, row = tf.ones((4, 2)), tf.constant([0]), tf.ones((1, 2))
    calls = [lambda: ops.assign_add(handle, ones), lambda: ops.scatter_add(handle, index, row)]
    if ops.mode == "shim":  # TensorFlow's own function aborts the process here
        calls.append(lambda: ops.assign_sub(handle, ones))
    for call in calls:
        with pytest.raises(tf.errors.OpError, match=r"does not exist|[Ii]nvalid variable"):
            call()


def test_failed_copy_is_an_error(ops):
    v = variable()
    reader = v.read_value()
    ops.c.variable_test_fail_next_copy()
    with pytest.raises(tf.errors.ResourceExhaustedError, match="copy refused"):
        ops.assign_add(v.handle, tf.ones((4, 2)))
    assert all_equal(reader, 1.0)
    if ops.mode == "shim":  # TensorFlow's own function keeps the half-made copy
        assert all_equal(v, 1.0)
        ops.assign_add(v.handle, tf.ones((4, 2)))  # and no lock was left behind
        assert all_equal(v, 2.0)


def in_threads(*jobs) -> None:
    errors: list[Exception] = []

    def guarded(job):
        try:
            job()
        except Exception as e:  # reported by the main thread
            errors.append(e)

    threads = [threading.Thread(target=guarded, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLOCK_SECONDS)
        assert not thread.is_alive(), "deadlock"
    assert not errors, errors


def test_locks_are_taken_in_one_order(ops):
    a, b = variable(1.0), variable(2.0)

    def swap(x, y):
        with tf.device("CPU:0"):
            for _ in range(200):
                ops.exchange(x.handle, y.handle)

    in_threads(lambda: swap(a, b), lambda: swap(b, a))
    assert {float(a[0, 0]), float(b[0, 0])} == {1.0, 2.0} and all_equal(a, a[0, 0])
    ops.exchange(a.handle, a.handle)


def test_concurrent_updates_are_all_counted(ops):
    v = variable(0.0, (1000,))

    def update():
        with tf.device("CPU:0"):
            one = tf.ones((1000,))
            for _ in range(100):
                ops.assign_add(v.handle, one)

    def read():
        for _ in range(100):
            value = v.numpy()
            assert value.min() == value.max()

    in_threads(update, update, update, read)
    assert all_equal(v, 300.0)


def tensor_list(value: float, elements: int = 3):
    return tf.raw_ops.TensorListFromTensor(
        tensor=tf.fill((elements, 2), value), element_shape=tf.constant([2])
    )


def stacked(handle) -> np.ndarray:
    return tf.raw_ops.TensorListStack(
        input_handle=handle, element_shape=tf.constant([2]), element_dtype=tf.float32
    ).numpy()


def test_add_tensor_lists(ops):
    total = ops.add_n([tensor_list(1.0), tensor_list(2.0), tensor_list(4.0)])
    assert all_equal(stacked(total), 7.0)
    assert all_equal(stacked(ops.add_n([tensor_list(1.0)])), 1.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="different"):
        ops.add_n([tensor_list(1.0), tensor_list(1.0, elements=2)])


def test_unwritten_elements_count_as_zero(ops):
    empty = tf.raw_ops.TensorListReserve(
        element_shape=tf.constant([2]), num_elements=3, element_dtype=tf.float32
    )
    assert all_equal(stacked(ops.add_n([empty, tensor_list(2.0)])), 2.0)
    assert all_equal(stacked(ops.zeros_like(empty)), 0.0)


def test_nested_lists(ops):
    def nest(inner):
        outer = tf.raw_ops.EmptyTensorList(
            element_shape=tf.constant([], tf.int32),
            max_num_elements=4,
            element_dtype=tf.variant,
        )
        return tf.raw_ops.TensorListPushBack(input_handle=outer, tensor=inner)

    def first(outer):
        return tf.raw_ops.TensorListGetItem(
            input_handle=outer,
            index=0,
            element_shape=tf.constant([], tf.int32),
            element_dtype=tf.variant,
        )

    total = ops.add_n([nest(tensor_list(1.0)), nest(tensor_list(2.0))])
    assert all_equal(stacked(first(total)), 3.0)
    assert all_equal(stacked(first(ops.zeros_like(nest(tensor_list(1.0))))), 0.0)


def test_zeros_like_keeps_its_input(ops):
    original = tensor_list(3.0)
    assert all_equal(stacked(ops.zeros_like(original)), 0.0)
    assert all_equal(stacked(original), 3.0)


def test_optionals(ops):
    one = tf.raw_ops.OptionalFromValue(components=[tf.ones((2,))])

    def value(optional):
        return tf.raw_ops.OptionalGetValue(
            optional=optional, output_types=[tf.float32], output_shapes=[(2,)]
        )[0]

    assert all_equal(value(ops.add_n([one, one])), 2.0)
    assert all_equal(value(ops.zeros_like(one)), 0.0)
    with pytest.raises(tf.errors.OpError):
        ops.add_n([one, tensor_list(1.0)])


def resident_bytes() -> int:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_nothing_leaks(ops):
    """Whether callbacks own their tensors differs between versions: too few deletes leak here."""
    size, rounds = 1 << 20, 100  # 4 MiB each; one leaked tensor a round would be 400 MiB
    v = tf.Variable(tf.zeros((size,)))

    def round_trip():
        one = tf.ones((1, size))
        element = tf.raw_ops.TensorListFromTensor(tensor=one, element_shape=tf.constant([size]))
        ops.zeros_like(ops.add_n([element, element]))
        reader = v.read_value()
        ops.assign_add(v.handle, one[0])
        ops.assign_sub(v.handle, one[0])
        ops.assign(v.handle, reader)

    round_trip()
    before = resident_bytes()
    for _ in range(rounds):
        round_trip()
    assert resident_bytes() - before < 25 * 4 * size


# --- The loader decides once per process, so each case is a process ------------------------------

PROBE = textwrap.dedent("""
    import ctypes, sys
    import tensorflow as tf
    tf.load_op_library(sys.argv[1])
    c = ctypes.CDLL(sys.argv[1])
    c.variable_test_mode.restype = c.variable_test_reason.restype = ctypes.c_char_p
    c.variable_test_synchronous.restype = ctypes.c_bool
    print(c.variable_test_mode().decode(), c.variable_test_synchronous())
    print("reason:", c.variable_test_reason().decode())
""")


def probe(library: pathlib.Path, **environment: str) -> str:
    """Standard output and the plugin's own lines of standard error."""
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", **environment}
    env.pop("TF_PLUGGABLE_DEVICE_LIBRARY_PATH", None)  # `library` alone decides and warns
    command = [sys.executable, "-c", PROBE, str(library)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    own = [line for line in done.stderr.splitlines() if line.startswith("tensorflow-metal-py")]
    return "\n".join([done.stdout, *own])


def compiled(tmp_path: pathlib.Path, code: str) -> str:
    source, library = tmp_path / "fake.cc", tmp_path / "fake.so"
    source.write_text(code)
    subprocess.run([CXX, "-shared", "-fPIC", source, "-o", library], check=True)
    return str(library)


def fake_shim(version: str) -> str:
    return f'extern "C" const char* tfmetal_shim_tf_version() {{ return "{version}"; }}'


@pytest.mark.parametrize(
    "code, complaint",
    [
        (fake_shim("1.15.0"), "was built for TensorFlow 1.15.0"),
        (fake_shim(tf.__version__), "lacks TF_AssignVariable"),
        (fake_shim(tf.__version__ + "-dev1"), "was built for"),
        ("int nothing;", "is no variable shim"),
    ],
)
def test_library_that_does_not_fit_is_refused(layout, exported, tmp_path, code, complaint):
    if exported:
        pytest.skip("TensorFlow exports the functions")
    out = probe(layout, TF_METAL_SHIM=compiled(tmp_path, code))
    assert out.startswith("sync True") and complaint in out
    assert out.count("tools/build_shim.py") == 1  # one warning, with what to do


def test_without_shim_the_device_is_synchronous(layout, exported):
    if exported:
        pytest.skip("TensorFlow exports the functions")
    for setting, complaint in (("off", "TF_METAL_SHIM=off"), ("/no/such.so", "does not exist")):
        out = probe(layout, TF_METAL_SHIM=setting)
        assert out.startswith("sync True") and complaint in out and "tools/build_shim.py" in out


def test_sync_setting(layout):
    out = probe(layout, TF_METAL_SHIM="auto", TF_METAL_SYNC="1")
    assert out.split()[0] in ("shim", "api") and out.split()[1] == "True"
    assert "tools/build_shim.py" not in out


@pytest.mark.parametrize(
    "wheel, tensorflow",
    [
        ("2.21.0", "2.21.0"),
        ("2.22.0.dev20260905", "2.22.0-dev20260905"),
        ("2.21.0rc1", "2.21.0-rc1"),
    ],
)
def test_version_spelling(wheel, tensorflow):
    assert build_shim.spelled_by_tensorflow(wheel) == tensorflow


def test_the_tool_knows_the_running_version():
    assert build_shim.of_this_interpreter().version == tf.__version__
