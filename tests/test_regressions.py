"""Reports of users of Apple's plugin, as tests: what went wrong there has to be right here.

Each test names the public report that it answers. Reports about recurrent layers are in
test_rnn.py, about loading in test_loading.py, about errors, forks and hangs in test_device.py and
test_robustness.py.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import spine

GPU, CPU = f"/{spine.device_type()}:0", "/CPU:0"


def on_both(function):
    """The result of `function` on the device and on the CPU, as arrays."""
    results = []
    for device in (GPU, CPU):
        with tf.device(device):
            results.append(tf.nest.map_structure(np.asarray, function()))
    return results


def assert_close(function, rtol=1e-5, atol=1e-5):
    ours, reference = on_both(function)
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), ours, reference
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ---- wrong numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "relu6", "elu", "tanh", "sigmoid", "leaky_relu"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 5), (64, 200, 128), (200, 1024, 33)])
def test_dense_with_activation_in_a_function(activation, shape):
    """Apple's forum (polligator); tensorflow#62137, #92686: MatMul, BiasAdd and Relu in a graph
    gave numbers that were off by tens."""
    m, k, n = shape
    x, w, b = normal(m, k), normal(k, n, seed=1), normal(n, seed=2)
    function = (
        {
            "leaky_relu": tf.nn.leaky_relu,
            "relu6": tf.nn.relu6,
            "elu": tf.nn.elu,
        }.get(activation)
        or getattr(tf.math, activation, None)
        or getattr(tf.nn, activation)
    )
    graph = tf.function(lambda: function(tf.nn.bias_add(tf.matmul(x, w), b)))
    assert_close(graph, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    ["SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Adagrad", "Adadelta", "Ftrl", "Lion"],
)
def test_optimizers_follow_the_cpu(name):
    """keras#21668, keras#15841, tensorflow#50196: an optimizer became another one on the device."""
    x, y = normal(64, 8), normal(64, 1, seed=1)

    def train():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)]
        )
        optimizer = getattr(keras.optimizers, name)(learning_rate=0.01, clipnorm=1.0)
        model.compile(optimizer, "mse")
        model.fit(x, y, batch_size=16, epochs=5, shuffle=False, verbose=0)
        return model.get_weights()

    assert_close(train, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu",
        "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6",
        "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign",
        "sparse_plus", "sparsemax", "squareplus", "tanh", "tanh_shrink", "threshold",
    ],
)  # fmt: skip
def test_activations_and_their_gradients(name):
    """keras#19009: the non-linearity disappeared."""
    function = getattr(keras.activations, name)
    arguments = {"threshold": (0.5, 0.1)}.get(name, ())
    x = normal(4, 32)

    def run():
        @tf.function
        def graph(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x, *arguments)
            return y, tape.gradient(y, x)

        return graph(tf.constant(x))

    assert_close(run)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_convolutional_network_trains_like_the_cpu(policy):
    """tf-keras#140, tensorflow#92564, keras#21108: the loss rose after a few epochs."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = (data.images[..., None] / 16).astype(np.float32)[:512], data.target[:512]

    def train(chosen):
        keras.utils.set_random_seed(1)
        keras.config.set_dtype_policy(chosen)
        try:
            model = keras.Sequential(
                [
                    keras.Input((8, 8, 1)),
                    keras.layers.Conv2D(8, 3, activation="relu"),
                    keras.layers.Flatten(),
                    keras.layers.Dense(10, dtype="float32"),
                ]
            )
        finally:
            keras.config.set_dtype_policy("float32")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss)
        return model.fit(x, y, batch_size=64, epochs=6, shuffle=False, verbose=0).history["loss"]

    with tf.device(GPU):
        ours = train(policy)
    with tf.device(CPU):
        reference = train("float32")
    tolerance = {"float32": 1e-4, "mixed_float16": 0.02, "mixed_bfloat16": 0.05}[policy]
    np.testing.assert_allclose(ours, reference, rtol=tolerance)
    assert ours[-1] < ours[0] / 2


@pytest.mark.parametrize("channels", [65535, 65536, 65537])
def test_dimensions_around_65536(channels):
    """tensorflow#71577: Conv1D with 65,537 filters mixed up the first and the last channel."""
    x, w = normal(1, 4, 2), normal(1, 2, channels, seed=1)
    assert_close(lambda: tf.nn.conv1d(x, w, 1, "VALID"))
    long = normal(3, channels)
    assert_close(lambda: tf.nn.softmax(long))
    assert_close(lambda: tf.transpose(long))
    assert_close(lambda: tf.gather(long, [0, channels - 1], axis=1))
    assert_close(lambda: tf.nn.bias_add(long, normal(channels)))


@pytest.mark.parametrize("size", [1, 16, 17, 1000, 100_000])
def test_sort_of_any_size(size):
    """tensorflow#51499, #51820: tf.sort sorted 16 values, the rest was -0."""
    x = normal(size)
    for direction in ("ASCENDING", "DESCENDING"):
        ours, reference = on_both(lambda direction=direction: tf.sort(x, direction=direction))
        np.testing.assert_array_equal(ours, reference)


def test_argsort_is_stable_and_the_same_each_time():
    """tensorflow#56349."""
    x = np.random.default_rng(0).integers(0, 5, 1000).astype(np.float32)
    with tf.device(GPU):
        runs = [tf.argsort(x, stable=True).numpy() for _ in range(3)]
    np.testing.assert_array_equal(runs[0], np.argsort(x, kind="stable"))
    assert all((run == runs[0]).all() for run in runs)


def test_rounding_and_small_innermost_dimensions():
    """tensorflow#126254: Round half to even; rows of less than 16 bytes; results that are views."""
    halves = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    with tf.device(GPU):
        assert tf.round(halves).numpy().tolist() == [-2, -2, 0, 0, 2, 2]
    for innermost in (1, 2, 3):
        image = normal(2, 5, 7, innermost)
        assert_close(lambda image=image: tf.transpose(image, [0, 2, 1, 3]))
        assert_close(lambda image=image: tf.reduce_mean(image, [1, 2]))
        assert_close(lambda image=image: tf.image.resize(image, (4, 4)))


# ---- randomness ---------------------------------------------------------------------------------


def test_random_numbers_advance():
    """tensorflow#56122, #53505, tf-keras#541: the same numbers at every call."""
    with tf.device(GPU):
        assert (tf.random.uniform((8,)).numpy() != tf.random.uniform((8,)).numpy()).any()
        draw = tf.function(lambda: (tf.random.normal((8,)), tf.random.normal((8,))))
        (a, b), (c, _) = draw(), draw()
        assert (a.numpy() != b.numpy()).any() and (a.numpy() != c.numpy()).any()
        dropout = keras.layers.Dropout(0.5)
        x = tf.ones((64,))
        assert (dropout(x, training=True).numpy() != dropout(x, training=True).numpy()).any()


def test_seeds_give_the_series_of_the_cpu():
    """tensorflow#57924; Apple's plugin says that its series differ from the CPU's."""

    def draw():
        tf.random.set_seed(7)
        generator = tf.random.Generator.from_seed(3)
        return [
            tf.random.uniform((5,)),
            tf.random.uniform((5,), maxval=100, dtype=tf.int64),
            generator.uniform((5,)),
            generator.uniform((5,), 0, 1000, tf.int64),
            tf.random.stateless_uniform((5,), [1, 2]),
            tf.random.stateless_uniform((5,), [1, 2], 0, 10, tf.int32),
        ]

    ours, reference = on_both(draw)
    for a, b in zip(ours, reference, strict=True):
        np.testing.assert_array_equal(a, b)


def test_random_integers_between_tensors():
    """tensorflow#60597, #87972: minval was read from the wrong input."""
    low, high = tf.constant(3, tf.int64), tf.constant(9, tf.int64)

    def draw():
        generator = tf.random.Generator.from_seed(1)
        return [
            generator.uniform((50,), low, high, tf.int64),
            tf.random.stateless_uniform((50,), [5, 6], low, high, tf.int64),
        ]

    ours, reference = on_both(draw)
    for a, b in zip(ours, reference, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.min() >= 3 and a.max() <= 8


def test_generators_skip_and_split():
    """mrdbourke/tensorflow-deep-learning#298: no RngReadAndSkip."""

    def draw():
        generator = tf.random.Generator.from_seed(11)
        generator.skip(5)
        first, second = generator.split(2)
        return [generator.normal((4,)), first.uniform((4,)), second.uniform((4,))]

    assert_close(draw, rtol=1e-6, atol=1e-6)


def test_sums_by_index_are_the_same_each_time():
    """`enable_op_determinism`: scatter and segment sums in one order, always."""
    rng = np.random.default_rng(0)
    values, ids = normal(20_000), rng.integers(0, 50, 20_000)
    with tf.device(GPU):
        for function in (
            lambda: tf.math.unsorted_segment_sum(values, ids, 50),
            lambda: tf.scatter_nd(ids[:, None], values, [50]),
            lambda: tf.reduce_sum(values),
        ):
            runs = [function().numpy() for _ in range(5)]
            assert all((run == runs[0]).all() for run in runs)


# ---- crashes, memory ----------------------------------------------------------------------------


def test_session_with_reference_variables_and_momentum():
    """tensorflow#59780, DeepLabCut#1970: a crash in a version 1 session with Momentum."""
    from tensorflow.compat import v1

    # Reference variables have no kernels outside TensorFlow itself: they stay on the CPU.
    config = v1.ConfigProto(allow_soft_placement=True)
    with tf.Graph().as_default() as graph, v1.Session(graph=graph, config=config) as session:
        with tf.device(GPU):
            w = v1.Variable([4.0, -2.0], use_resource=False)
            loss = v1.reduce_sum(tf.square(w))
            step = v1.train.MomentumOptimizer(0.1, 0.5).minimize(loss)
        session.run(v1.global_variables_initializer())
        for _ in range(60):
            session.run(step)
        assert abs(session.run(w)).max() < 1e-2


def test_models_that_come_and_go_leave_no_memory():
    """tensorflow#62773, #60616: memory was not given back after training.

    Not with `fit`: Keras' training functions keep their variables on stock TensorFlow's CPU, too.
    """
    import gc

    import tensorflow_metal_py as metal

    def build_and_train():
        with tf.device(GPU):
            model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(512)])

            @tf.function
            def step(x):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean(model(x) ** 2)
                for v, g in zip(
                    model.trainable_variables,
                    tape.gradient(loss, model.trainable_variables),
                    strict=True,
                ):
                    v.value.assign_sub(0.1 * g)
                return loss

            step(normal(32, 64)).numpy()
            model.predict(normal(32, 64), verbose=0)

    used = []
    for _ in range(6):
        build_and_train()
        keras.backend.clear_session()
        gc.collect()
        used.append(metal.memory_info(GPU)["current"])
    assert used[-1] <= used[1] + 4096, used


def test_no_boxes_to_crop():
    """sleap#1100, #1647: a crash when nothing was detected."""
    image = normal(1, 8, 8, 3)
    boxes, which = np.zeros((0, 4), np.float32), np.zeros((0,), np.int32)
    with tf.device(GPU):
        crops = tf.image.crop_and_resize(image, boxes, which, (4, 4))
    assert crops.shape == (0, 4, 4, 3)


def test_explicit_placement_of_host_work():
    """DeepFaceLab_MacOS#81, tensorflow#53026: ops without a kernel for the device, pinned to it."""
    with tf.device(GPU):
        assert tf.strings.length(["ab", "c"]).numpy().tolist() == [2, 1]
        assert tf.range(5).numpy().tolist() == [0, 1, 2, 3, 4]
        data = tf.data.Dataset.range(3).map(lambda x: x + 1)
        assert [int(x) for x in data] == [1, 2, 3]
        assert tf.add(tf.constant([1], tf.int32), 2).numpy().tolist() == [3]
        assert int(tf.matmul(tf.ones((2, 2), tf.float64), tf.ones((2, 2), tf.float64))[0, 0]) == 2


# ---- what was missing ---------------------------------------------------------------------------


def test_three_dimensional_convolution():
    """tensorflow#53441: Conv3D and MaxPool3D of the 3D CT example."""

    def train():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 8, 1)),
                keras.layers.Conv3D(4, 3, activation="relu"),
                keras.layers.MaxPooling3D(),
                keras.layers.GlobalAveragePooling3D(),
                keras.layers.Dense(1),
            ]
        )
        model.compile("adam", "mse")
        x, y = normal(8, 8, 8, 8, 1), normal(8, 1)
        return model.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"]

    assert_close(train, rtol=1e-4)


def test_adagrad_with_an_embedding():
    """recommenders#463: Adagrad on an embedding failed."""

    def train():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((4,), dtype="int32"),
                keras.layers.Embedding(20, 8),
                keras.layers.Flatten(),
                keras.layers.Dense(1),
            ]
        )
        model.compile(keras.optimizers.Adagrad(0.1), "mse")
        x = np.random.default_rng(0).integers(0, 20, (32, 4))
        return model.fit(x, normal(32, 1), epochs=5, shuffle=False, verbose=0).history["loss"]

    assert_close(train, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_ops_in_reduced_precision(dtype):
    """apple/tensorflow_macos#27: no float16; Sigmoid, OneHot, L2Loss, Log1p were float32 only."""
    x = tf.cast(normal(16), dtype)
    with tf.device(GPU):
        for op in (tf.sigmoid, tf.zeros_like, tf.math.log1p, tf.nn.l2_loss, tf.nn.softplus):
            result = op(tf.abs(x))
            assert result.dtype == tf.as_dtype(dtype)
            assert spine.device_type() in result.device
            assert np.isfinite(result.numpy().astype(np.float32)).all()
        assert tf.one_hot([1], 3, dtype=dtype).numpy().tolist() == [[0, 1, 0]]
