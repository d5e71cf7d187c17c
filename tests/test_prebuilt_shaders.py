"""The shaders' library beside the plugin: used when it is of the plugin's shaders, and only then.

The host takes Metal's magic number and the source for a compiled file.
"""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

CODE = """
import numpy as np, tensorflow as tf
x = np.arange(5, dtype=np.int32)[::-1].astype(np.float32)
with tf.device("GPU:0"):
    np.testing.assert_array_equal(tf.sort(tf.constant(x)), np.sort(x))
print("right")
"""
NAME = "tensorflow_metal_py.metallib"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The text that a Mac build compiles."""
    path = tmp_path_factory.mktemp("source") / "shaders.metal"
    shaders = sorted((ROOT / "kernels" / "msl").glob("*.metal"))
    tool = ROOT / "tools" / "embed_shaders.py"
    # By the names that the build has: they are no part of the text, but their order is.
    subprocess.run([sys.executable, tool, path, *shaders], check=True)
    return path.read_text()


@pytest.fixture
def run(run_python, library, tmp_path):
    """run(content): a program with that file beside a copy of the plugin; None: without."""

    def call(content):
        copy = tmp_path / library.name
        shutil.copy(library, copy)
        shims = pathlib.Path(library).parent / "_shims"
        if shims.exists():
            (tmp_path / "_shims").symlink_to(shims)
        if content is not None:
            (tmp_path / NAME).write_text(content)
        env = {"TF_PLUGGABLE_DEVICE_LIBRARY_PATH": str(copy), "TF_METAL_LOG": "1"}
        result = run_python(CODE, env=env)
        assert "right" in result.stdout
        return result.stderr

    return call


def test_absent(run):
    log = run(None)
    assert "shaders are compiled now" in log
    assert NAME not in log


def test_present(run, source):
    log = run("MTLB" + source)
    assert re.search(rf"shaders of \S+{NAME}", log)
    assert "compiled now" not in log


def test_of_other_shaders(run, source):
    stamp = re.findall(r"source_[0-9a-f]{16}", source)
    assert len(stamp) == 1
    log = run("MTLB" + source.replace(stamp[0], "source_0123456789abcdef"))
    assert f"{NAME} is not used: it is of other shaders" in log
    assert "shaders are compiled now" in log


def test_broken(run):
    log = run("not a library")
    assert f"{NAME} is not used: Invalid library file" in log
    assert "shaders are compiled now" in log


def test_the_stamp_follows_the_source(tmp_path):
    def stamp(text):
        shader, out = tmp_path / "a.metal", tmp_path / "out.metal"
        shader.write_text(text)
        tool = ROOT / "tools" / "embed_shaders.py"
        subprocess.run([sys.executable, tool, out, shader], check=True)
        return re.findall(r"kernel void (source_[0-9a-f]{16})\(\) \{\}", out.read_text())

    first, second = stamp("kernel void a() {}\n"), stamp("kernel void b() {}\n")
    assert len(first) == len(second) == 1
    assert first != second
