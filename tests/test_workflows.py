"""The GitHub workflows are valid, and name what is there: targets of make, files, releases."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
BIN = pathlib.Path(sys.executable).parent

sys.path.insert(0, str(ROOT / "tools"))
import build_shim  # noqa: E402

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the checkers are installed on Linux only"
)


def check(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def checkers(path: pathlib.Path) -> dict[str, list[str]]:
    schema = ["--builtin-schema", "vendor.github-workflows"]
    return {
        "actionlint": [shutil.which("actionlint", path=BIN), "-no-color", str(path)],
        "schema": [sys.executable, "-m", "check_jsonschema", *schema, str(path)],
    }


def load(path: pathlib.Path) -> dict:
    return YAML(typ="safe").load(path)


def commands(path: pathlib.Path) -> str:
    jobs = load(path)["jobs"].values()
    return "\n".join(step.get("run", "") for job in jobs for step in job["steps"])


def test_there_are_some():
    assert WORKFLOWS


@pytest.mark.parametrize("checker", ["actionlint", "schema"])
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_valid(path, checker):
    result = check(checkers(path)[checker])
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("checker", ["actionlint", "schema"])
def test_checkers_find_mistakes(tmp_path, checker):
    broken = tmp_path / "broken.yml"
    broken.write_text("on: push\njobs:\n  one:\n    runs-on: macos-14\n    step: []\n")
    assert check(checkers(broken)[checker]).returncode == 1


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_names_what_is_there(path):
    text = commands(path)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in re.findall(r"^make (.*)$", text, re.MULTILINE):
        assert set(line.split()) <= targets, line
    for file in re.findall(r"(?<![\w/.])(?:tests|tools)/[\w/]+\.py", text):
        assert (ROOT / file).exists(), file


def test_macs_run_every_release_that_needs_a_shim():
    (path,) = WORKFLOWS
    native = load(path)["jobs"]["mac"]["strategy"]["matrix"]
    versions = {*native["tensorflow"], *(row["tensorflow"] for row in native["include"])}
    assert versions >= set(build_shim.RELEASES[".dylib"])
