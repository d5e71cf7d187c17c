"""mixed_precision: policies of layers, the tuner, autocast."""

import importlib
import json
import math
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from tensorflow_metal_py import mixed_precision, models, timing
from tensorflow_metal_py.mixed_precision import layers as layers_of
from tensorflow_metal_py.mixed_precision import measure, tuner
from tests import spine

DEVICE = f"/{spine.device_type()}:0"
# Time in these tests: a planted layer takes this long, and all work between two looks at the clock
# the other, so that the machine decides nothing.
PAUSE_SECONDS, TICK_SECONDS = 0.1, 0.01
NO_TF_KERAS = "installed in the Makefile's environment only"
OFFSET = 4096.0  # float16 keeps no fraction beside it
OVERFLOW = 1e5  # float16 ends at 65504


class Clock:
    seconds = 0.0

    def perf_counter(self):
        self.seconds += TICK_SECONDS
        return self.seconds


CLOCK = Clock()


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(timing, "time", CLOCK)


@keras.saving.register_keras_serializable("tests")
class Planted(keras.layers.Layer):
    """Its input; takes long when it computes in `slow_in`, adds and takes away `offset`."""

    def __init__(self, slow_in="", offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.slow_in, self.offset = slow_in, offset

    def call(self, inputs):
        if self.offset:
            offset = tf.cast(tf.reduce_sum(inputs) * 0, inputs.dtype) + self.offset
            inputs = (inputs + offset) - offset
        if self.compute_dtype != self.slow_in:
            return inputs

        def pause():
            CLOCK.seconds += PAUSE_SECONDS
            return np.float32(0)

        zero = tf.ensure_shape(tf.numpy_function(pause, [], tf.float32), ())
        return inputs + tf.cast(zero, inputs.dtype)


def network(*planted):
    """A dense layer "first", the planted ones, a dense layer "last"."""
    keras.utils.set_random_seed(5)
    layers = [keras.Input((8,)), keras.layers.Dense(8, name="first"), *planted]
    return keras.Sequential([*layers, keras.layers.Dense(3, name="last")])


def data(n=16, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 8)).astype(np.float32), rng.standard_normal((n, 3))


def tune(model, batch=None, **arguments):
    with tf.device(DEVICE):
        return mixed_precision.tune(
            model, batch or data(), rounds=3, **{"policies": ["mixed_float16"], **arguments}
        )


# ---- the tuner ----------------------------------------------------------------------------------


def test_finds_the_slow_layer_and_the_lossy_one(capsys):
    model = network(
        Planted(slow_in="float16", name="slow"),
        Planted(offset=OFFSET, name="lossy"),
        Planted(slow_in="float32", name="fast"),  # so that float32 is not the fastest
    )
    policy = tune(model, loss=keras.losses.mean_squared_error)
    assert policy.of("fast") == "mixed_float16"
    assert policy.of("slow") == policy.of("lossy") == "float32"
    rows = {row.path: row for row in policy.measurements}
    assert rows["slow"].seconds > PAUSE_SECONDS > rows["slow"].float32_seconds
    assert rows["fast"].float32_seconds > PAUSE_SECONDS > rows["fast"].seconds
    assert rows["lossy"].output_error > 0.01 > rows["first"].output_error > 0
    assert policy.measured["float32_seconds"] > PAUSE_SECONDS > policy.measured["seconds"]
    assert policy.measured["output_error"] <= policy.measured["output_budget"] == 0.01
    assert policy.measured["gradient_error"] <= policy.measured["gradient_budget"]
    printed = capsys.readouterr().out
    assert "lossy" in printed and f"chosen: {policy}" in printed
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}, "left as it was"


def test_prefers_a_global_policy():
    model = network(Planted(slow_in="float32", name="fast"))
    policy = tune(model, verbose=False)
    assert policy.is_global and policy.default == "mixed_float16"


def test_checks_all_batches():
    """What overflows in the last batch only falls back to float32 there."""
    model = network(Planted(slow_in="float32", name="fast"))
    x, y = data()
    x[-1] = OVERFLOW
    policy = tune(model, (x, y), batch_size=8, verbose=False)
    assert policy.of("first") == "float32"
    assert policy.measured["output_error"] <= 0.01
    assert math.isfinite(policy.measured["gradient_error"])


def test_a_mix_must_win_every_repeat(monkeypatch):
    """Two wins of three are none."""
    model = network()
    mix = mixed_precision.Policy("mixed_float16", {"last": "float32"})
    plain = mixed_precision.Policy()

    def times(*mixed):
        return [
            {str(plain): timing.Timing((1.0,) * 3), str(mix): timing.Timing((t,) * 3)}
            for t in mixed
        ]

    network_ = measure.Network(model, None)
    batches = measure.batches(data(), 8, 1)
    search = tuner.Search(network_, batches, measure.Errors(1, 1), 3, False)
    search.exact, search.measured = [network_.results(batches[0])], {}
    for mixed, winner in (((0.5, 1.5, 0.5), plain), ((0.5, 0.6, 0.5), mix)):
        monkeypatch.setattr(tuner.Search, "time", lambda self, policies, t=mixed: times(*t))
        assert search.contest([plain, mix])[0] == winner


def test_subclassed_model_and_mixes_that_do_not_compute():
    """`a + b` needs both in one type: such mixes are no candidates."""

    class Sum(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = keras.layers.Dense(3), Planted(slow_in="float16", name="slow")
            self.c = keras.layers.Dense(3)

        def call(self, inputs):
            return self.a(inputs) + self.b(self.c(inputs))

    model = Sum()
    model(data()[0])
    policy = tune(model, verbose=False)
    assert policy == mixed_precision.Policy(
        measured=policy.measured, measurements=policy.measurements
    )
    assert {row.path for row in policy.measurements} == {model.a.name, "slow", model.c.name}
    assert math.isinf(policy.measurements[0].output_error)


def test_random_layers_and_averages_stay():
    model = network(keras.layers.BatchNormalization(), keras.layers.Dropout(0.5))
    before = [w.numpy() for w in model.variables]
    policy = tune(model, verbose=False, policies=["mixed_bfloat16"])
    dropout = policy.measurements[2]
    assert dropout.kind == "Dropout" and dropout.output_error < 0.01
    for now, then in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("name", ["small_transformer", "small_lstm", "embedding"])
def test_errors_of_the_usual_networks(name):
    """Every layer can be lowered alone, and so can all: small errors, none zero."""
    spec = models.find(name)
    with tf.device(DEVICE):
        net = measure.Network(models.build(name), None)
        (batch,) = measure.batches(spec.random_batch(8), 8, 1)
        exact = net.results(batch)
        units = layers_of.units(net.model)
        assert list(measure.calls(net, batch)) == list(units)
        for path in (None, *list(units)[-4:]):
            policy = mixed_precision.Policy(
                "mixed_bfloat16" if path is None else "float32",
                {path: "mixed_bfloat16"} if path else {},
            )
            errors = net.errors(policy, batch, exact)
            assert errors.output < 0.05 and errors.gradient < 0.2, path
            if path is None:
                assert errors.output > 1e-4


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"policies": ["float16"]}, "unknown policy 'float16'"),
        ({"output_budget": 0}, "must be positive"),
        ({"output_budget": 1e-300, "gradient_budget": 1e-300}, None),
        ({"batch": (np.zeros((0, 8)), np.zeros((0, 3)))}, "no data"),
    ],
)
def test_refuses(arguments, text):
    if text is None:
        assert tune(network(), verbose=False, **arguments).default == "float32"
    else:
        with pytest.raises(ValueError, match=text):
            tune(network(), **arguments)


def test_refuses_what_is_no_built_model():
    with pytest.raises(TypeError, match="not a model"):
        mixed_precision.tune(lambda x: x, data())
    with pytest.raises(ValueError, match="has not been built"):
        mixed_precision.tune(keras.Sequential([keras.layers.Dense(1)]), data())


# ---- policies -----------------------------------------------------------------------------------


def test_save_and_load(tmp_path):
    row = mixed_precision.LayerMeasurement(
        "first", "Dense", "float32", 1.0, 2.0, 0.1, 0.0, math.inf
    )
    policy = mixed_precision.Policy("mixed_float16", {"first": "float32"}, {"seconds": 1.0}, (row,))
    policy.save(tmp_path / "policy.json")
    assert mixed_precision.Policy.load(tmp_path / "policy.json") == policy


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", json.dumps({"format": 1, "default": "int8", "measurements": []})]
)
def test_load_refuses(tmp_path, content):
    path = tmp_path / "policy.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="policy.json holds no precision policy"):
        mixed_precision.Policy.load(path)


def test_apply_keeps_weights_and_optimizer():
    model = network()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    x, y = data()
    with tf.device(DEVICE):
        model.fit(x, y, verbose=0)
        kernel, exact = model.layers[0].kernel.numpy(), model.predict(x, verbose=0)
        policy = mixed_precision.Policy("mixed_float16", {"last": "float32"})
        assert policy.apply(model) is model
        np.testing.assert_array_equal(model.layers[0].kernel, kernel)
        lower = model.predict(x, verbose=0)
        assert lower.dtype == np.float32 and model.layers[0].compute_dtype == "float16"
        assert 0 < measure.relative_error([lower], [exact]) < 0.01
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        losses = model.fit(x, y, epochs=20, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        mixed_precision.Policy().apply(model)
        assert model.predict(x, verbose=0).dtype == np.float32
        assert model.layers[0].compute_dtype == "float32"


def test_policy_survives_saving_the_model(tmp_path):
    model = mixed_precision.Policy("mixed_bfloat16", {"last": "float32"}).apply(network())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [layer.compute_dtype for layer in loaded.layers] == ["bfloat16", "float32"]


def test_nested_models_have_paths():
    inner = keras.Sequential([keras.layers.Dense(8, name="dense")], name="inner")
    model = network(inner)
    policy = mixed_precision.Policy("float32", {"inner/dense": "mixed_bfloat16"})
    policy.apply(model)
    assert inner.layers[0].compute_dtype == "bfloat16"
    assert [layer.compute_dtype for layer in model.layers] == ["float32"] * 3


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mixed_precision.Policy("float16"), "unknown dtype policy 'float16'"),
        (
            lambda: mixed_precision.Policy(layers={"lost": "mixed_float16"}).apply(network()),
            "has no layer 'lost'; it has first, last",
        ),
    ],
)
def test_policy_refuses(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_tf_keras():
    tf_keras = pytest.importorskip(
        "tf_keras", reason="installed in the Makefile's environment only"
    )
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(8, name="first"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(3, name="last"),
        ]
    )
    model.compile("adam", "mse")
    x, y = data()
    policy = tune(model, (x, y), verbose=False)
    assert {row.path for row in policy.measurements} >= {"first", "last"}
    assert all(row.output_error < 0.01 for row in policy.measurements)
    with tf.device(DEVICE):
        mixed = mixed_precision.Policy("mixed_float16", {"last": "float32"}).apply(model)
        assert mixed is not model
        assert [layer.compute_dtype for layer in mixed.layers] == ["float16"] * 3 + ["float32"]
        exact, lower = model.predict(x, verbose=0), mixed.predict(x, verbose=0)
        assert 0 < measure.relative_error([lower], [exact]) < 0.01
        assert np.isfinite(mixed.fit(x, y, verbose=0).history["loss"]).all()
    assert mixed_precision.Policy().apply(mixed) is mixed


def test_tf_keras_needs_a_config():
    tf_keras = pytest.importorskip(
        "tf_keras", reason="installed in the Makefile's environment only"
    )

    class Own(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = tf_keras.layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    model = Own()
    model(data()[0])
    with pytest.raises(ValueError, match="cannot be rebuilt from its config"):
        mixed_precision.Policy("mixed_float16").apply(model)


# ---- autocast -----------------------------------------------------------------------------------


def _product(x, w):
    with tf.GradientTape() as tape:
        tape.watch(w)
        y = tf.matmul(x, w)
    return y, tape.gradient(y, w)


def test_autocast_of_products_and_their_gradients():
    rng = np.random.default_rng(1)
    x, w = (tf.constant(rng.standard_normal(s), "float32") for s in ((5, 64), (64, 7)))
    half = [tf.cast(tf.cast(t, "float16"), "float32") for t in (x, w)]
    with tf.device(DEVICE):
        exact, expected = _product(x, w), tf.matmul(*half)
        with mixed_precision.autocast("float16"):
            results = {"eager": _product(x, w), "function": tf.function(_product)(x, w)}
            with mixed_precision.autocast(None):
                np.testing.assert_array_equal(tf.matmul(x, w), exact[0])
            assert tf.matmul(tf.cast(x, "float64"), tf.cast(w, "float64")).dtype == tf.float64
        np.testing.assert_array_equal(tf.matmul(x, w), exact[0])
    for y, gradient in results.values():
        assert y.dtype == gradient.dtype == tf.float32
        np.testing.assert_array_equal(y, tf.cast(tf.cast(expected, "float16"), "float32"))
        assert 0 < measure.relative_error([gradient.numpy()], [exact[1].numpy()]) < 1e-3


def test_autocast_of_a_model():
    model = models.build("cnn")
    x, _ = models.find("cnn").random_batch(4)
    with tf.device(DEVICE):
        exact = model(x).numpy()
        with mixed_precision.autocast("bfloat16"):
            lower = model(x).numpy()
    assert 1e-4 < measure.relative_error([lower], [exact]) < 0.05


def test_autocast_casts_what_counts():
    """The functions of the forward ops are found where TensorFlow calls them."""
    autocast = importlib.import_module("tensorflow_metal_py.mixed_precision.autocast")
    assert {
        "MatMul",
        "BatchMatMulV2",
        "BatchMatMulV3",
        "Conv2D",
        "Conv3D",
        "Einsum",
        "DepthwiseConv2dNative",
        "CudnnRNNV3",
    } <= set(autocast.functions())


def test_autocast_leaves_other_threads_alone():
    x = tf.constant([[1 + 2.0**-12]])
    seen = []
    with mixed_precision.autocast("float16"):
        thread = threading.Thread(target=lambda: seen.append(float(tf.matmul(x, x)[0, 0])))
        thread.start()
        thread.join()
        assert float(tf.matmul(x, x)[0, 0]) == 1
    assert seen[0] > 1


def test_autocast_refuses():
    with pytest.raises(ValueError, match="float16, bfloat16 or None, not 'int8'"):
        with mixed_precision.autocast("int8"):
            pass


def test_the_picture_is_drawn(tmp_path):
    from tools import draw_precision

    results = {"embedding": draw_precision.measured("embedding", 3)}
    for ratio, spread, errors in results["embedding"].values():
        assert ratio > 0 and spread >= 0 and 0 < errors.output < 0.05
    draw_precision.draw(results, "title", "time", str(tmp_path / "images" / "picture.png"))
    assert (tmp_path / "images" / "picture.png").read_bytes().startswith(b"\x89PNG")
