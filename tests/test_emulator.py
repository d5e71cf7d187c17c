"""The library for arm64 macOS does what the Linux build does, shown in an emulator.

`make cross-macos` builds the library, tests/emulator/ runs it. A process with TensorFlow and the
Linux build writes down all that the two say to each other while models train (wiretap.py); the
emulated plugin then hears the same from TensorFlow and must answer the same.
"""

import os
import pickle
import struct
import sys

import pytest

from tests.conftest import ROOT, TIMEOUT_SECONDS
from tests.emulator import libsystem, machine, plugin

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(sys.platform != "linux", reason="compares with the Linux build"),
]

# Models of tensorflow_metal_py.models and Keras policies: dense layers, convolutions with batch
# normalisation and dropout, a loop, reduced precision.
TRAININGS = ("mlp/float32", "cnn/float32", "lstm/float32", "cnn/mixed_float16")
# Far fewer than there are, so that comparing nothing with nothing fails.
LEAST_KERNELS, LEAST_OPS = 2000, 4
LOAD_X0_FROM_X0 = 0xF9400000  # ldr x0, [x0]


def test_emulator_reports_what_would_crash():
    emulated = machine.Machine()
    system = libsystem.LibSystem(emulated, {})
    block = emulated.call(system.find("malloc"), 8)
    emulated.call(system.find("free"), block)
    with pytest.raises(machine.Fault, match="is freed, but not allocated"):
        emulated.call(system.find("free"), block)
    with pytest.raises(machine.Fault, match="pthread_create is called"):
        emulated.call(system.find("pthread_create"))
    code = emulated.allocate(8)
    emulated.write(code, struct.pack("<II", LOAD_X0_FROM_X0, machine.RET))
    assert emulated.call(code, code) == emulated.word(code)
    with pytest.raises(machine.Fault, match="bad access to 0x10 at"):
        emulated.call(code, 16)


@pytest.fixture(scope="module")
def tape(run_python, library, tmp_path_factory) -> plugin.Tape:
    """What the Linux build said and did."""
    path = tmp_path_factory.mktemp("wiretap") / "tape"
    code = "import sys; from tests.emulator import wiretap; wiretap.main(*sys.argv[1:])"
    settings = [name for name in os.environ if name.startswith("TF_METAL_")]
    environment = dict.fromkeys(settings) | {"TF_METAL_HOST_MACOS": libsystem.MACOS}
    run_python(
        code,
        env=environment,
        arguments=[str(library), str(path), *TRAININGS],
        timeout=2 * TIMEOUT_SECONDS,
    )
    return pickle.loads(path.read_bytes())


@pytest.fixture(scope="module")
def emulated(tape):
    """The plugin in the emulator, loaded and with all that it registers: (plugin, filled)."""
    from tests.emulator.emulated import EmulatedPlugin

    dylib = ROOT / "build-macos" / "libtensorflow_metal_py.dylib"
    assert dylib.exists(), f"{dylib} does not exist: run make cross-macos"
    emulated = EmulatedPlugin(dylib, tape)
    filled = {"SE_InitPlugin": emulated.enter("SE_InitPlugin")}
    emulated.register_kernels()
    filled |= {entry: emulated.enter(entry) for entry in ("TF_InitGraph", "TF_InitProfiler")}
    return emulated, filled


@pytest.mark.parametrize("entry", plugin.ENTRIES)
def test_entry_points_fill_the_same(emulated, tape, entry):
    """Sizes, versions, device type, settings, which functions there are."""
    assert emulated[1][entry] == tape.after[entry]


def test_platform_creates_the_same(emulated, tape):
    """Device, stream executor, timers."""
    assert emulated[0].created() == tape.created


def test_registers_the_same(emulated, tape):
    """Kernels with types and host memory, ops with attributes, inputs, outputs and state."""
    found, expected = emulated[0].registrations, tape.registrations
    for ours, theirs in zip(found, expected, strict=False):
        assert ours == theirs
    assert len(found) == len(expected)
    calls = [row[0] for row in found]
    assert calls.count("TF_RegisterKernelBuilder") > LEAST_KERNELS
    assert calls.count("TF_RegisterOpDefinition") > LEAST_OPS


@pytest.mark.parametrize("training", TRAININGS)
def test_optimizes_graphs_to_the_same_bytes(emulated, tape, training):
    graphs = [graph for graph in tape.graphs if graph.training == training]
    assert any(graph.before != graph.after for graph in graphs), "nothing was rewritten"
    for graph in graphs:
        assert emulated[0].optimize(graph) == graph.after


def test_nothing_went_to_stderr(emulated):
    assert emulated[0].machine.stderr == []
