"""tf.distribute over two devices on the one GPU (TF_METAL_DEVICES=2)."""

CODE = """
import numpy as np, tensorflow as tf
strategy = tf.distribute.MirroredStrategy()
assert strategy.num_replicas_in_sync == 2, strategy.extended.worker_devices

def step():
    context = tf.distribute.get_replica_context()
    x = tf.cast(context.replica_id_in_sync_group, tf.float32) + 1.0
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, x * tf.ones((5,)))
    mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, x)
    return total, mean

for run in (strategy.run, tf.function(strategy.run)):
    total, mean = run(step)
    for t, m in zip(total.values, mean.values):
        assert t.numpy().tolist() == [3.0] * 5 and float(m) == 1.5, (t, m)

def train(scope, device):
    tf.keras.utils.set_random_seed(0)
    with scope, device:
        model = tf.keras.Sequential([tf.keras.Input((8,)), tf.keras.layers.Dense(4)])
        model.compile("sgd", "mse")
        x = np.random.default_rng(0).standard_normal((64, 8)).astype("f4")
        model.fit(x, x[:, :4], batch_size=16, epochs=3, verbose=0, shuffle=False)
    return np.concatenate([w.ravel() for w in model.get_weights()])

import contextlib
both = train(strategy.scope(), contextlib.nullcontext())
cpu = train(contextlib.nullcontext(), tf.device("/CPU:0"))
np.testing.assert_allclose(both, cpu, rtol=1e-4, atol=1e-6)
print("equal")
"""


def test_mirrored_strategy_trains_like_the_cpu(run_python):
    assert "equal" in run_python(CODE, env={"TF_METAL_DEVICES": "2"}).stdout
