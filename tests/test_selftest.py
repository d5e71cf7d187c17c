"""`python -m tensorflow_metal_py selftest`: finds what is wrong, and that is not used then."""

import dataclasses
import functools
import json
import re
import sys
import textwrap
import types

import numpy as np
import pytest
import tensorflow as tf

from tensorflow_metal_py import _runtime
from tensorflow_metal_py.selftest import (
    audit,
    cases,
    golden,
    properties,
    quarantine,
    questions,
    replay,
    report,
    supervisor,
)
from tensorflow_metal_py.selftest.worker import Order
from tests import fusion_cases, spine
from tests.conftest import ROOT

MAIN = """
import sys
from tensorflow_metal_py.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
# The shader of Cumsum, and the op.
WRONG = {"TF_METAL_HOST_WRONG": "scan_write_float"}
PLANTED = {"op": "Cumsum", "dtype": "float32"}


@functools.cache
def recorded():
    return golden.read()


# ---- the recorded vectors -----------------------------------------------------------------------


def test_every_registered_op_and_type_has_a_vector_or_a_property():
    recorded_types = {(v.case.op, v.dtype) for v in recorded().ops}
    with_property = {(op, d) for op, (_, dtypes) in properties.PROPERTIES.items() for d in dtypes}
    assert not recorded_types & with_property
    registered = set()
    for row in spine.table():
        first = next(iter(row["types"].values()), ["bool"])
        registered |= {(row["op"], dtype) for dtype in first}
    missing = registered - recorded_types - with_property
    assert not missing, f"make selftest-vectors: {sorted(missing)} are not recorded"
    assert not with_property - registered


def test_every_fusion_is_recorded_in_every_type():
    patterns = {row["name"] for row in _runtime.call("patterns")["patterns"]}
    have = {(v.pattern, v.dtype) for v in recorded().fusions}
    # The pattern "cast" joins types; its cases are named by the first.
    wanted = {(p, d) for p in patterns for d in cases.FLOATS if p != "cast" or d == "float32"}
    assert have == wanted, "make selftest-vectors"
    assert {c.name for c in fusion_cases.CASES} <= {v.name for v in recorded().fusions}


def test_every_method_in_use_is_recorded():
    assert recorded().methods == _runtime.call("methods_in_use"), "make selftest-vectors"


def test_every_shader_is_recorded():
    assert recorded().shaders == _runtime.call("shaders"), "make selftest-vectors"


def test_inputs_are_those_that_were_recorded():
    """Of every 50th vector: the generators of numbers have not changed."""
    for vector in recorded().ops[::50]:
        inputs = cases.inputs_of(vector.case, vector.special, vector.seed)
        assert golden.checksum(inputs) == vector.checksum, "make selftest-vectors"


def test_the_file_is_small():
    assert golden.PATH.stat().st_size < 3 << 20  # of a wheel of about as much


def test_vectors_survive_writing(tmp_path):
    some = dataclasses.replace(recorded(), ops=recorded().ops[:40], fusions=recorded().fusions[:2])
    golden.write(some, tmp_path / "some.npz")
    again = golden.read(tmp_path / "some.npz")
    assert again.methods == some.methods
    for a, b in zip(again.ops, some.ops, strict=True):
        assert (a.case, a.dtype, a.seed, a.checksum) == (b.case, b.dtype, b.seed, b.checksum)
        for x, y in zip(a.outputs, b.outputs, strict=True):
            assert x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
    for a, b in zip(again.fusions, some.fusions, strict=True):
        assert a.graph == b.graph and a.fetches == b.fetches and list(a.feeds) == list(b.feeds)


# ---- what counts as wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "actual, expected, ok",
    [
        ([1.0, 2.0], [1.0, 2.0000001], True),
        ([1.0, 2.0], [1.0, 2.001], False),
        ([1.0, np.nan], [1.0, np.nan], True),
        ([1.0, np.nan], [1.0, 3.0], False),
        ([np.inf, 1.0], [np.inf, 1.0], True),
        ([np.inf, 1.0], [-np.inf, 1.0], False),
        ([1.0, 2.0], [1.0, np.inf], False),
    ],
)
def test_compare(actual, expected, ok):
    result = replay.compare([np.float32(actual)], [np.float32(expected)], 1e-6, 1e-6)
    assert result.ok == ok, result
    assert bool(result.detail) != ok


def test_compare_integers_shapes_and_types():
    one = np.array([1], np.int64)
    assert replay.compare([one], [one], 1, 1).ok
    assert not replay.compare([one + 1], [one], 1, 1).ok
    assert not replay.compare([one], [one.astype(np.int32)], 1, 1).ok
    assert not replay.compare([one], [one.reshape(1, 1)], 1, 1).ok
    assert not replay.compare([one], [], 1, 1).ok


@pytest.mark.parametrize(
    "apple, ours",
    [
        ("@40@0:8Q16{MTLSize=QQQ}24", "@@:Q{MTLSize=QQQ}"),
        ("v24@0:8@?16", "v@:@"),
        ("@32@0:8r^v16Q24", "@@:^vQ"),
        ('@32@0:8@"NSString"16^@24', "@@:@^v"),
        ("r*16@0:8", "*@:"),
    ],
)
def test_encodings_that_mean_the_same(apple, ours):
    assert audit.normalize(apple) == audit.normalize(ours)


@pytest.mark.parametrize("apple", ["@32@0:8f16@24", "@24@0:8@16", "v32@0:8d16@24"])
def test_encodings_that_differ(apple):
    assert audit.normalize(apple) != audit.normalize("@@:d@")


def test_audit_finds_what_is_not_there():
    rows = [["MPSGraph", "-", "frobnicateWithTensor:name:", "@@:@@", 1200]]
    assert "is missing" in audit.audit_class(rows, 1500).detail
    assert audit.audit_class(rows, 1100).ok  # it would be newer than this macOS
    rows = [["MPSGraph", "-", "exponentWithTensor:name:", "@@:@d", 1200]]
    assert "has the types" in audit.audit_class(rows, 1500).detail


# ---- workers that end ---------------------------------------------------------------------------

WORKER = """
import json, os, sys, time
order = json.loads(sys.argv[1])
say = lambda **line: print(json.dumps(line), flush=True)
say(machine={"active": True})
say(total=4)
for i in range(order["done"], 4):
    say(begin=f"ops/{i}", group="Op(float32)", quarantine={"op": f"Op{i}", "dtype": "float32"})
    if i == 1:
        print("Assertion failed: no such thing", file=sys.stderr, flush=True)
        os.abort()
    if i == 2:
        time.sleep(1000)
    ok = i != 3
    banned = {} if ok else {"op": "Op3", "dtype": "float32"}
    say(result={"ok": ok, "detail": "", "error": 0.5, "of_tolerance": 0.1, "quarantine": banned})
say(end=True)
"""


def test_worker_that_dies_and_one_that_hangs(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    seen = []
    run = supervisor.run_all(
        Order(["ops"]),
        lambda done, total, name: seen.append((done, total, name)),
        command=(sys.executable, str(script)),
        patience=3,
    )
    assert run.complete and [f.result["ok"] for f in run.findings] == [True, False, False, False]
    assert "SIGABRT: Assertion failed" in run.findings[1].result["detail"]
    assert "said nothing for 3 seconds" in run.findings[2].result["detail"]
    assert seen == [(i, 4, f"ops/{i}") for i in range(4)]
    ops, fusions = quarantine.entries({"ops": [], "fusions": []}, run.findings)
    assert [row["op"] for row in ops] == ["Op1", "Op2", "Op3"] and not fusions
    assert report.errors_by_op(run.findings) == {"Op": {"float32": np.inf}}


def test_worker_that_cannot_begin(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text("import sys; sys.exit('no TensorFlow')")
    with pytest.raises(supervisor.WorkerError, match="exit status 1: no TensorFlow"):
        supervisor.run_all(Order(["ops"]), print, command=(sys.executable, str(script)))


def test_entries_of_ops_that_were_not_tested_stay():
    before = {
        "ops": [{"op": "Op0", "dtype": "float32"}, {"op": "Other", "dtype": "float16"}],
        "fusions": ["remapper/gelu"],
    }
    result = {"ok": True, "quarantine": {}}
    finding = supervisor.Finding("ops/0", "Op0(float32)", before["ops"][0], result)
    ops, fusions = quarantine.entries(before, [finding])
    assert ops == before["ops"][1:] and fusions == before["fusions"]


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def selftest(run_python):
    def run(folder, *arguments, status=0, env=None):
        environment = {"TF_METAL_QUARANTINE": str(folder), **(env or {})}
        return run_python(MAIN, environment, status, ["selftest", *map(str, arguments)])

    return run


USE = """
import numpy as np
import tensorflow as tf
from tensorflow_metal_py.selftest import golden, replay
from tests import spine

device = f"/{spine.device_type()}:0"
x = tf.constant(np.arange(1, 7, dtype=np.float32).reshape(2, 3))
with tf.device(device):
    y = tf.cumsum(x, 1)
    other = tf.cumsum(tf.cast(x, tf.float16), 1)
assert "CPU" in y.device, y.device
assert spine.device_type() in other.device, other.device  # another type is not concerned
assert y.numpy().tolist() == np.cumsum(x.numpy(), 1).tolist()

variable = tf.Variable(tf.ones((2, 3)))

@tf.function(autograph=False)
def function(x):
    y = tf.cumsum(x, 1) * 2.0
    variable.assign_sub(y)
    return tf.nn.gelu(y * 0.1) * tf.exp(tf.nn.relu(y) * 0.01), variable.read_value()

a, b = function(x)
y = np.cumsum(x.numpy(), 1) * 2
with tf.device("/CPU:0"):
    np.testing.assert_allclose(a, tf.nn.gelu(y * 0.1) * tf.exp(tf.nn.relu(y) * 0.01), rtol=1e-5)
np.testing.assert_allclose(b, 1 - y, rtol=1e-6)
vector = next(v for v in golden.read().fusions if v.pattern == "gelu")
assert not replay.fires(vector, device)
print("as it should be")
"""


def test_planted_error_is_found_and_not_used(selftest, run_python, tmp_path):
    """A wrong shader; then a fresh process, with that shader and what the file says."""
    path = tmp_path / "report.json"
    only = ("--sections=ops", "--only=ops/*Cumsum*", f"--report={path}")
    result = selftest(tmp_path / "q", *only, status=1, env=WRONG)
    assert "FAILED ops/" in result.stdout and "1 ops and 0 fusions are not used" in result.stdout
    found = json.loads(path.read_text())
    assert found["quarantine"] == {"ops": [PLANTED], "fusions": []} and not found["passed"]
    errors = found["errors"]["Cumsum"]  # null where it is infinite
    assert (errors["float32"] is None or errors["float32"] > 0.1) and errors["float16"] < 0.1
    failed = [f for f in found["findings"] if not f["ok"]]
    assert failed and all(f["group"] == "Cumsum(float32)" for f in failed)

    (file,) = (tmp_path / "q").iterdir()
    content = json.loads(file.read_text())
    assert content["ops"] == [PLANTED]
    content["ops"].append({"op": "Sub", "dtype": "float32"})
    content["fusions"].append("remapper/gelu")
    file.write_text(json.dumps(content))
    gelu = next(v for v in recorded().fusions if v.pattern == "gelu")
    assert replay.fires(gelu, f"/{spine.device_type()}:0")  # here, where nothing is quarantined
    folder = {"TF_METAL_QUARANTINE": str(tmp_path / "q")}
    used = run_python(textwrap.dedent(USE), {**folder, **WRONG})
    assert "as it should be" in used.stdout
    assert used.stderr.count("a selftest found 2 ops (by type) and 1 fusions wrong") == 1

    # Without the error it is used again; what was not tested stays as it was.
    assert selftest(tmp_path / "q", *only).returncode == 0
    left = json.loads(file.read_text())
    assert left["ops"] == content["ops"][1:] and left["fusions"] == content["fusions"]
    assert "removed" in selftest(tmp_path / "q", "--clear").stdout
    assert not file.exists()


def test_no_quarantine_writes_nothing(selftest, tmp_path):
    only = ("--sections=ops", "--only=ops/*Cumsum[[]float32*", "--noquarantine")
    selftest(tmp_path / "q", *only, status=1, env=WRONG)
    assert not (tmp_path / "q").exists()


FOREIGN = {"format": 1, "macos_build": "host-15.0", "chip": "Apple M0", "ops": [], "fusions": []}


@pytest.mark.parametrize(
    "content, reason",
    [
        ("no JSON", "JSON: expected a value"),
        (json.dumps(FOREIGN), "it is for the chip 'Apple M0'"),
        (json.dumps({**FOREIGN, "format": 7}), "its format is not 1"),
    ],
)
def test_file_that_cannot_be_used(content, reason, tmp_path):
    path = _runtime.call("quarantine", folder=str(tmp_path))["path"]
    with open(path, "w") as file:
        file.write(content)
    found = _runtime.call("quarantine", folder=str(tmp_path))
    assert found["state"] == "ignored" and reason in found["reason"]
    assert not found["ops"] and not found["fusions"]


def test_unusable_file_is_warned_of_once(run_python, tmp_path):
    path = _runtime.call("quarantine", folder=str(tmp_path))["path"]
    with open(path, "w") as file:
        file.write("{")
    result = run_python(MAIN, {"TF_METAL_QUARANTINE": str(tmp_path)}, 0, ["doctor"])
    assert result.stderr.count("is ignored: ") == 1
    assert "is ignored: " in result.stdout


@pytest.mark.parametrize(
    "arguments", [["--sections=teapots"], ["--vectors=nowhere.npz"], ["--report=/no/such/r.json"]]
)
def test_usage(arguments, capsys):
    from tensorflow_metal_py import selftest

    assert selftest.main(arguments) == 2
    said = capsys.readouterr().err
    assert arguments[0].split("=")[1] in said.splitlines()[0] and "usage:" in said
    assert len(said.splitlines()) <= 8


def test_no_device(selftest, tmp_path):
    result = selftest(tmp_path, status=2, env={"TF_METAL_HOST_GPUS": "0"})
    assert "No Metal device: " in result.stderr


def test_every_question_of_the_document_is_asked():
    """By ids of questions or how they begin ("moves-..."), or by the vectors of its ops."""
    text = (ROOT / "docs" / "mac_selftest.md").read_text()
    table = text.split("## Questions that ops depend on")[1].split("##")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    ids = {question.id for question in questions.questions()}
    asked = set()
    assert len(rows) > 15
    for *_, by in rows[2:]:
        names = re.findall(r"[a-z]\w*-[\w-]*", by)
        assert names or by.strip() == "ops"
        for name in names:
            found = {i for i in ids if i.startswith(name)}
            assert found, f"there is no question {name}"
            asked |= found
    assert not ids - asked, "not in docs/mac_selftest.md"


def test_audit_and_questions(selftest, tmp_path):
    """`make selftest` runs the other sections, too."""
    path = tmp_path / "report.json"
    selftest(tmp_path, "--sections=audit,questions", f"--report={path}")
    found = json.loads(path.read_text())
    assert found["passed"] and len(found["findings"]) > 20


def test_what_has_no_other_kernel_is_not_quarantined():
    assert quarantine.entry("ResourceScatterAdd", "float32") == {}
    cumsum = {"op": "Cumsum", "dtype": "float32"}
    assert quarantine.entry(**cumsum) == cumsum


def test_properties_hold():
    tasks = list(properties.property_tasks(f"/{spine.device_type()}:0"))
    results = {task.group: task.run() for task in tasks}
    assert all(r.ok for r in results.values()), results


@pytest.mark.parametrize(
    "op, dtype, wrong",
    [
        ("NonDeterministicInts", "int64", lambda **_: tf.range(properties.DRAWN, dtype=tf.int64)),
        (
            "ParameterizedTruncatedNormal",
            "float32",
            lambda shape, minvals, maxvals, **_: tf.transpose(
                tf.random.uniform(shape[::-1], minvals, maxvals)
            ),
        ),
    ],
)
def test_wrong_numbers_break_their_property(op, dtype, wrong, monkeypatch):
    """Numbers in order, and another distribution within the limits."""
    function, _ = properties.PROPERTIES[op]
    monkeypatch.setattr(properties, "R", types.SimpleNamespace(**{op: wrong}))
    assert not function(dtype).ok
