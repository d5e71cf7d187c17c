"""The ops on each macOS that makes a difference: its simulation lacks what is newer.

`make test-macos-versions` runs one case for each op on both ends, and all cases on the oldest.
"""

import json

import pytest

from tests.conftest import ROOT

# The oldest that is served, and the newest that the catalogue knows. 15.0, where offsets into
# buffers and math modes begin, is what all other tests simulate.
VERSIONS = ["14.0", "26.0"]

# Ops whose method of MPSGraph is newer than the oldest; nothing but the remapper makes them.
NEWER = {"_MetalAttention": "15.0"}

_REGISTERED = """
import json
from tests import spine
import tensorflow_metal_py as metal
print(json.dumps([metal.devices()[0].macos, spine.registered()]))
"""


_TESTS = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"


@pytest.fixture
def op_tests(run_python):
    """op_tests(macos, *arguments, timeout=seconds): tests/test_ops.py on that macOS."""

    def run(macos, *arguments, timeout, chaos="0"):
        env = {"TF_METAL_HOST_MACOS": macos, "TF_METAL_HOST_CHAOS": chaos}
        tests = ["-q", str(ROOT / "tests/test_ops.py"), *arguments]
        run_python(_TESTS, env=env, arguments=tests, timeout=timeout)

    return run


@pytest.mark.macos_versions
@pytest.mark.parametrize("macos", VERSIONS)
def test_an_op_of_each_kind(op_tests, macos):
    """With chaos, in which pipelines allow 256 threads instead of 1,024 as well."""
    op_tests(macos, "--sample", "-k", "test_value", timeout=240, chaos="1")


@pytest.mark.macos_versions
def test_all_ops_on_the_oldest(op_tests):
    """What the plugin asks the version for began with 15.0, so the newest is no other case."""
    op_tests("14.0", "-n", "2", "--dist", "worksteal", "-k", "test_value", timeout=2400)


def test_every_version_registers_the_same(run_python):
    """TensorFlow's ops are there for all, the oldest included."""
    found = []
    for macos in [*VERSIONS, "15.0"]:
        said = run_python(_REGISTERED, env={"TF_METAL_HOST_MACOS": macos}).stdout
        version, ops = json.loads(said.splitlines()[-1])
        assert version == macos
        newer = {op for op, first in NEWER.items() if float(version) >= float(first)}
        assert newer == set(ops) & set(NEWER)
        found.append(sorted(set(ops) - newer))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 300
