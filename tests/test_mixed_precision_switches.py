"""Automatic mixed precision: the classes of ops, the switches, and models that train with it."""

import collections
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels, op_def_registry

import tensorflow_metal_py as metal
from tensorflow_metal_py import _runtime, mixed_precision
from tests import rewriting, spine, training
from tests.reduced_graphs import DTYPES, GPU, SETTING, TOLERANCE, W2, Rewritten, W, X, layers

both = pytest.mark.parametrize("dtype", DTYPES)
LISTS = "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_"


# --- classes -------------------------------------------------------------------------------------


def classes():
    return _runtime.call("precision_classes")


def takes(op, dtype):
    """Whether a kernel of ours or TensorFlow's takes the type, on our device."""
    for kernel in kernels.get_registered_kernels_for_op(op).kernel:
        if kernel.device_type not in ("DEFAULT", spine.device_type()):
            continue
        allowed = [set(c.allowed_values.list.type) for c in kernel.constraint]
        if not allowed or any(dtype.as_datatype_enum in types for types in allowed):
            return True
    return False


def test_every_class_is_backed_by_kernels():
    for op, name in classes().items():
        definition = op_def_registry.get(op)
        assert definition, f"TensorFlow has no op {op}"
        types = [
            a.allowed_values.list.type for a in definition.attr if a.type in ("type", "list(type)")
        ]
        for dtype in DTYPES:
            number = tf.as_dtype(dtype).as_datatype_enum
            is_allowed = any(not allowed or number in allowed for allowed in types)
            if name != "deny" and is_allowed:  # BlockLSTM and its kin know no bfloat16
                assert takes(op, tf.as_dtype(dtype)), f"{op} ({name}) has no kernel for {dtype}"


# What TensorFlow's lists do not name, or name otherwise, and why ours do.
OURS = {
    "allow": {
        "BatchMatMulV3",  # the same as V2
        "_MetalAttention",  # of two products, with a softmax in float32
        "_MetalRnn", "_MetalRnnGrad",  # as CudnnRNN and its gradient
    },
    "infer": {
        "Div", "DivNoNan", "MulNoNan",  # as RealDiv and Mul
        "FusedBatchNorm", "FusedBatchNormGrad",  # their types do not change: float32 only
    },
    "clear": {
        # Movement and choice, as their relatives on the list.
        "DeepCopy", "Diag", "DiagPart", "ExtractImagePatches",
        "ExtractVolumePatches", "MatrixBandPart", "MatrixDiag", "MatrixDiagPart",
        "MatrixDiagPartV2", "MatrixDiagPartV3", "MatrixDiagV2", "MatrixDiagV3", "MatrixSetDiag",
        "MatrixSetDiagV2", "MatrixSetDiagV3", "MaxPoolGradGradWithArgmax", "MaxPoolGradWithArgmax",
        "MaxPoolWithArgmax", "Rint", "Roll",
        # Make the lists that the others on the list handle.
        "EmptyTensorList", "TensorListReserve",
    },
    "deny": {  # on none of TensorFlow's lists: so never converted there either
        "AdjustContrastv2", "Cholesky", "CholeskyGrad", "Digamma", "Erfinv", "Igamma", "Igammac",
        "LRN", "LRNGrad", "Lgamma", "LogMatrixDeterminant", "Lu", "MatrixDeterminant",
        "MatrixInverse", "MatrixSolve", "MatrixTriangularSolve", "Ndtri", "Qr",
        "SelfAdjointEigV2", "Svd", "TridiagonalMatMul", "TridiagonalSolve",
    },
}  # fmt: skip


def test_classes_are_those_of_tensorflow():
    header = pathlib.Path(tf.sysconfig.get_include())
    text = (header / "tensorflow/core/grappler/optimizers/auto_mixed_precision_lists.h").read_text()
    ours = collections.defaultdict(set)
    for op, name in classes().items():
        ours[name].add(op)
    fp16 = text[: text.index("class AutoMixedPrecisionListsMkl")]
    starts = {
        n: fp16.index(f"{n.capitalize()}List() override")
        for n in ("allow", "infer", "deny", "clear")
    }
    ordered = sorted(starts, key=starts.get)
    for name, following in zip(ordered, [*ordered[1:], None], strict=True):
        end = starts[following] if following else len(fp16)
        theirs = set(re.findall(r'"([A-Z_]\w*)"', fp16[starts[name] : end]))
        if name == "clear":
            theirs |= set(re.findall(r'"(TensorList\w*)"', text))
        if name == "infer":
            theirs -= {"Rsqrt", "Square", "SquaredDifference"}  # of oneDNN
        assert ours[name] - theirs == OURS[name] & (ours[name] - theirs), ours[name] - theirs
        assert OURS[name] <= ours[name]
        mine = {row["op"] for row in _runtime.call("ops")}
        missing = (theirs & mine) - ours[name]
        assert not missing, f"{name}: {missing}"


def test_lists_can_be_changed():
    def function(x, w):
        y = tf.matmul(x, w)
        return tf.matmul(tf.exp(tf.nn.relu(y)), w)

    small = 0.1 * W
    assert Rewritten(function, X, small).all("Exp", "float32")
    added = Rewritten(function, X, small, **{LISTS + "INFERLIST_ADD": "Exp"})
    assert added.check(TOLERANCE["float16"]).all("Exp", "float16")
    removed = Rewritten(function, X, small, **{LISTS + "ALLOWLIST_REMOVE": "MatMul,Conv2D"})
    assert removed.calls[0].unchanged
    denied = Rewritten(function, X, small, **{LISTS + "DENYLIST_ADD": "MatMul"})
    assert denied.calls[0].unchanged
    with rewriting.environment(
        **{LISTS + "CLEARLIST_ADD": "Exp", LISTS + "CLEARLIST_REMOVE": "Relu"}
    ):
        assert classes()["Exp"] == "clear" and "Relu" not in classes()
    with rewriting.environment(**{LISTS + "ALLOWLIST_ADD": "NoSuchOp"}):
        assert "NoSuchOp" not in classes()


def test_levels():
    def function(x, w):
        return tf.matmul(tf.tanh(tf.matmul(x, w)), w) + tf.exp(x)

    level = LISTS + "LEVEL"
    assert Rewritten(function, X, W).all("Tanh", "float16")
    denied = Rewritten(function, X, W, **{level: "TREAT_INFER_AS_DENY"})
    assert denied.all("Tanh", "float32") and denied.all("MatMul", "float16")
    only = Rewritten(function, X, W, **{level: "tensor_cores_only"})
    assert only.all("Tanh", "float32") and only.all("MatMul", "float16")
    forced = Rewritten(function, X, W, **{level: "UNSAFE_FORCE_ALL"})
    for op in ("Exp", "Tanh", "AddV2", "MatMul"):
        assert forced.all(op, "float16")


# --- switches ------------------------------------------------------------------------------------


@pytest.fixture
def restored(monkeypatch):
    """The environment, as it was, after the test."""
    for name in (SETTING, "TF_METAL_STOCK_MIXED_PRECISION"):
        monkeypatch.setenv(name, "")


def converts():
    with tf.device(GPU):
        before = metal.stats()["nodes_converted"]
        tf.function(lambda x, w, w2: layers(x, w, w2), autograph=False)(X, W, W2)
    return metal.stats()["nodes_converted"] - before


def test_python_switch(restored):
    assert mixed_precision.graph_rewrite() is None and not converts()
    mixed_precision.set_graph_rewrite("bfloat16")
    assert mixed_precision.graph_rewrite() == "bfloat16" and converts() == 5
    mixed_precision.set_graph_rewrite(None)
    assert mixed_precision.graph_rewrite() is None and not converts()
    with pytest.raises(ValueError, match="float64"):
        mixed_precision.set_graph_rewrite("float64")


def test_switch_of_tensorflow(restored):
    try:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision": True})
        assert mixed_precision.graph_rewrite() == "float16" and converts()
        mixed_precision.set_graph_rewrite(None)  # ours goes first
        assert not converts()
    finally:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision": False})
    assert mixed_precision.graph_rewrite() is None and not converts()


# --- models --------------------------------------------------------------------------------------

STEPS = 6


@pytest.mark.slow
@both
@pytest.mark.parametrize("name", ["mlp", "cnn", "small_lstm", "small_transformer"])
def test_models_train(name, dtype):
    """Each loss is near float32's, relative to the first; gradients of float16 without scaling."""
    with rewriting.environment(**{SETTING: "off"}):
        plain = training.losses(name, GPU, "float32", STEPS, learning_rate=1e-3)
    before = metal.stats()["nodes_converted"]
    with rewriting.environment(**{SETTING: dtype}):
        mixed = training.losses(name, GPU, "float32", STEPS, learning_rate=1e-3)
    assert metal.stats()["nodes_converted"] - before >= 5
    assert mixed != plain
    np.testing.assert_allclose(mixed, plain, rtol=0, atol=2 * TOLERANCE[dtype] * plain[0])


def test_loss_scaling_of_keras(restored):
    import keras

    mixed_precision.set_graph_rewrite("float16")
    keras.utils.set_random_seed(0)
    with tf.device(GPU):
        model = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-2))
        model.compile(optimizer, "mse")
        losses = [model.train_on_batch(X, X[:, :1]) for _ in range(10)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
