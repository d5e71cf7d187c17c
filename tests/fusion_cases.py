"""Keras and TensorFlow code that the patterns of the remapper are made for.

Each case builds, for an element type, a function and its arguments; anew, with the same seed, for
each way to run it.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

layers = tf.keras.layers
activations = tf.keras.activations


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """`pattern` fires at least `count` times in what `build(dtype)` returns.

    options: of tf.config.optimizer, where TensorFlow's own passes would come first.
    exact: whether the fused graph computes the same bits: not where another op does it.
    """

    name: str
    pattern: str
    build: Callable
    count: int = 1
    options: dict = dataclasses.field(default_factory=dict)
    exact: bool = True

    def __str__(self):
        return f"{self.pattern}-{self.name}"


CASES: list[Case] = []


def case(pattern, count=1, exact=True, **options):
    def register(build):
        CASES.append(Case(build.__name__, pattern, build, count, options, exact))
        return build

    return register


def cases(pattern, exact=True, **builds):
    for name, build in builds.items():
        CASES.append(Case(name, pattern, build, exact=exact))


def array(*shape, dtype="float32", seed=0):
    values = np.random.default_rng(seed).standard_normal(shape)
    return tf.cast(tf.constant(values, tf.float32), dtype)


def fill(weights):
    """Weights unlike the initial zeros and ones, positive where they may be variances."""
    for i, weight in enumerate(weights):
        random = np.random.default_rng(i)
        if "float" not in str(weight.dtype):
            continue
        if len(weight.shape) < 2:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        else:
            weight.assign(random.standard_normal(weight.shape) * 0.3)


def gradients_of(model, x):
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
            loss = tf.reduce_sum(tf.cast(y * y, tf.float32))
        return [loss, *tape.gradient(loss, [x, *model.trainable_variables])]

    return step, [x]


def call_of(*stack, shape, training=False, gradient=False):
    """A builder for a stack of layers; each is made from a dtype."""

    def build(dtype):
        x = array(*shape, dtype=dtype)
        model = tf.keras.Sequential(
            [layers.Input(shape[1:], dtype=dtype), *(make(dtype) for make in stack)]
        )
        fill(model.weights)
        if gradient:
            return gradients_of(model, x)
        return (lambda x: model(x, training=training)), [x]

    return build


def layer(cls, *arguments, **options):
    return lambda dtype: cls(*arguments, **options, dtype=dtype)


def function(body, *shapes):
    """A builder for a function of tensors of these shapes."""
    return lambda dtype: (
        body,
        [array(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)],
    )


IMAGE = (2, 8, 8, 3)
Conv2D, BatchNorm, Dense = layers.Conv2D, layers.BatchNormalization, layers.Dense

# ---- convolutions -------------------------------------------------------------------------------

for activation in ["relu", "relu6", "elu", "selu", "leaky_relu", "tanh", "sigmoid", "softplus"] + [
    "gelu",
    "silu",
    "mish",
    "hard_silu",
    "hard_sigmoid",
    "squareplus",
]:
    cases(
        "convolution",
        **{
            f"Conv2D_{activation}": call_of(layer(Conv2D, 4, 3, activation=activation), shape=IMAGE)
        },
    )
cases(
    "convolution",
    Conv1D=call_of(layer(layers.Conv1D, 4, 3, activation="relu"), shape=(2, 8, 3)),
    Conv3D=call_of(layer(layers.Conv3D, 4, 3, activation="relu"), shape=(2, 5, 5, 5, 3)),
    DepthwiseConv2D=call_of(layer(layers.DepthwiseConv2D, 3, activation="relu"), shape=IMAGE),
    SeparableConv2D=call_of(layer(layers.SeparableConv2D, 4, 3, activation="silu"), shape=IMAGE),
    Conv2DTranspose=call_of(layer(layers.Conv2DTranspose, 4, 3, activation="relu"), shape=IMAGE),
    Conv3DTranspose=call_of(layer(layers.Conv3DTranspose, 2, 2), shape=(2, 3, 3, 3, 2)),
    inference_batch_norm=call_of(
        layer(Conv2D, 4, 3, use_bias=False), layer(BatchNorm), layer(layers.ReLU), shape=IMAGE
    ),
    bias_and_batch_norm=call_of(
        layer(Conv2D, 4, 3), layer(BatchNorm), layer(layers.ReLU), shape=IMAGE
    ),
    batch_norm_without_scale=call_of(
        layer(Conv2D, 4, 3), layer(BatchNorm, scale=False, center=False), shape=IMAGE
    ),
    fused_batch_norm_op=function(
        lambda x, w, v: tf.nn.relu(
            tf.compat.v1.nn.fused_batch_norm(
                tf.nn.conv2d(x, w, 1, "SAME"), v, v, v, tf.exp(v), is_training=False
            )[0]
        ),
        IMAGE,
        (3, 3, 3, 4),
        (4,),
    ),
    gradient=call_of(
        layer(Conv2D, 4, 3, activation="relu"), layer(Conv2D, 2, 3), shape=IMAGE, gradient=True
    ),
)


def residual_block(dtype, norm, training):
    x = layers.Input((8, 8, 4), dtype=dtype)
    y = Conv2D(4, 3, padding="same", dtype=dtype)(x)
    if norm:
        y = BatchNorm(dtype=dtype)(y)
    y = layers.ReLU(dtype=dtype)(layers.Add(dtype=dtype)([y, x]))
    model = tf.keras.Model(x, y)
    fill(model.weights)
    data = array(2, 8, 8, 4, dtype=dtype)
    if training:
        return gradients_of(model, data)
    return (lambda x: model(x, training=False)), [data]


cases(
    "convolution",
    residual=lambda dtype: residual_block(dtype, norm=False, training=False),
    residual_batch_norm=lambda dtype: residual_block(dtype, norm=True, training=False),
)


@case("pad", exact=False)
def zero_padding(dtype):
    return call_of(
        layer(layers.ZeroPadding2D, ((1, 2), (0, 3))), layer(Conv2D, 4, 3, strides=2), shape=IMAGE
    )(dtype)


@case("pad", exact=False)
def zero_padding_of_depthwise(dtype):
    return call_of(layer(layers.ZeroPadding2D, 1), layer(layers.DepthwiseConv2D, 3), shape=IMAGE)(
        dtype
    )


@case("dilation", exact=False)
def space_to_batch(dtype):
    def body(x, w):
        y = tf.space_to_batch(x, [2, 3], [[2, 2], [3, 4]])
        y = tf.nn.conv2d(y, w, 1, "VALID")
        return tf.batch_to_space(y, [2, 3], [[0, 0], [0, 1]])

    return function(body, (2, 8, 8, 3), (3, 3, 3, 4))(dtype)


@case("dilation", exact=False)
def atrous_depthwise(dtype):
    return function(
        lambda x, w: tf.nn.depthwise_conv2d(x, w, [1] * 4, "SAME", dilations=[2, 2]),
        IMAGE,
        (3, 3, 3, 2),
    )(dtype)


# ---- products -----------------------------------------------------------------------------------

for activation in ["relu", "gelu", "silu", "softmax", "log_softmax", "leaky_relu"]:
    cases(
        "matmul",
        **{f"Dense_{activation}": call_of(layer(Dense, 4, activation=activation), shape=(3, 8))},
    )
cases(
    "matmul",
    Dense_rank_3=call_of(layer(Dense, 4, activation="relu"), shape=(2, 5, 8)),
    EinsumDense=call_of(
        layer(layers.EinsumDense, "abc,cde->abde", (None, 2, 3), bias_axes="de"), shape=(2, 5, 8)
    ),
    Dense_batch_norm=call_of(layer(Dense, 4), layer(BatchNorm), layer(layers.ReLU), shape=(3, 8)),
    Dense_gradient=call_of(
        layer(Dense, 4, activation="relu"), layer(Dense, 3), shape=(3, 8), gradient=True
    ),
    bias_by_hand=function(lambda x, w, b: tf.nn.relu(x @ w + b), (3, 8), (8, 4), (4,)),
    residual_product=function(lambda x, w: tf.nn.relu(x @ w + x), (3, 8), (8, 8)),
    scale_and_mask=function(
        lambda x, y, m: tf.matmul(x, y, transpose_b=True) * 0.5 + m,
        (2, 3, 4, 8),
        (2, 3, 5, 8),
        (4, 5),
    ),
)


@case("matmul")
def Dense_of_unknown_batch(dtype):
    model = tf.keras.Sequential(
        [layers.Input((None, 8), dtype=dtype), Dense(4, activation="relu", dtype=dtype)]
    )
    fill(model.weights)
    spec = tf.TensorSpec((None, None, 8), dtype)
    return tf.function(lambda x: model(x), input_signature=[spec]), [array(2, 5, 8, dtype=dtype)]


@case("transpose", arithmetic_optimization=False)
def transposed_operands(dtype):
    return function(
        lambda x, y, z: [
            tf.matmul(tf.transpose(x), y),
            tf.matmul(tf.transpose(z, (0, 2, 1)), tf.transpose(z, (0, 2, 1)), transpose_b=True),
        ],
        (4, 8),
        (4, 3),
        (2, 3, 5),
    )(dtype)


# ---- activations --------------------------------------------------------------------------------


def elementwise(body):
    return function(body, (5, 7))


cases(
    "gelu",
    exact_gelu=elementwise(lambda x: activations.gelu(x)),
    approximate_gelu=elementwise(lambda x: activations.gelu(x, approximate=True)),
    nn_gelu=elementwise(lambda x: tf.nn.gelu(x)),
    by_erf=elementwise(lambda x: 0.5 * x * (1 + tf.math.erf(x / np.sqrt(2).astype("float32")))),
    by_cube=elementwise(
        lambda x: 0.5 * x * (1 + tf.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))
    ),
)
cases(
    "swish",
    silu=elementwise(activations.silu),
    nn_swish=elementwise(tf.nn.swish),
    with_beta=elementwise(lambda x: x * tf.sigmoid(1.5 * x)),
)
cases("mish", keras_mish=elementwise(activations.mish))
cases("hard_swish", hard_silu=elementwise(activations.hard_silu))
cases("hard_sigmoid", keras_hard_sigmoid=elementwise(activations.hard_sigmoid))
cases("squareplus", keras_squareplus=elementwise(activations.squareplus))
cases("leaky_relu", by_maximum=elementwise(lambda x: tf.maximum(x, 0.1 * x)))

# ---- normalizations -----------------------------------------------------------------------------

SEQUENCE = (2, 5, 8)
cases(
    "layer_norm",
    LayerNormalization=call_of(layer(layers.LayerNormalization), shape=SEQUENCE),
    two_axes=call_of(layer(layers.LayerNormalization, axis=[1, 2]), shape=SEQUENCE),
    without_scale=call_of(
        layer(layers.LayerNormalization, center=False, scale=False), shape=SEQUENCE
    ),
    LayerNormalization_gradient=call_of(
        layer(layers.LayerNormalization), shape=SEQUENCE, gradient=True
    ),
    GroupNormalization=call_of(layer(layers.GroupNormalization, 2), shape=(2, 5, 5, 8)),
    InstanceNormalization=call_of(layer(layers.GroupNormalization, -1), shape=(2, 5, 5, 8)),
)
cases(
    "rms_norm",
    RMSNormalization=call_of(layer(layers.RMSNormalization), shape=SEQUENCE),
    RMSNormalization_gradient=call_of(
        layer(layers.RMSNormalization), shape=SEQUENCE, gradient=True
    ),
)
cases(
    "batch_norm",
    BatchNormalization=call_of(layer(BatchNorm), layer(layers.ReLU), shape=IMAGE),
    nn_batch_normalization=function(
        lambda x, m, o: tf.nn.batch_normalization(x, m, tf.exp(m), o, None, 1e-3),
        (3, 8),
        (8,),
        (8,),
    ),
)
cases(
    "batch_norm_training",
    BatchNormalization_training=call_of(
        layer(BatchNorm), layer(layers.ReLU), shape=IMAGE, training=True
    ),
    BatchNormalization_gradient=call_of(
        layer(BatchNorm), layer(layers.ReLU), shape=IMAGE, gradient=True
    ),
    residual_training=lambda dtype: residual_block(dtype, norm=True, training=True),
    fused_op=function(
        lambda x, v, z: tf.nn.relu(tf.compat.v1.nn.fused_batch_norm(x, v, v)[0] + z),
        IMAGE,
        (3,),
        IMAGE,
    ),
)


def fused_batch_norm_gradient(dtype):
    def body(x, v, z):
        with tf.GradientTape() as tape:
            tape.watch([x, v])
            scale = tf.cast(v, tf.float32)  # whatever the type of x
            y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, scale, scale)
            loss = tf.reduce_sum(tf.nn.relu(y + z) ** 3)
        return [loss, mean, variance, *tape.gradient(loss, [x, v])]

    return function(body, IMAGE, (3,), IMAGE)(dtype)


cases("batch_norm_training", fused_op_gradient=fused_batch_norm_gradient)
cases("batch_norm_gradient", after_relu=fused_batch_norm_gradient)


def layer_norm_by_hand(x, gamma, beta):
    mean = tf.reduce_mean(x, -1, keepdims=True)
    centered = x - mean
    variance = tf.reduce_mean(tf.square(centered), -1, keepdims=True)
    return centered * tf.math.rsqrt(variance + 1e-5) * gamma + beta


def layer_norm_by_division(x):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) / tf.sqrt(variance + 1e-5)


def gradient_of(body):
    def step(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            loss = tf.reduce_sum(body(*arguments) ** 3)
        return [loss, *tape.gradient(loss, arguments)]

    return step


cases(
    "layer_norm",
    by_hand=function(layer_norm_by_hand, SEQUENCE, (8,), (8,)),
    by_hand_gradient=function(gradient_of(layer_norm_by_hand), SEQUENCE, (8,), (8,)),
    by_division=function(layer_norm_by_division, SEQUENCE),
)

# ---- attention, softmax, dropout ----------------------------------------------------------------


def attention(training=False, gradient=False, **options):
    def build(dtype):
        inputs = layers.Input((5, 8), dtype=dtype)
        outputs = layers.MultiHeadAttention(2, 4, dtype=dtype, seed=3)(inputs, inputs, **options)
        model = tf.keras.Model(inputs, outputs)
        fill(model.weights)
        x = array(2, 5, 8, dtype=dtype)
        if gradient:
            return gradients_of(model, x)
        return (lambda x: model(x, training=training)), [x]

    return build


def grouped(dtype):
    attend = layers.GroupQueryAttention(4, 4, 2, dtype=dtype)
    attend.build((2, 5, 8), (2, 5, 8))
    fill(attend.weights)
    return (lambda x: attend(x, x)), [array(2, 5, 8, dtype=dtype)]


def by_hand(q, k, v, m):
    return tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * 0.5 + m), v)


def attention_layer(dtype):
    return (lambda x: layers.Attention(dtype=dtype)([x, x])), [array(2, 5, 8, dtype=dtype)]


cases(
    "dot_product_attention",
    exact=False,
    MultiHeadAttention=attention(),
    causal=attention(use_causal_mask=True),
    GroupQueryAttention=grouped,
    Attention=attention_layer,
    added_mask=function(by_hand, *[(2, 3, 5, 4)] * 3, (2, 1, 5, 5)),
)
cases(
    "attention",
    MultiHeadAttention_gradient=attention(gradient=True),
    non_constant_scale=function(
        lambda q, k, v, s: tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * s), v),
        *[(2, 3, 5, 4)] * 3,
        (),
    ),
)


@case("attention")
def with_dropout(dtype):
    attend = layers.MultiHeadAttention(2, 4, dropout=0.3, dtype=dtype, seed=3)
    attend.build((2, 5, 8), (2, 5, 8))
    fill(attend.weights)
    return (lambda x: attend(x, x, training=True)), [array(2, 5, 8, dtype=dtype)]


cases(
    "softmax",
    masked_layer=function(
        lambda x, m: layers.Softmax(dtype=x.dtype)(x, mask=m > 0), (2, 3, 5, 5), (2, 1, 5, 5)
    ),
    added_mask=function(lambda x, m: tf.nn.softmax(x + m), (2, 3, 5, 5), (1, 1, 5, 5)),
    scaled=elementwise(lambda x: tf.nn.softmax(x * 0.25)),
)
cases(
    "dropout",
    Dropout=call_of(layer(layers.Dropout, 0.3, seed=5), shape=(4, 8), training=True),
    stateless_dropout=lambda dtype: (
        lambda x, seed: tf.nn.experimental.stateless_dropout(x, 0.3, seed=seed),
        [array(4, 8, dtype=dtype), tf.constant([1, 2])],
    ),
)
cases(
    "dropout_gradient",
    Dropout_gradient=call_of(
        layer(Dense, 4), layer(layers.Dropout, 0.3, seed=5), shape=(4, 8), gradient=True
    ),
)


def sparse_cross_entropy(dtype):
    def body(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
        return [loss, tape.gradient(loss, logits)]

    return body, [tf.constant([0, 2, 1, 3]), array(4, 5, dtype=dtype)]


cases(
    "cross_entropy",
    sparse=sparse_cross_entropy,
    averaged=function(
        lambda x, y: tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(x), tf.identity(y))
        ),
        (4, 5),
        (4, 5),
    ),
    weighted=function(
        lambda x, y, w: tf.reduce_sum(
            w * tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(x), y)
        ),
        (4, 5),
        (4, 5),
        (4,),
    ),
)

# ---- gradients, casts ---------------------------------------------------------------------------

cases(
    "bias_gradient",
    Conv2D_bias=call_of(layer(Conv2D, 4, 3, activation="relu"), shape=IMAGE, gradient=True),
    Dense_bias=call_of(
        layer(Dense, 4, activation="relu"), layer(Dense, 3), shape=(3, 8), gradient=True
    ),
)
cases(
    "activation_gradient",
    relu_before_product=function(
        lambda x, w: tf.raw_ops.ReluGrad(gradients=x @ w, features=x), (3, 8), (8, 8)
    ),
)


@case("cast", count=2)
def cast_and_back(dtype):
    wide = "float32" if dtype != "float32" else "bfloat16"
    return function(
        lambda x: [
            tf.cast(tf.cast(tf.cast(x, "float16") + 1, "float32"), "float16") * 2,
            tf.cast(tf.cast(x > 0, "float32"), wide) + 1,
        ],
        (4, 8),
    )(dtype)
