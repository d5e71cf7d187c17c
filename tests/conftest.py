"""Makes TensorFlow load the plugin of the build tree, and runs snippets in processes of their own.

TFMETAL_BUILD names the build folder (default: build). TFMETAL_INSTALLED=1 tests the plugin that is
installed in this environment instead.
"""

import os
import pathlib
import subprocess
import sys
import sysconfig

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / os.environ.get("TFMETAL_BUILD", "build")
LIBRARY = BUILD / ("libtensorflow_metal_py" + (".dylib" if sys.platform == "darwin" else ".so"))
INSTALLED = pathlib.Path(sysconfig.get_path("purelib")) / "tensorflow-plugins" / LIBRARY.name

# Longer than any snippet needs on a busy machine; a hang is a failure, not a wait.
TIMEOUT_SECONDS = 240


def pytest_configure(config):
    """Before any test module imports TensorFlow."""
    if os.environ.get("TFMETAL_INSTALLED"):
        return
    if INSTALLED.exists():
        raise pytest.UsageError(
            f"{INSTALLED} is installed and would be loaded instead of {LIBRARY}. Uninstall "
            "tensorflow-metal-py, or set TFMETAL_INSTALLED=1 to test what is installed."
        )
    if not LIBRARY.exists():
        raise pytest.UsageError(f"{LIBRARY} does not exist: run make build")
    os.environ["TF_PLUGGABLE_DEVICE_LIBRARY_PATH"] = str(LIBRARY)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # What a selftest on this machine has banned is tested all the same.
    os.environ["TF_METAL_QUARANTINE"] = "off"
    # The package of this tree, for subprocesses as well.
    sys.path.insert(0, str(ROOT))
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])


@pytest.fixture(scope="session")
def library() -> pathlib.Path:
    """The plugin library under test."""
    return INSTALLED if os.environ.get("TFMETAL_INSTALLED") else LIBRARY


@pytest.fixture
def on_device():
    """Ops go to the plugin's device; one whose kernel is missing fails, and is not run on the CPU.

    Whole modules use it by `pytestmark = pytest.mark.usefixtures("on_device")`.
    """
    import tensorflow as tf  # after pytest_configure

    from tests import spine

    tf.config.set_soft_device_placement(False)
    with tf.device(f"/{spine.device_type()}:0"):
        yield
    tf.config.set_soft_device_placement(True)


@pytest.fixture(scope="session")
def run_python():
    """run_python(code, env={...}): runs Python code in a fresh process.

    Variables with the value None are removed from the environment. Returns the CompletedProcess
    with text stdout and stderr; fails the test, showing both, unless the exit status is `status`.
    """

    def run(code, env=None, status=0, arguments=(), timeout=TIMEOUT_SECONDS):
        merged = {**os.environ, **(env or {})}
        environment = {name: value for name, value in merged.items() if value is not None}
        result = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert result.returncode == status, f"{result.stdout}\n{result.stderr[-4000:]}"
        return result

    return run


def pytest_addoption(parser):
    parser.addoption("--case", default="", help="op cases to run (fnmatch on the name)")
    parser.addoption("--sample", action="store_true", help="one op case for each op")
