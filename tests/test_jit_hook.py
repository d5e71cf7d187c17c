"""The Python hook: Keras and tf.function do without XLA, memory functions ask the plugin."""

import pytest

FIT = """
import numpy as np
import keras
model = keras.Sequential([keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)])
model.compile(optimizer="sgd", loss="mse"{more})
history = model.fit(np.ones([16, 3], "float32"), np.ones([16, 1], "float32"), epochs=2, verbose=0)
losses = history.history["loss"]
assert losses[1] < losses[0], losses
model.predict(np.ones([4, 3], "float32"), verbose=0)
print("jit", model.jit_compile)
"""
COMPILED = """
import tensorflow as tf
@tf.function(jit_compile=True)
def f(x):
    return x * 2.0 + 1.0
"""
WARNING = "XLA cannot compile for Metal"


@pytest.mark.parametrize("first", ["import tensorflow", "import keras", ""])
def test_plain_fit_works(run_python, first):
    result = run_python(f"{first}\n{FIT.format(more='')}")
    assert "jit False" in result.stdout
    assert WARNING not in result.stderr


def test_fit_that_asks_for_jit_works(run_python):
    result = run_python(FIT.format(more=", jit_compile=True"))
    assert "jit False" in result.stdout


def test_keras_compiles_where_the_device_is_hidden(run_python):
    """What Keras does without the plugin must stay: here XLA compiles for the CPU."""
    hide = "import tensorflow as tf\ntf.config.set_visible_devices([], 'GPU')\nimport keras\n"
    check = (
        "from keras.src.trainers import trainer\n"
        "assert trainer.model_supports_jit(keras.Sequential([keras.layers.Dense(1)]))"
    )
    run_python(hide + check)


def test_function_with_jit_compile_warns_once(run_python):
    code = COMPILED + (
        "@tf.function(jit_compile=True)\n"
        "def g(x): return f(x) - 1.0\n"
        "assert f(tf.constant(3.0)) == 7.0\n"
        "assert g(tf.constant(3.0)) == 6.0\n"
        "assert f(tf.constant([1.0, 2.0])).numpy().tolist() == [3.0, 5.0]\n"
    )
    result = run_python(code)
    assert result.stderr.count(WARNING) == 1


def test_function_on_the_cpu_is_compiled(run_python):
    code = COMPILED + (
        "with tf.device('CPU:0'):\n"
        "    x = tf.constant(3.0)\n"
        "    assert f(x) == 7.0\n"
        "    assert 'HloModule' in f.experimental_get_compiler_ir(x)(stage='hlo')\n"
    )
    result = run_python(code)
    assert WARNING not in result.stderr


@pytest.mark.parametrize(
    "env", [{"TF_METAL_DISABLE": "1"}, {"TF_METAL_JIT_HOOK": "0"}], ids=["declined", "switched_off"]
)
def test_nothing_is_changed_without_device_or_hook(run_python, env):
    code = """
import sys
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.eager.polymorphic_function import polymorphic_function
assert "_jit_compile" not in vars(polymorphic_function.Function)
assert not hasattr(context.Context.get_memory_info, "__wrapped__")
assert not [f for f in sys.meta_path if type(f).__name__ == "KerasFinder"]
"""
    run_python(code, env=env)


def test_the_switch_shows_what_the_hook_is_for(run_python):
    """Without it, the failure that it prevents: the hook is not a leftover."""
    code = (
        COMPILED
        + """
try:
    f(tf.constant(3.0))
except tf.errors.UnimplementedError as e:
    assert "compiler for platform METAL" in str(e), e
else:
    raise AssertionError("XLA compiled for METAL: the hook is no longer needed")
"""
    )
    run_python(code, env={"TF_METAL_JIT_HOOK": "0"})


MEMORY = """
import tensorflow as tf
import tensorflow_metal_py as metal
with tf.device("GPU:0"):
    kept = tf.identity(tf.zeros([1 << 20]))
"""


def test_memory_functions_ask_the_plugin(run_python):
    code = (
        MEMORY
        + """
get = tf.config.experimental.get_memory_info
info = get("GPU:0")
ours = metal.memory_info()
assert info == {"current": ours["current"], "peak": ours["peak"]}, (info, ours)
assert info["current"] >= 1 << 22
assert tf.config.experimental.get_memory_usage("/device:GPU:0") == info["current"]
del kept
tf.config.experimental.reset_memory_stats("GPU:0")
assert get("GPU:0")["peak"] < info["peak"]
"""
    )
    run_python(code)


def test_other_devices_answer_as_before(run_python):
    code = (
        MEMORY
        + """
from tensorflow.python.eager import context
original = context.Context.get_memory_info.__wrapped__
def outcome(function, *arguments):
    try:
        return function(*arguments)
    except Exception as e:
        return type(e), str(e)
for name in ("CPU:0", "TPU:0", "", "nonsense"):
    expected = outcome(original, context.context(), name)
    assert outcome(tf.config.experimental.get_memory_info, name) == expected, name
"""
    )
    run_python(code)


def test_main_module_is_left_alone(run_python):
    run_python("import tensorflow\nassert not {'exec', 'install', 'DEVICE_TYPE'} & set(globals())")
