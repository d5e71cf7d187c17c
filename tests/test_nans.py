"""`python -m tensorflow_metal_py nans`: the op that makes the first NaN or infinity."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tensorflow_metal_py import interpreter, mixed_precision, models, nans
from tests import spine

LARGE = 100.0  # times the weights of "boom": beyond float16, far below the end of float32


@keras.saving.register_keras_serializable("tests")
class Root(keras.layers.Layer):
    """The root, whose gradient at zero is infinite."""

    def call(self, inputs):
        return tf.sqrt(tf.nn.relu(inputs))


def network(*more):
    keras.utils.set_random_seed(2)
    weights = keras.initializers.Constant(1e3)
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(4, kernel_initializer="ones", name="calm"),
            *more,
            keras.layers.Dense(4, kernel_initializer=weights, name="boom"),
            keras.layers.Dense(2, name="after"),
        ]
    )


@pytest.fixture
def call(tmp_path, capsys, monkeypatch):
    """call(model, data, flags...): exit status, and what is printed."""
    monkeypatch.chdir(tmp_path)

    def run(model, *arguments):
        if isinstance(model, keras.Model):
            model.save("model.keras")
            model = "model.keras"
        capsys.readouterr()
        with tf.device(f"/{spine.device_type()}:0"):
            status = nans.main([str(model), *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def save(name, **arrays):
    np.savez(name, **arrays)
    return name


def test_names_the_op_that_overflows(call):
    data = save("data.npz", x=np.full((3, 8), LARGE, np.float32))
    status, text = call(network(), data, "--policy=mixed_float16")
    assert status == 1
    lines = dict(line.split(maxsplit=1) for line in text.splitlines()[1:])
    assert lines["type"] == "MatMul(T=half)" and "boom" in lines["layer"]
    assert lines["op"].endswith("MatMul")
    assert lines["output"].startswith("float16[3, 4]: 12 Inf")
    assert text.count("input") == 2 and "float16[4, 4]: 1000 to 1000" in text
    status, text = call(network(), data)
    assert status == 0 and re.fullmatch(r"inference: no NaN or Inf in \d+ ops\n", text)


def test_policy_of_a_file(call):
    data = save("data.npz", x=np.full((3, 8), LARGE, np.float32))
    mixed_precision.Policy("mixed_float16", {"boom": "float32"}).save("policy.json")
    status, text = call(network(), data, "--policy=policy.json")
    assert status == 1 and "Cast(DstT=half, SrcT=float)" in text  # what "after" is given


def test_training_step(call):
    model = network(Root())
    model.compile("sgd", "mse")
    data = save("data.npz", x=np.zeros((3, 8), np.float32), y=np.ones((3, 2), np.float32))
    status, text = call(model, data)
    assert status == 1 and "inference: no NaN or Inf" in text
    assert "training step: NaN or Inf appears first in" in text and "SqrtGrad(T=float)" in text
    assert call(model, save("x.npz", x=np.zeros((3, 8), np.float32)))[0] == 0  # no targets


def test_all(call):
    model = network(Root())
    model.layers[0].kernel.assign(tf.fill((8, 4), np.nan))
    status, text = call(model, 3, "--all")
    assert status == 1 and text.count("  op ") == 1
    assert "ReadVariableOp(dtype=float)" in text and "calm" in text and "32 NaN" in text
    model.layers[-1].kernel.assign(tf.fill((4, 2), np.inf))
    assert "and anew in 1 later ops: --all shows them" in call(model)[1]
    assert call(model, "--all")[1].count("  op ") == 2


def test_an_infinite_constant_is_meant(call):
    class Mask(keras.layers.Layer):
        def call(self, inputs):
            return tf.nn.softmax(tf.where(inputs > 0, inputs, -np.inf))

    keras.saving.register_keras_serializable("tests")(Mask)
    status, text = call(keras.Sequential([keras.Input((8,)), Mask()]), 1, "--batch=4")
    assert status == 0, text


class Loop(tf.Module):
    """Squares until large, in nested functions."""

    @tf.function
    def square(self, x):
        return x * x

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="x"),
            tf.TensorSpec([], tf.int32, name="n"),
        ]
    )
    def loop(self, x, n):
        for _ in tf.range(n):
            x = self.square(x) if tf.reduce_max(x) > 1 else x + 1
        return {"x": x}


def test_saved_model_with_loops_and_branches(call):
    tf.saved_model.save(Loop(), "saved")
    large = save("large.npz", x=np.full((1, 2), LARGE, np.float32), n=np.int32(20))
    status, text = call("saved", large)
    assert status == 1 and "signature serving_default" in text
    assert "Mul(T=float)" in text and "while/cond" in text and "2 Inf" in text
    small = save("small.npz", x=np.zeros((3, 2), np.float32), n=np.int32(3))
    assert call("saved", small)[0] == 0
    status, text = call("saved", save("one.npz", x=np.zeros((3, 2)), m=np.int32(3)))
    assert (status, text) == (2, "one.npz has no array 'n'; it has x, m\n")


@pytest.mark.parametrize("name", ["cnn", "small_lstm", "vae"])
def test_usual_networks_have_none(call, name):
    status, text = call(models.build(name), 5)
    assert status == 0 and "training step: no NaN" in text, text


@pytest.mark.parametrize("name", ["cnn", "small_transformer", "small_lstm"])
def test_interpreter_computes_the_function(name):
    with tf.device(f"/{spine.device_type()}:0"):
        model = models.build(name)
        x = tf.constant(models.find(name).random_batch(4)[0])
        function = tf.function(lambda x: model(x, training=False)).get_concrete_function(x)
        (got,) = interpreter.Interpreter(lambda *_: None).run(function, [x])
        np.testing.assert_allclose(got, function(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "usage:"),
        (("missing.keras",), "missing.keras does not exist"),
        (("broken.keras",), "broken.keras is not a model that Keras can load"),
        (("empty",), "empty cannot be loaded as a SavedModel"),
        (("model.keras", "missing.npy"), "missing.npy cannot be read"),
        (("model.keras", "broken.npz"), "broken.npz cannot be read"),
        (("model.keras", "data.txt"), "data.txt is no .npy, .npz or seed"),
        (("model.keras", "narrow.npy"), "array of shape (3, 7); the model takes (None, 8)"),
        (("model.keras", "nan.npy"), "the data is not finite: float32[3, 8]: 24 NaN"),
        (("model.keras", "--policy=int8"), "int8 is no file and no policy"),
        (("model.keras", "--policy=broken.keras"), "holds no precision policy"),
        (("model.keras", "--policy=lost.json"), "has no layer 'lost'"),
        (("empty", "--policy=float32"), "--policy is for Keras models"),
        (("model.keras", "--batch=0"), "batch"),
    ],
)
def test_refuses_in_one_line(call, tmp_path, arguments, text):
    network().save("model.keras")
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    (tmp_path / "empty").mkdir()
    np.save("narrow.npy", np.zeros((3, 7), np.float32))
    np.save("nan.npy", np.full((3, 8), np.nan, np.float32))
    mixed_precision.Policy(layers={"lost": "mixed_float16"}).save("lost.json")
    status, printed = call(*arguments) if arguments else (nans.main([]), "usage:")
    assert status == 2 and text in printed
    assert printed.count("\n") <= 1 or "flags:" in printed


def test_command_line(run_python, tmp_path):
    network().save(tmp_path / "model.keras")
    np.save(tmp_path / "data.npy", np.full((3, 8), LARGE, np.float32))
    code = "import sys; from tensorflow_metal_py.__main__ import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["nans", str(tmp_path / "model.keras"), str(tmp_path / "data.npy")]
    run_python(code, arguments=arguments)
    result = run_python(code, arguments=[*arguments, "--policy=mixed_float16"], status=1)
    assert "boom" in result.stdout and "Traceback" not in result.stderr
