"""`import tensorflow` never breaks: the plugin serves, or declines with one warning and why."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What any process must still be able to do, device or not.
REPORT = """
import json, sys
import tensorflow as tf
import tensorflow_metal_py as metal
gpus = [d.name for t in ("GPU", "METAL") for d in tf.config.list_physical_devices(t)]
assert float(tf.reduce_sum(tf.matmul(tf.ones([4, 4]), tf.ones([4, 4])))) == 64
print(json.dumps({"gpus": gpus, "status": metal.status(), "devices": len(metal.devices())}))
"""


def report(run_python, code=REPORT, **env):

    result = run_python(code, env=env)
    answer = json.loads(result.stdout.splitlines()[-1])
    answer["warnings"] = re.findall(r"tensorflow-metal-py W: .*", result.stderr)
    return answer


def assert_declined(answer, *texts):
    assert answer["gpus"] == []
    assert answer["devices"] == 0
    assert not answer["status"]["active"]
    assert len(answer["warnings"]) == 1, answer["warnings"]
    for text in texts:
        assert text in answer["status"]["reason"]
        assert text in answer["warnings"][0]


def test_serves(run_python):
    answer = report(run_python)
    assert answer["gpus"] == ["/physical_device:GPU:0"]
    assert answer["status"]["active"] and answer["status"]["reason"] == ""
    assert answer["devices"] == 1
    assert answer["warnings"] == []


def test_serves_as_another_type(run_python):
    answer = report(run_python, TF_METAL_DEVICE_TYPE="METAL")
    assert answer["gpus"] == ["/physical_device:METAL:0"]


simulated = pytest.mark.skipif(sys.platform != "linux", reason="needs the simulated device")


@pytest.mark.parametrize(
    ("env", "texts"),
    [
        ({"TF_METAL_DISABLE": "1"}, ["TF_METAL_DISABLE is set", "Unset it"]),
        ({"TF_METAL_DEVICE_TYPE": "CPU"}, ["TF_METAL_DEVICE_TYPE is 'CPU'", "GPU or METAL"]),
        pytest.param(
            {"TF_METAL_HOST_MACOS": "13.6"},
            ["macOS 13.6 is older than 14.0", "Update macOS"],
            marks=simulated,
        ),
        pytest.param({"TF_METAL_HOST_GPUS": "0"}, ["Metal offers no GPU"], marks=simulated),
    ],
    ids=["disabled", "bad_type", "old_macos", "no_gpu"],
)
def test_declines(run_python, env, texts):
    assert_declined(report(run_python, **env), *texts)


def compile_library(folder, name, source, *flags):
    path = folder / name
    code = folder / f"{name}.cc"
    code.write_text(source)
    command = [os.environ.get("CXX", "g++"), "-shared", "-fPIC", "-o", path, code, *flags, "-ldl"]
    subprocess.run(command, check=True)
    return path


# Stands in for TensorFlow's own: what the plugin sees of a version without this function.
HIDE_SYMBOL = r"""
#include <dlfcn.h>
#include <string.h>
extern "C" void* dlsym(void* handle, const char* name) {
  static auto real = reinterpret_cast<void* (*)(void*, const char*)>(
      dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5"));
  return strcmp(name, "TF_GetStream") == 0 ? nullptr : real(handle, name);
}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="interposes dlsym by LD_PRELOAD")
def test_declines_when_tensorflow_lacks_a_function(run_python, tmp_path):
    # MetalRuntime is not there either, so only the warning is left to look at.
    code = REPORT.replace("metal.status()", '{"active": False, "reason": ""}')
    code = code.replace("len(metal.devices())", "0")
    preload = compile_library(tmp_path, "libhide.so", HIDE_SYMBOL)
    answer = report(run_python, code, LD_PRELOAD=str(preload))
    assert answer["gpus"] == []
    (warning,) = answer["warnings"]
    assert "lacks the function TF_GetStream" in warning
    assert re.search(r"TensorFlow \d+\.\d+\.\d+ lacks", warning)
    assert "Install TensorFlow 2.18 or newer" in warning


# A TensorFlow built with CUDA registers GPU kernels before any plugin is loaded.
STOCK_KERNEL = r"""
#include "tensorflow/c/kernels.h"
extern "C" {
static void compute(void*, TF_OpKernelContext*) {}
__attribute__((constructor)) static void add() {
  auto* status = TF_NewStatus();
  auto* builder = TF_NewKernelBuilder("MatMul", "GPU", nullptr, compute, nullptr);
  TF_RegisterKernelBuilder("StockMatMul", builder, status);
  TF_DeleteStatus(status);
}
}
"""


@pytest.fixture(scope="module")
def stock_kernel(run_python, tmp_path_factory):
    flags = run_python(
        "from tensorflow import sysconfig as c\n"
        "print(*c.get_compile_flags(), *c.get_link_flags(), sep='\\n')",
        env={"TF_PLUGGABLE_DEVICE_LIBRARY_PATH": None},
    ).stdout.splitlines()
    return compile_library(
        tmp_path_factory.mktemp("stock"), "libstock.so", STOCK_KERNEL, "-std=c++17", *flags
    )


def loading_later(library, stock):
    """REPORT, but with stock GPU kernels present when the plugin comes."""
    load = f"""
import ctypes
import tensorflow
from tensorflow.python.framework import load_library
ctypes.CDLL({str(stock)!r})
load_library.load_pluggable_device_library({str(library)!r})
"""
    return load + REPORT


def test_declines_beside_stock_gpu_kernels(run_python, library, stock_kernel):
    answer = report(
        run_python, loading_later(library, stock_kernel), TF_PLUGGABLE_DEVICE_LIBRARY_PATH=None
    )
    assert_declined(
        answer, "kernels of its own for devices of type GPU", "TF_METAL_DEVICE_TYPE=METAL"
    )


def test_serves_as_metal_beside_stock_gpu_kernels(run_python, library, stock_kernel):
    answer = report(
        run_python,
        loading_later(library, stock_kernel),
        TF_PLUGGABLE_DEVICE_LIBRARY_PATH=None,
        TF_METAL_DEVICE_TYPE="METAL",
    )
    assert answer["gpus"] == ["/physical_device:METAL:0"]
    assert answer["warnings"] == []


def test_declines_beside_another_metal_plugin(run_python, tmp_path):
    other = compile_library(tmp_path, "libmetal_plugin.so", "")
    code = f"import ctypes\nctypes.CDLL({str(other)!r})\n" + REPORT
    answer = report(run_python, code)
    assert_declined(answer, str(other), "pip uninstall tensorflow-metal")


@pytest.mark.parametrize("reverse", [False, True], ids=["other_first", "ours_first"])
def test_declines_beside_installed_tensorflow_metal(run_python, library, tmp_path, reverse):
    """Both in site-packages/tensorflow-plugins, as pip installs them. TensorFlow opens all of that
    folder before it initialises the first, so ours sees the other one in either order."""
    plugins = tmp_path / "site-packages" / "tensorflow-plugins"
    plugins.mkdir(parents=True)
    other = compile_library(tmp_path, f"libmetal_plugin{library.suffix}", "")
    other.rename(plugins / other.name)
    shutil.copy(library, plugins)
    code = f"""
import os, sys
listdir = os.listdir
os.listdir = lambda path=".": sorted(listdir(path), reverse={reverse})
sys.path.append({str(plugins.parent)!r})
{REPORT}
import tensorflow_metal_py.__main__
sys.exit(tensorflow_metal_py.__main__.main(["doctor"]))
"""
    result = run_python(code, env={"TF_PLUGGABLE_DEVICE_LIBRARY_PATH": None})
    assert (
        len(re.findall("offers no GPU, because another Metal plugin is loaded", result.stderr)) == 1
    )
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("device ")]
    assert f"none: another Metal plugin is loaded: {plugins / other.name}" in line
    assert "pip uninstall tensorflow-metal" in line


@pytest.mark.parametrize("make", [shutil.copy, os.symlink], ids=["copy", "symlink"])
def test_second_copy_declines(run_python, library, tmp_path, make):
    for name in ("libfirst.so", "libsecond.so", "libthird.so"):
        make(library, tmp_path / name)
    answer = report(run_python, TF_PLUGGABLE_DEVICE_LIBRARY_PATH=str(tmp_path))
    assert answer["gpus"] == ["/physical_device:GPU:0"]
    assert answer["status"]["active"] and answer["devices"] == 1
    # The copy that serves says that it has no variable shim beside it.
    declined = [warning for warning in answer["warnings"] if "offers no GPU" in warning]
    assert len(declined) == 2
    for warning in declined:
        assert "it is loaded already from" in warning and "Remove one" in warning


def test_marker_of_another_process_does_not_count(run_python):
    """The marker is inherited by child processes, and survives exec with the same process id."""
    code = f"""
import os, sys
import tensorflow
os.execv(sys.executable, [sys.executable, "-c", {REPORT!r}])
"""
    answer = report(run_python, code)
    assert answer["gpus"] == ["/physical_device:GPU:0"]
    assert answer["warnings"] == []


def test_profiler_and_graphs_work_without_device(run_python, tmp_path):
    """What a declining plugin registers is harmless when TensorFlow calls it."""
    code = f"""
import tensorflow as tf
@tf.function
def f(x):
    for _ in range(5):
        x = tf.tanh(x) + 1.0
    return x
tf.profiler.experimental.start({str(tmp_path)!r})
assert f(tf.ones([3])).shape == [3]
tf.profiler.experimental.stop()
"""
    run_python(code, env={"TF_METAL_DISABLE": "1"})


# ---- the symbol table ---------------------------------------------------------------------------

EXPORTS = {"SE_InitPlugin", "TF_InitKernel", "TF_InitGraph", "TF_InitProfiler"}
# What must not be needed of anybody: TensorFlow, its libraries, the Python in the process.
FOREIGN = re.compile(
    r"^(TF_|TFE_|TP_|SE_|SP_|Py|_Py)|tensorflow|absl|google|protobuf|tsl\d|xla\d|Eigen"
)


def symbols(library, *flags):
    nm = subprocess.run(["nm", "-D", *flags, library], capture_output=True, text=True, check=True)
    rows = [line.split() for line in nm.stdout.splitlines()]
    return {row[-1].split("@")[0] for row in rows if row[-2] != "w"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF; the macOS dylib is read elsewhere")
def test_exports_are_the_entry_points(library):
    assert symbols(library, "--defined-only") == EXPORTS


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF; the macOS dylib is read elsewhere")
def test_needs_the_c_and_cpp_runtime_only(library):
    undefined = symbols(library, "--undefined-only")
    assert undefined, "nm printed nothing"
    assert not {name for name in undefined if FOREIGN.search(name)}
    dynamic = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True)
    needed = set(re.findall(r"NEEDED.*\[([^\]]+?)\.so", dynamic.stdout))
    assert needed <= {
        "libstdc++",
        "libm",
        "libgcc_s",
        "libc",
        "ld-linux-x86-64",
        "libpthread",
        "libdl",
    }
