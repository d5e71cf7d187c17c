"""What a selftest found wrong is not used by any graph pass either."""

import functools
import json

import pytest

from tensorflow_metal_py import _runtime
from tensorflow_metal_py.selftest import quarantine
from tests import quarantined_graphs

# Function of quarantined_graphs -> ops and types that its graph has on the device, where they are
# right. A pass makes those of "variables" and "mixed_precision", the others are in the function.
BANNED = {
    "variables": ("Neg", "float32"),
    "remapper": ("Softmax", "float32"),
    "cluster": ("Tanh", "float32"),
    "mixed_precision": ("MatMul", "float16"),
}
RUN = """
import json, sys
from tensorflow_metal_py.selftest import quarantine
from tests import quarantined_graphs
print(json.dumps({name: quarantined_graphs.run(name) for name in sys.argv[1:]}))
"""
TOLERANCE = 2e-2  # of the products in 16 bits


@pytest.fixture(scope="module")
def with_banned(run_python, tmp_path_factory):
    """The functions of these names in a process in which these ops are quarantined; and its log."""

    @functools.cache
    def run(names, banned, fusions=()):
        folder = tmp_path_factory.mktemp("quarantine")
        about = _runtime.call("quarantine", folder=str(folder))
        content = {name: about[name] for name in ("format", "macos_build", "chip")}
        rows = [{"op": op, "dtype": dtype} for op, dtype in banned]
        with open(about["path"], "w") as file:
            json.dump({**content, "ops": rows, "fusions": [*fusions]}, file)
        done = run_python(RUN, {"TF_METAL_QUARANTINE": str(folder)}, 0, list(names))
        return json.loads(done.stdout.splitlines()[-1]), done.stderr

    return run


@pytest.mark.parametrize("name", BANNED)
def test_passes_make_and_keep_what_is_right(name):
    """Here, where nothing is quarantined: what the next tests miss is there."""
    error, ops = quarantined_graphs.run(name)
    assert list(BANNED[name]) in ops and error < TOLERANCE
    if name == "mixed_precision":
        assert ["Cast", "float32"] in ops


@pytest.mark.parametrize("name", BANNED)
def test_no_pass_makes_or_keeps_what_is_quarantined(name, with_banned):
    found, log = with_banned(tuple(BANNED), tuple(BANNED.values()))
    error, ops = found[name]
    assert list(BANNED[name]) not in ops and error < TOLERANCE
    assert len(ops) > 1 or name == "variables"  # the rest is where it was
    assert "was undone" not in log  # none even tried


def test_own_ops_are_banned_by_what_makes_them(with_banned):
    switches = _runtime.call("passes")
    names = {*switches, *(f"{name}/{part}" for name in switches for part in switches[name])}
    assert set(quarantine.MADE_BY.values()) <= names
    own = {row["op"] for row in _runtime.call("ops") if row["own"]}
    assert own - set(quarantine.MADE_BY) == {"MetalDoNothing"}  # measures launches, nothing more
    assert ["_MetalRnn", "float32"] in quarantined_graphs.run("rnn")[1]
    (banned,) = quarantine.entry("_MetalRnn", "float32").values()
    found, _ = with_banned(("rnn",), (), (banned,))
    error, ops = found["rnn"]
    assert error < 1e-5 and ops and not any(op == "_MetalRnn" for op, _ in ops)


def test_pass_that_makes_it_is_undone(with_banned):
    """Casts to 16 bits, without which mixed precision is nothing."""
    found, log = with_banned(("mixed_precision",), (("Cast", "float32"),))
    error, ops = found["mixed_precision"]
    assert ["MatMul", "float32"] in ops and not any(op == "Cast" for op, _ in ops)
    assert error < 1e-5
    assert log.count("Graph pass mixed_precision failed and was undone") == 1
