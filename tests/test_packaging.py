"""One wheel for every Python: installs, serves, leaves nothing. Slow: make test-packaging.

The environment that runs the tests lends its TensorFlow to new environments of the same Python;
other Pythons get their own from PyPI. PACKAGING_PYTHONS names further interpreters.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.wheels import package_files

pytestmark = pytest.mark.packaging

ROOT = pathlib.Path(__file__).resolve().parent.parent
MINORS = ("3.10", "3.11", "3.12", "3.13")
EXTENSION = "dylib" if sys.platform == "darwin" else "so"
LIBRARY = f"tensorflow-plugins/libtensorflow_metal_py.{EXTENSION}"
BIN = pathlib.Path(sys.executable).parent
# Ours, and what would be confused with it.
NOT_LENT = ("tensorflow_metal_py", "tensorflow-plugins", "pip", "setuptools", "_", "__pycache__")

LISTS_THE_DEVICE = """
import tensorflow as tf
import tensorflow_metal_py as metal
(gpu,) = tf.config.list_physical_devices("GPU")
status = metal.status()
assert status["active"], status
assert "tensorflow-plugins" in status["library"], status
assert status["version"] == metal.__version__
with tf.device("GPU:0"):
    assert tf.identity(tf.constant([1.0, 2.0])).numpy().tolist() == [1.0, 2.0]
print("variables:", metal.variable_mode()["mode"])
"""


def run(*command, **env):
    """Runs outside the source tree, without the settings that make the build tree load."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "TF_PLUGGABLE_DEVICE_LIBRARY_PATH", "VIRTUAL_ENV")
        and not name.startswith("TF_METAL_")
    }
    # pip's isolated environments make scikit-build-core start anew each time. The same cmake and
    # ccache as make's: then the objects of make's build serve again.
    clean["PATH"] = os.pathsep.join([str(BIN), clean["PATH"]])
    if (BIN / "ccache").exists():
        clean["CMAKE_CXX_COMPILER_LAUNCHER"] = str(BIN / "ccache")
    result = subprocess.run(
        [str(part) for part in command],
        env={**clean, **env},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


def minor(python) -> str:
    return run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()


def interpreters() -> dict[str, str]:
    """Minor version -> interpreter, for every Python that works here."""
    named = os.environ.get("PACKAGING_PYTHONS", "").split()
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    for path in [*named, *(shutil.which(f"python{version}") for version in MINORS)]:
        try:
            version = minor(path) if path else None
        except AssertionError:  # pyenv's shims of versions that are not selected
            continue
        if version in MINORS:
            found.setdefault(version, path)
    return found


INTERPRETERS = interpreters()
OWN = next(iter(INTERPRETERS))


class Environment:
    """A virtual environment with TensorFlow and without the plugin."""

    def __init__(self, folder: pathlib.Path, version: str):
        run(INTERPRETERS[version], "-m", "venv", folder)
        self.python = folder / "bin" / "python"
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.site = pathlib.Path(run(self.python, "-c", code).strip())
        if version == OWN:
            self.borrow(pathlib.Path(run(sys.executable, "-c", code).strip()))
        else:
            requirements = (ROOT / "requirements.txt").read_text().splitlines()
            tensorflow = [line for line in requirements if line.startswith(("tensorflow", "keras"))]
            self.pip("install", *tensorflow)

    def borrow(self, lender: pathlib.Path) -> None:
        for entry in lender.iterdir():
            if not entry.name.startswith(NOT_LENT) and not (self.site / entry.name).exists():
                (self.site / entry.name).symlink_to(entry)

    def pip(self, *arguments) -> str:
        return run(self.python, "-m", "pip", "--disable-pip-version-check", *arguments)

    def files(self) -> set[str]:
        """What is installed; links are not followed, and what Python compiled does not count."""
        return {
            str(path.relative_to(self.site))
            for path in self.site.rglob("*")
            if "__pycache__" not in path.parts
        }


@pytest.fixture(scope="module")
def environments(tmp_path_factory):
    made = {}

    def environment(version):
        if version not in made:
            made[version] = Environment(tmp_path_factory.mktemp(f"python{version}"), version)
        return made[version]

    return environment


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", ROOT, "--no-deps", "--wheel-dir", folder)
    (built,) = folder.glob("*.whl")
    return built


def test_tag_is_for_every_python(wheel):
    name, _, python, abi, platform = wheel.stem.split("-")
    assert (name, python, abi) == ("tensorflow_metal_py", "py3", "none")
    assert platform != "any"


def test_contents(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    folder = {name for name in names if name.startswith("tensorflow-plugins/")}
    plugins = [name for name in folder if name.endswith(EXTENSION)]
    assert plugins == [LIBRARY], "TensorFlow loads every library in that folder"
    assert {pathlib.Path(name).suffix for name in folder} <= {f".{EXTENSION}", ".metallib"}
    shims = [name for name in names if name.startswith("tensorflow_metal_py/_shims/")]
    assert shims == [f"tensorflow_metal_py/_shims/libvariables-2.21.{EXTENSION}"]
    package = {n for n in names if n.startswith("tensorflow_metal_py/")} - set(shims)
    assert package == package_files()
    rest = set(names) - folder - package - set(shims)
    assert all(".dist-info/" in name for name in rest), rest


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        lines = archive.read(name).decode().splitlines()
    required = {line.split(": ")[1] for line in lines if line.startswith("Requires-Dist: ")}
    assert required == {"numpy", "absl-py"}
    assert "Requires-Python: >=3.10" in lines
    assert "License-Expression: Apache-2.0" in lines


def assert_serves(environment):
    result = run(environment.python, "-c", LISTS_THE_DEVICE)
    assert "variables: shim" in result


@pytest.mark.parametrize("version", INTERPRETERS)
def test_wheel_serves_and_leaves_nothing(environments, wheel, version):
    environment = environments(version)
    before = environment.files()
    environment.pip("install", "--no-deps", wheel)
    assert (environment.site / LIBRARY).exists()
    assert_serves(environment)
    environment.pip("uninstall", "--yes", "tensorflow-metal-py")
    assert environment.files() == before


@pytest.mark.parametrize("mode", [[], ["--editable"]], ids=["plain", "editable"])
def test_install_from_source(environments, mode):
    environment = environments(OWN)
    before = environment.files()
    environment.pip("install", *mode, ROOT)
    assert_serves(environment)
    if mode:
        code = "import tensorflow_metal_py as m; print(m.__file__)"
        assert run(environment.python, "-c", code).strip().startswith(str(ROOT))
    environment.pip("uninstall", "--yes", "tensorflow-metal-py")
    assert environment.files() == before
