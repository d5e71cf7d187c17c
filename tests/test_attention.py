"""Attention in one call of MPSGraph: when it is, and that nothing else changes.

A fused result may differ from the unfused one by its rounding: in float32 by 4 * sqrt(K) * 2^-24 of
the largest value, for sums over K keys.
"""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

import tensorflow_metal_py as metal
from tests import spine

PATTERN = "dot_product_attention"
DEVICE = f"/{spine.device_type()}:0"
layers = tf.keras.layers
# Of the last digit, for results near 1.
ULP = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def array(shape, dtype="float32", seed=0, scale=1.0):
    values = np.random.default_rng(seed).standard_normal(shape) * scale
    return tf.cast(tf.constant(values, tf.float32), dtype)


def run(body, arguments, passes, monkeypatch, device=DEVICE):
    """The result, and how often the pattern fired."""
    monkeypatch.setenv("TF_METAL_GRAPPLER", passes)
    metal.reset_stats()
    with tf.device(device):
        result = tf.function(body, autograph=False)(*arguments)
    fired = metal.stats()["fusions"].get(PATTERN, 0)
    return tf.cast(result, tf.float32).numpy(), fired


def bound(dtype, keys, wanted):
    """What rounding explains. In 16 bits the unfused graph rounds logits and weights, too."""
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-30)
    factor = 4 * math.sqrt(keys) if dtype == "float32" else 8
    return factor * ULP[dtype] * largest


def check(body, arguments, keys, monkeypatch, dtype="float32"):
    fused, fired = run(body, arguments, "all", monkeypatch)
    assert fired == 1
    unfused, fired = run(body, arguments, f"all,-remapper/{PATTERN}", monkeypatch)
    assert fired == 0
    stock, _ = run(body, arguments, "none", monkeypatch, "/CPU:0")
    for wanted in (unfused, stock):
        assert fused.shape == wanted.shape
        np.testing.assert_array_equal(np.isnan(fused), np.isnan(wanted))
        limit = bound(dtype, keys, wanted)
        np.testing.assert_allclose(fused, wanted, rtol=0, atol=limit)
    return fused


def attention(q, k, v, mask=None, scale=0.35):
    logits = tf.matmul(q, k, transpose_b=True) * tf.constant(scale, q.dtype)
    if mask is not None and mask.dtype == tf.bool:
        logits = tf.where(mask, logits, tf.cast(-3e4 if q.dtype == tf.float16 else -1e9, q.dtype))
    elif mask is not None:
        logits = logits + mask
    return tf.matmul(tf.nn.softmax(logits), v)


# ---- shapes and types ---------------------------------------------------------------------------

SHAPES = [  # batch, query rows, keys, features, width of the values
    ((), 1, 1, 1, 1),
    ((), 3, 5, 4, 2),
    ((2,), 1, 7, 8, 3),
    ((3,), 200, 1, 4, 4),
    ((2,), 65, 33, 16, 5),
    ((1, 8), 200, 131, 16, 16),
    ((2, 3), 7, 200, 5, 9),
    ((2, 1, 3), 4, 6, 3, 2),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ULP)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(shape, dtype, monkeypatch):
    batch, rows, keys, features, width = shape
    q = array((*batch, rows, features), dtype)
    k = array((*batch, keys, features), dtype, 1)
    v = array((*batch, keys, width), dtype, 2)
    check(attention, (q, k, v), keys, monkeypatch, dtype)


MASKS = [(), (1,), (6,), (5, 1), (5, 6), (1, 5, 6), (3, 1, 6), (3, 5, 6), (2, 1, 5, 6),
         (2, 1, 1, 6), (1, 3, 5, 1), (2, 3, 5, 6)]  # fmt: skip


@pytest.mark.parametrize("dtype", [tf.bool, tf.float32], ids=lambda d: d.name)
@pytest.mark.parametrize("shape", MASKS, ids=str)
def test_masks_broadcast(shape, dtype, monkeypatch):
    mask = array(shape, seed=3) > -0.3 if dtype == tf.bool else array(shape, seed=3)
    q, k, v = array((2, 3, 5, 4)), array((2, 3, 6, 4), seed=1), array((2, 3, 6, 2), seed=2)
    check(attention, (q, k, v, mask), 6, monkeypatch)


@pytest.mark.parametrize("shapes", [
    ((2, 3, 5, 4), (3, 6, 4), (6, 2), (5, 6)),
    ((5, 4), (2, 6, 4), (3, 1, 6, 2), (6,)),
    ((1, 1, 4), (2, 1, 4), (2, 6, 3), (2, 5, 6)),  # the mask makes both of the logits' axes longer
    ((2, 2, 2, 5, 4), (2, 6, 4), (1, 2, 1, 6, 2), (2, 1, 1, 5, 6)),
], ids=str)  # fmt: skip
def test_operands_broadcast(shapes, monkeypatch):
    q, k, v, mask = (array(shape, seed=i) for i, shape in enumerate(shapes))
    check(attention, (q, k, v, mask), 6, monkeypatch)


@pytest.mark.parametrize("equations", [
    ("aecd,abcd->acbe", "acbe,aecd->abcd"),
    ("BTNH,BSNH->BNTS", "BNTS,BSNH->BTNH"),
    ("qf,kf->qk", "ke,qk->eq"),
    ("bqf,kbf->bqk", "bqk,bke->qbe"),
    ("xyzf,kxyf->yxzk", "yxzk,kxye->zeyx"),
], ids=str)  # fmt: skip
def test_einsum(equations, monkeypatch):
    """Every operand and the result with their axes in another order."""
    first, second = equations
    sizes = dict(zip("abcdeqkfxyzBTSNH", itertools.cycle((2, 3, 4, 5)), strict=False))
    if "z" in first:
        sizes["e"] = 7
    (a, b), w = first.split("->")[0].split(","), first.split("->")[1]
    u, v = second.split("->")[0].split(",")
    v = u if v == w else v

    def body(x, y, z):
        p = tf.nn.softmax(tf.einsum(first, x, y) * 0.7)
        return tf.einsum(second, *((p, z) if second.startswith(w + ",") else (z, p)))

    # tf.einsum would make products of matrices of some: what it makes is not asked here.
    x, y, z = (array([sizes[c] for c in labels], seed=i) for i, labels in enumerate((a, b, v)))
    check(body, (x, y, z), sizes[w[-1]], monkeypatch)


@pytest.mark.parametrize("adjoints", list(itertools.product([False, True], repeat=4)), ids=str)
def test_adjoint_operands(adjoints, monkeypatch):
    a, b, c, swapped = adjoints

    def body(q, k, v):
        p = tf.nn.softmax(tf.matmul(q, k, transpose_a=a, transpose_b=b))
        if swapped:
            return tf.matmul(v, p, transpose_a=c, transpose_b=True)
        return tf.matmul(p, v, transpose_b=c)

    q = array((2, 4, 5) if a else (2, 5, 4))
    k = array((2, 6, 4) if b else (2, 4, 6), seed=1)
    v = array((2, 3, 6) if c != swapped else (2, 6, 3), seed=2)
    check(body, (q, k, v), 6, monkeypatch)


def test_division_and_double_products(monkeypatch):
    """What TensorFlow makes of a division, and of a scale on the query."""
    q, k, v = array((2, 5, 4)), array((2, 6, 4), seed=1), array((2, 6, 4), seed=2)

    def body(q, k, v):
        return tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / 2.0), v)

    check(body, (q, k, v), 6, monkeypatch)
    check(lambda q, k, v: attention(q * 0.3, k, v), (q, k, v), 6, monkeypatch)


@pytest.mark.parametrize("sizes", [(0, 3, 5, 4, 2), (2, 0, 5, 4, 2), (2, 3, 0, 4, 2),
                                   (2, 3, 5, 0, 2), (2, 3, 5, 4, 0)], ids=str)  # fmt: skip
def test_nothing(sizes, monkeypatch):
    """No batch, rows, keys, features, width."""
    batch, rows, keys, features, width = sizes
    q, k = array((batch, rows, features)), array((batch, keys, features), seed=1)
    v, mask = array((batch, keys, width), seed=2), array((rows, keys), seed=3) > 0
    check(attention, (q, k, v), max(keys, 1), monkeypatch)
    check(attention, (q, k, v, mask), max(keys, 1), monkeypatch)


def test_mistakes_are_those_of_the_products(monkeypatch):
    spec = tf.TensorSpec(None)
    body = tf.function(attention, input_signature=[spec] * 3, autograph=False)
    for passes in ("all", "none"):
        monkeypatch.setenv("TF_METAL_GRAPPLER", passes)
        with tf.device(DEVICE), pytest.raises(tf.errors.InvalidArgumentError):
            body(array((2, 5, 4)), array((2, 6, 3)), array((2, 6, 4)))
        with tf.device(DEVICE), pytest.raises(tf.errors.InvalidArgumentError):
            body(array((2, 5, 4)), array((2, 6, 4)), array((2, 7, 4)))


def test_shapes_that_change(monkeypatch):
    """One function of unknown shapes, ranks included."""
    monkeypatch.setenv("TF_METAL_GRAPPLER", "all")
    body = tf.function(attention, input_signature=[tf.TensorSpec(None)] * 3, autograph=False)
    for batch in ((), (2,), (2, 3)):
        q, k, v = (array((*batch, 3 + i, 4), seed=i) for i in (0, 2, 2))
        metal.reset_stats()
        with tf.device(DEVICE):
            fused = body(q, k, v).numpy()
        with tf.device("/CPU:0"):
            np.testing.assert_allclose(fused, attention(q, k, v).numpy(), rtol=0, atol=2e-6)


@pytest.mark.slow
def test_more_scores_than_can_be_numbered(monkeypatch):
    """From 2^31 on in parts; half of the keys are 0, half are 1."""
    monkeypatch.setenv("TF_METAL_GRAPPLER", "all")
    rows, keys = 2**16 + 64, 2**15
    q = tf.reshape(tf.linspace(-3.0, 3.0, rows), (rows, 1))
    k = tf.cast(tf.range(keys) % 2, tf.float32)[:, None]
    metal.reset_stats()
    with tf.device(DEVICE):
        body = tf.function(lambda q, k: attention(q, k, k + 1, scale=1.0), autograph=False)
        result = body(q, k).numpy()
    assert metal.stats()["fusions"][PATTERN] == 1
    np.testing.assert_allclose(result, 1 + tf.sigmoid(q).numpy(), rtol=0, atol=4e-3)


# ---- masks that hide whole rows -----------------------------------------------------------------


def operands(dtype="float32"):
    return tuple(array((2, 3, 6 if i else 5, 4), dtype, i) for i in range(3))


def hiding_mask():
    """Of row 2 nothing is seen, of row 0 one key."""
    mask = np.random.default_rng(5).random((2, 1, 5, 6)) > 0.4
    mask[:, :, 2] = False
    mask[:, :, 0] = [True, False, False, False, False, False]
    return mask


@pytest.mark.parametrize("hidden", [-np.inf, -1e9, -1e4, float(np.finfo(np.float32).min) * 0.7])
@pytest.mark.parametrize("kind", ["selected", "selected_and_zeroed", "added", "subtracted"])
def test_hidden_rows(kind, hidden, monkeypatch):
    mask = tf.constant(hiding_mask())
    zero = tf.zeros_like(tf.cast(mask, tf.float32))

    def body(q, k, v):
        x = tf.matmul(q, k, transpose_b=True) * 0.5
        if kind == "added":
            x += tf.where(mask, zero, hidden)
        elif kind == "subtracted":
            x = tf.where(~mask, x - (-hidden), x)
        else:
            x = tf.where(mask, x, hidden)
        p = tf.nn.softmax(x)
        return tf.matmul(tf.where(mask, p, 0.0) if kind == "selected_and_zeroed" else p, v)

    fused = check(body, operands(), 6, monkeypatch)
    assert np.isnan(fused[:, :, 2]).all() == (hidden == -np.inf and "zeroed" not in kind)
    assert not np.isnan(fused[:, :, [0, 1, 3, 4]]).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("hidden", [-np.inf, -3e4])
def test_hidden_rows_in_16_bits(hidden, dtype, monkeypatch):
    mask = tf.constant(hiding_mask())

    def body(q, k, v):
        x = tf.matmul(q, k, transpose_b=True)
        return tf.matmul(tf.nn.softmax(tf.where(mask, x, tf.cast(hidden, dtype))), v)

    check(body, operands(dtype), 6, monkeypatch, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("hidden", [-np.inf, -1e9])
def test_softmax_in_float32(hidden, dtype, monkeypatch):
    """The mask is added in float32, between Casts."""
    mask = tf.where(tf.constant(hiding_mask()), 0.0, hidden)

    def body(q, k, v):
        x = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32) * 0.5 + mask
        return tf.matmul(tf.cast(tf.nn.softmax(x), dtype), v)

    check(body, operands(dtype), 6, monkeypatch, dtype)


@pytest.mark.parametrize("to", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["none", "bool", "float32"])
def test_mixed_precision(kind, to, monkeypatch):
    """Converted with its products, also next to a mask that float16 has not."""
    mask = tf.constant(hiding_mask())
    mask = {"none": None, "bool": mask, "float32": tf.where(mask, 0.0, -1e9)}[kind]
    wanted, _ = run(lambda *a: attention(*a, mask), operands(), "none", monkeypatch)
    monkeypatch.setenv("TF_METAL_MIXED_PRECISION", to)
    got, fired = run(lambda *a: attention(*a, mask), operands(), "all", monkeypatch)
    assert fired == 1 and metal.stats()["nodes_converted"] > 0
    assert not np.array_equal(got, wanted)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=8 * ULP[to] * np.abs(wanted).max())


# ---- Keras --------------------------------------------------------------------------------------

PADDING = np.array([[1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 1, 1]], bool)
CALLS = {
    "plain": lambda attend, x: attend(x, x),
    "causal": lambda attend, x: attend(x, x, use_causal_mask=True),
    "padding": lambda attend, x: attend(x, x, value_mask=tf.constant(PADDING)),
    "both": lambda attend, x: attend(
        x, x, attention_mask=tf.constant(hiding_mask()[:, 0, [0, 1, 2, 3, 4, 1]]),
        use_causal_mask=True),
}  # fmt: skip
HEADS = {
    "MultiHeadAttention": lambda dtype: layers.MultiHeadAttention(2, 4, dtype=dtype),
    "GroupQueryAttention": lambda dtype: layers.GroupQueryAttention(4, 4, 2, dtype=dtype),
}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "mixed_float16"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("layer", HEADS)
def test_heads(layer, call, dtype, monkeypatch):
    tf.keras.utils.set_random_seed(7)
    attend = HEADS[layer](dtype)
    x = array((2, 6, 8), attend.compute_dtype)
    attend(x, x)
    check(lambda x: CALLS[call](attend, x), (x,), 6, monkeypatch, attend.compute_dtype)


@pytest.mark.parametrize("masks", [{}, {"use_causal_mask": True}, {"mask": PADDING}], ids=list)
def test_attention_layer(masks, monkeypatch):
    def body(x):
        mask = masks.get("mask")
        extra = {"mask": [None, tf.constant(mask)]} if mask is not None else dict(masks)
        return layers.Attention()([x, x], **extra)

    check(body, (array((2, 6, 8)),), 6, monkeypatch)


# ---- not ----------------------------------------------------------------------------------------


def with_weights_read(q, k, v):
    p = tf.nn.softmax(tf.matmul(q, k, transpose_b=True))
    return tf.reduce_sum(p) + tf.matmul(p, v)


def with_a_gradient(q, k, v):
    return tf.gradients(attention(q, k, v), q)[0]


def with_dropout(q, k, v):
    p = tf.nn.softmax(tf.matmul(q, k, transpose_b=True))
    return tf.matmul(tf.nn.experimental.stateless_dropout(p, 0.3, seed=[1, 2]), v)


def over_rows(q, k, v):
    return tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True), axis=-2), v)


def over_rows_after(q, k, v):
    p = tf.nn.softmax(tf.einsum("bhmf,bhnf->bhnm", q, k))
    return tf.einsum("bhnm,bhne->bhme", p, v)


def scaled_by_a_tensor(q, k, v):
    x = tf.matmul(q, k, transpose_b=True) * tf.reduce_mean(q)
    return tf.matmul(tf.nn.softmax(x), v)


def hidden_by_too_little(q, k, v):
    x = tf.matmul(q, k, transpose_b=True)
    return tf.matmul(tf.nn.softmax(tf.where(tf.constant(hiding_mask()), x, -10.0)), v)


def added_in_16_bits(q, k, v):
    q, k, v = (tf.cast(x, tf.float16) for x in (q, k, v))
    return attention(q, k, v, tf.cast(array((2, 1, 5, 6), seed=9), tf.float16))


def heads_summed_up(q, k, v):
    p = tf.nn.softmax(tf.einsum("bhmf,bhnf->bhmn", q, k))
    return tf.einsum("bhmn,bhne->bme", p, v)


def log_softmax(q, k, v):
    return tf.matmul(tf.nn.log_softmax(tf.matmul(q, k, transpose_b=True)), v)


NOT = [with_weights_read, with_a_gradient, with_dropout, over_rows, over_rows_after,
       scaled_by_a_tensor, hidden_by_too_little, added_in_16_bits, heads_summed_up,
       log_softmax]  # fmt: skip


@pytest.mark.parametrize("body", NOT, ids=lambda f: f.__name__)
def test_not(body, monkeypatch):
    result, fired = run(body, operands(), "all", monkeypatch)
    assert fired == 0
    wanted, _ = run(body, operands(), "none", monkeypatch)
    np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_not_the_additive_layer(monkeypatch):
    attend = layers.AdditiveAttention()
    x = array((2, 6, 8))
    attend([x, x])
    assert run(lambda x: attend([x, x]), (x,), "all", monkeypatch)[1] == 0


def test_not_where_scores_are_returned(monkeypatch):
    attend = layers.MultiHeadAttention(2, 4)
    x = array((2, 6, 8))
    attend(x, x)

    def body(x):
        y, scores = attend(x, x, return_attention_scores=True)
        return tf.concat([tf.reshape(y, [-1]), tf.reshape(scores, [-1])], 0)

    assert run(body, (x,), "all", monkeypatch)[1] == 0


# ---- other versions of macOS --------------------------------------------------------------------

_ON = """
import tensorflow as tf
import tensorflow_metal_py as metal
attend = tf.keras.layers.MultiHeadAttention(2, 4)
x = tf.random.stateless_normal((2, 5, 8), (1, 2))
attend(x, x)
with tf.device("/GPU:0"):
    y = tf.function(lambda x: attend(x, x))(x).numpy()
fusions = metal.stats()["fusions"]
with tf.device("/CPU:0"):
    wanted = attend(x, x).numpy()
assert abs(y - wanted).max() < 1e-5
print([name for name in fusions if "attention" in name])
"""


@pytest.mark.parametrize("macos", ["14.0", "26.0"])
def test_on(macos, run_python):
    """Before macOS 15 the pattern `attention` takes it, which composes it."""
    said = run_python(_ON, env={"TF_METAL_HOST_MACOS": macos}).stdout.splitlines()[-1]
    assert said == str(["attention" if macos == "14.0" else PATTERN])


# ---- memory -------------------------------------------------------------------------------------


_PEAK = """
import os
import pathlib
import re
import numpy as np
import tensorflow as tf

def peak():  # of this program; getrusage remembers who started it
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]) * 1024

def attention(q, k, v):
    return tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True)), v)

def growth(passes, n):
    before = peak()
    os.environ["TF_METAL_GRAPPLER"] = passes
    x = tf.constant(np.linspace(-1, 1, 8 * n, dtype=np.float32).reshape(n, 8))
    with tf.device("/GPU:0"):
        tf.function(attention)(x, x, x).numpy()
    return peak() - before

growth("all", 16)
print(growth("all", 4096), growth("none", 4096))
"""


def test_the_weights_are_never_in_memory(run_python):
    """Of 4,096 x 4,096; what the process takes for 128 rows of them and the rest is far less."""
    weights = 4096 * 4096 * 4
    fused, unfused = map(int, run_python(_PEAK).stdout.split()[-2:])
    assert fused < weights / 2
    assert unfused > weights
