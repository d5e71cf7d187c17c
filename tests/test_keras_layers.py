"""Every layer of Keras 3 and tf_keras under every dtype policy: fit, evaluate, predict, save, load.

No float op may leave the device, and what a layer gives is held against float32's.
"""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

import tensorflow_metal_py as metal
from tests import commit, keras_layers, spine

GPU = f"/{spine.device_type()}:0"
POLICIES = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16")
# Of the largest output in float32: a few rounding steps of the type.
TOLERANCE = {"float16": 1e-2, "bfloat16": 8e-2}
LOSS_SCALE = 16.0
SLICES = 8  # each commit looks at one; `make soak` at all layers
SWEEP = [
    (package, name)
    for package in keras_layers.PACKAGES
    for name in keras_layers.names(package)
    if name in keras_layers.LAYERS and package in keras_layers.LAYERS[name].packages
]


@pytest.fixture
def use_policy(request):
    """use_policy(package, policy): sets Keras' policy for new layers, until the test ends."""
    used = []

    def use(package, policy):
        k = keras_layers.PACKAGES[package]
        k.mixed_precision.set_global_policy(policy)
        used.append(k)

    yield use
    for k in used:
        k.mixed_precision.set_global_policy("float32")


class Training(NamedTuple):
    """Predictions before and after a step, the loss after it, and the first weights."""

    before: np.ndarray
    after: np.ndarray
    loss: float
    weights: list[np.ndarray]


def _model(package, name, policy):
    """The layer and a Dense on what it gives, compiled."""
    k = keras_layers.PACKAGES[package]
    spec = keras_layers.LAYERS[name]
    inputs = [k.Input(shape, dtype="int32" if spec.tokens else None) for shape in spec.inputs]
    layer = keras_layers.wrapped(package, name)
    apart = len(inputs) == 1 or name in ("MultiHeadAttention", "GroupQueryAttention")
    y = layer(*inputs) if apart else layer(inputs)
    if len(y.shape) == 4:
        y = k.layers.GlobalAveragePooling2D()(y)  # of any size
    elif len(y.shape) > 2:
        y = k.layers.Flatten()(y)
    y = k.layers.Dense(1, name="last")(y)
    model = k.Model(inputs, y)
    optimizer = k.optimizers.SGD(0.05)
    if policy == "mixed_float16":
        scale = {"dynamic": False} if package == "tf_keras" else {}
        wrapper = (k.mixed_precision if package == "tf_keras" else k.optimizers).LossScaleOptimizer
        optimizer = wrapper(optimizer, initial_scale=LOSS_SCALE, **scale)
    model.compile(optimizer, "mse", jit_compile=False)
    return model


def _train(package, name, policy, weights, folder, device=GPU):
    k = keras_layers.PACKAGES[package]
    k.utils.set_random_seed(3)
    x = keras_layers.LAYERS[name].arrays()
    with tf.device(device):
        model = _model(package, name, policy)
        if weights is not None:
            model.set_weights(weights)
        weights = model.get_weights()
        before = model.predict(x, verbose=0)
        y = np.full_like(before, 0.5, dtype=np.float32)
        model.fit(x, y, batch_size=4, verbose=0)
        loss = model.evaluate(x, y, verbose=0)
        after = model.predict(x, verbose=0)
        if (package, policy) != ("tf_keras", "bfloat16"):  # whose weights tf_keras cannot load
            path = str(folder / "model.keras")
            model.save(path)
            again = k.models.load_model(path, safe_mode=False)
            np.testing.assert_array_equal(again.predict(x, verbose=0), after)
    return Training(np.float32(before), np.float32(after), loss, weights)


@pytest.mark.parametrize("package", keras_layers.PACKAGES)
def test_every_layer_is_swept_or_excluded(package):
    unknown = set(keras_layers.names(package)) - {*keras_layers.LAYERS, *keras_layers.EXCLUDED}
    assert not unknown


def _train_unless_refused(package, name, policy, weights, folder):
    """None if Keras or TensorFlow refuses it, then on the CPU as well."""
    try:
        return _train(package, name, policy, weights, folder)
    except (TypeError, ValueError, tf.errors.OpError) as error:
        try:
            _train(package, name, policy, weights, folder, "/CPU:0")
        except type(error):
            return None
        raise


@pytest.mark.slow
@pytest.mark.parametrize("package, name", SWEEP[commit.number() % SLICES :: SLICES])
def test_slice_of_the_layers(package, name, use_policy, tmp_path):
    check_layer(package, name, use_policy, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("package, name", SWEEP)
def test_layer_in_every_policy(package, name, use_policy, tmp_path):
    check_layer(package, name, use_policy, tmp_path)


def check_layer(package, name, use_policy, tmp_path):
    spec = keras_layers.LAYERS[name]
    use_policy(package, "float32")
    expected = _train_unless_refused(package, name, "float32", None, tmp_path)
    if expected is None:
        pytest.skip("refused on the CPU as well")
    metal.reset_stats()
    for policy in POLICIES:
        use_policy(package, policy)
        actual = _train_unless_refused(package, name, policy, expected.weights, tmp_path)
        if actual is None:
            continue
        assert set(metal.fallbacks()) <= spec.cpu_ops, policy
        assert np.isfinite(actual.loss), policy
        tolerance = TOLERANCE[policy.removeprefix("mixed_")]
        for when in ("before",) if spec.random else ("before", "after"):
            exact = getattr(expected, when)
            np.testing.assert_allclose(
                getattr(actual, when),
                exact,
                rtol=0,
                atol=tolerance * max(1, np.abs(exact).max()),
                err_msg=f"{policy}, {when}",
            )
