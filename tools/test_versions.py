"""Runs the tests with one built library in every TensorFlow that it is for, and prints a table.

    tools/test_versions.py --library build/libtensorflow_metal_py.so
    tools/test_versions.py --versions 2.18,2.23 -- tests/test_shim.py -k scatter

Each TensorFlow lives in a virtual environment under --venvs, made on first use (about 1.5 GB each,
from PyPI). Shims are built next to the library. What follows -- goes to pytest.
"""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHIM_SOURCES = (ROOT / "plugin" / "variables" / "shim" / "shim.cc", ROOT / "tools/build_shim.py")
EXTENSION = ".dylib" if sys.platform == "darwin" else ".so"

_LIBRARY = flags.DEFINE_string(
    "library",
    str(ROOT / "build" / f"libtensorflow_metal_py{EXTENSION}"),
    "The plugin to test.",
)
_VENVS = flags.DEFINE_string(
    "venvs", str(ROOT / ".cache" / "venvs"), "Where the virtual environments are."
)
_VERSIONS = flags.DEFINE_list("versions", [], "Rows to run, e.g. 2.18,2.21; all when empty.")
_PYTHON = flags.DEFINE_string(
    "python", sys.executable, "Python for new environments, 3.10 to 3.12."
)
_JOBS = flags.DEFINE_integer("jobs", os.cpu_count(), "Processes that run tests.", lower_bound=1)
_REFRESH = flags.DEFINE_boolean("refresh", False, "Make the environments of the nightlies anew.")
_INSTALL_ONLY = flags.DEFINE_boolean("install_only", False, "Make the environments, run nothing.")


@dataclasses.dataclass(frozen=True)
class Row:
    """A TensorFlow to test with; its own requirements choose keras and numpy.

    `tf_keras` (Keras 2) asks for a distribution called tensorflow, so it goes in without its
    requirements.
    """

    name: str
    requirement: str
    tf_keras: str
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    nightly: bool = False


CPU = "tensorflow-cpu" if sys.platform == "linux" else "tensorflow"
MATRIX = (
    Row("2.18", f"{CPU}==2.18.1", "tf_keras==2.18.0"),
    Row("2.19", f"{CPU}==2.19.1", "tf_keras==2.19.0"),
    Row("2.20", f"{CPU}==2.20.0", "tf_keras==2.20.1"),
    Row("2.21", f"{CPU}==2.21.0", "tf_keras==2.21.0"),
    Row(
        "2.22",
        "tf-nightly-cpu>=2.22.0.dev0,<2.23.0.dev0",
        "tf-keras-nightly>=2.22.0.dev0,<2.23.0.dev0",
        nightly=True,
    ),
    # For Linux there is only a CUDA build, whose own kernels claim the type GPU.
    Row(
        "2.23",
        "tf-nightly>=2.23.0.dev0",
        "tf-keras-nightly>=2.23.0.dev0",
        {"TF_METAL_DEVICE_TYPE": "METAL", "CUDA_VISIBLE_DEVICES": ""},
        nightly=True,
    ),
)
TEST_REQUIREMENTS = ("pytest", "pytest-xdist")

# Prints one line of JSON. The size of TensorFlow's own struct is in a log line of the plugin.
PROBE = """
import json, tensorflow as tf, tensorflow_metal_py
print("PROBE " + json.dumps({"tensorflow": tf.__version__,
      "devices": [d.name for d in tf.config.list_physical_devices() if d.device_type != "CPU"],
      **tensorflow_metal_py.variable_mode()}))
"""


@dataclasses.dataclass
class Outcome:
    """A line of the table."""

    tensorflow: str = "?"
    struct_bytes: str = "?"
    variables: str = "?"
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    problem: str = ""

    @property
    def good(self) -> bool:
        return not self.problem and not self.failed and self.passed > 0


def say(message: str) -> None:
    print(message, flush=True)


def make_venv(row: Row) -> pathlib.Path:
    """The Python of the row's environment; installs it unless a finished one is there."""
    folder = pathlib.Path(_VENVS.value) / row.name
    python = folder / "bin" / "python"
    complete = folder / ".complete"
    wanted = "\n".join([row.requirement, row.tf_keras, *TEST_REQUIREMENTS])
    finished = complete.exists() and complete.read_text() == wanted
    if not finished or (_REFRESH.value and row.nightly):
        say(f"  installing {row.requirement} into {folder}")
        subprocess.run([_PYTHON.value, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, row.requirement, *TEST_REQUIREMENTS], check=True)
        subprocess.run([*pip, "--no-deps", row.tf_keras], check=True)
        complete.write_text(wanted)
    return python


def tensorflow_folder(python: pathlib.Path) -> pathlib.Path:
    code = (
        "import importlib.util as u; print(u.find_spec('tensorflow').submodule_search_locations[0])"
    )
    out = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return pathlib.Path(out.stdout.strip())


def build_shim(row: Row, python: pathlib.Path, library: pathlib.Path) -> None:
    """Builds the shim of this TensorFlow next to the library, unless it is there and newer."""
    shim = library.parent / "_shims" / f"libvariables-{row.name}{EXTENSION}"
    newest = max(source.stat().st_mtime for source in SHIM_SOURCES)
    if shim.exists() and shim.stat().st_mtime > newest and not row.nightly:
        return
    command = [python, ROOT / "tools" / "build_shim.py", "--out", shim.parent]
    subprocess.run([*command, "--python-tf", tensorflow_folder(python)], check=True)


def environment(row: Row, library: pathlib.Path) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TF_METAL_")}
    return {
        **inherited,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_PLUGGABLE_DEVICE_LIBRARY_PATH": str(library),
        "TFMETAL_BUILD": str(library.parent),
        "PYTHONPATH": str(ROOT),
        **row.environment,
    }


def probe(row: Row, python: pathlib.Path, library: pathlib.Path, outcome: Outcome) -> None:
    env = {**environment(row, library), "TF_METAL_LOG": "1"}
    done = subprocess.run([python, "-c", PROBE], env=env, capture_output=True, text=True)
    answer = re.search(r"^PROBE (.*)$", done.stdout, re.MULTILINE)
    if done.returncode or not answer:
        outcome.problem = f"does not load: {done.stderr.strip().splitlines()[-1:]}"
        return
    facts = json.loads(answer[1])
    outcome.tensorflow, outcome.variables = facts["tensorflow"], facts["mode"]
    if not facts["devices"]:
        outcome.problem = "no device"
    size = re.search(r"SP_StreamExecutor: (\d+) bytes", done.stderr)
    outcome.struct_bytes = size[1] if size else "?"


def run_tests(
    row: Row, python: pathlib.Path, library: pathlib.Path, selection: list[str], outcome: Outcome
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.xml"
        command = [python, "-m", "pytest", "-q", "--no-header", f"--junitxml={report}"]
        command += ["-n", str(_JOBS.value), "--dist", "worksteal", *selection]
        done = subprocess.run(command, env=environment(row, library), cwd=ROOT)
        if not report.exists():
            outcome.problem = f"pytest ended with {done.returncode}"
            return
        suite = next(xml.etree.ElementTree.parse(report).getroot().iter("testsuite"))
    count = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    outcome.failed = count["failures"] + count["errors"]
    outcome.skipped = count["skipped"]
    outcome.passed = count["tests"] - outcome.failed - outcome.skipped
    if done.returncode and not outcome.failed:
        outcome.problem = f"pytest ended with {done.returncode}"


def test_row(row: Row, library: pathlib.Path, selection: list[str]) -> Outcome:
    outcome = Outcome(tensorflow=row.name)
    try:
        python = make_venv(row)
        if _INSTALL_ONLY.value:
            return outcome
        build_shim(row, python, library)
        start = time.monotonic()
        probe(row, python, library, outcome)
        if not outcome.problem:
            run_tests(row, python, library, selection, outcome)
        outcome.seconds = time.monotonic() - start
    except subprocess.CalledProcessError as error:
        outcome.problem = f"{error.cmd[0]} failed"
    return outcome


def table(outcomes: list[Outcome]) -> str:
    head = ("TensorFlow", "struct", "variables", "passed", "failed", "skipped", "seconds", "")
    rows = [
        (
            *(o.tensorflow, o.struct_bytes, o.variables),
            *(str(o.passed), str(o.failed), str(o.skipped), f"{o.seconds:.0f}", o.problem),
        )
        for o in outcomes
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    )


def main(argv: list[str]) -> int:
    chosen = [row for row in MATRIX if not _VERSIONS.value or row.name in _VERSIONS.value]
    if not chosen or len(chosen) < len(set(_VERSIONS.value)):
        raise app.UsageError(f"--versions: choose of {', '.join(row.name for row in MATRIX)}")
    library = pathlib.Path(_LIBRARY.value).resolve()
    selection = argv[1:] or ["tests"]
    outcomes = []
    for number, row in enumerate(chosen, 1):
        say(f"[{number}/{len(chosen)}] TensorFlow {row.name}")
        outcomes.append(test_row(row, library, selection))
        if outcomes[-1].problem:
            say(f"  {outcomes[-1].problem}")
    if _INSTALL_ONLY.value:
        return int(any(o.problem for o in outcomes))
    say("\n" + table(outcomes))
    return int(not all(o.good for o in outcomes))


if __name__ == "__main__":
    app.run(main)
