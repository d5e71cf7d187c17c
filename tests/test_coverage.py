"""The coverage gate: what is registered is tested, and what is tested is registered."""

import functools

import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels, op_def_library

from tensorflow_metal_py import _runtime
from tensorflow_metal_py.selftest.properties import PROPERTIES
from tests import spine
from tests.cases import all_cases


@functools.cache
def _exercised() -> set[tuple[str, str]]:
    return {(c.op, c.dtype) for c in all_cases()}


def test_every_registered_op_and_type_has_a_case():
    missing = []
    for row in spine.table():
        if row["op"] in PROPERTIES:  # nothing to compare with: test_properties
            continue
        first = next(iter(row["types"].values()), ["bool"])  # logical ops have no type attribute
        missing += [(row["op"], d) for d in first if (row["op"], d) not in _exercised()]
    assert not missing, f"registered without a case: {sorted(set(missing))}"


def test_every_case_is_of_a_registered_op():
    unknown = {op for op, _ in _exercised()} - set(spine.registered())
    assert not unknown, f"cases of ops that are not registered: {sorted(unknown)}"


def test_table_equals_tensorflow_registry():
    """What the table claims is what TensorFlow lists for the device."""
    device = spine.device_type()
    for op in spine.registered():
        listed = [
            k for k in kernels.get_registered_kernels_for_op(op).kernel if k.device_type == device
        ]
        assert listed, f"{op} is in the table, but TensorFlow has no {device} kernel for it"


def test_types_exist_in_op_definitions():
    for row in spine.table():
        known = hasattr(tf.raw_ops, row["op"]) or row["own"]
        assert known, f"{row['op']} is not an op of this TensorFlow"


def test_own_ops():
    """Ops that the plugin defines have no CPU kernel to compare with."""
    own = {row["op"] for row in spine.table() if row["own"]}
    assert own == {
        "MetalDoNothing",
        "_MetalAttention",  # tests/test_attention.py
        "_MetalBoxNumbers",
        "_MetalCluster",
        "_MetalHostLogical",
        "_MetalRnn",  # tests/test_rnn_loop_ops.py
        "_MetalRnnGrad",
        "_MetalUnboxNumbers",
    }

    @tf.function
    def function(x):
        return op_def_library.apply_op("MetalDoNothing", x=x + 1.0)

    with tf.device(f"/{spine.device_type()}:0"):
        assert function(tf.constant([1.0, 2.0])).numpy().tolist() == [2.0, 3.0]


def test_variable_kernels_are_registered_unless_streams_are_synchronous():
    """Otherwise tests/test_variables.py would find nothing to test."""
    if _runtime.call("variable_mode")["mode"] == "sync":
        pytest.skip("no variable functions in this TensorFlow, and no shim")
    assert "AssignAddVariableOp" in spine.registered()
