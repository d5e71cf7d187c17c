"""Small Keras models of the usual kinds, without data or weights from elsewhere.

The demo, the benchmark and the tests train them. Each entry of `MODELS` builds an uncompiled model
and makes random batches for it; `build` compiles it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Model:
    """How to build a model and what to feed it.

    Attributes:
      make: builds the model, under the current Keras policy; its logits are float32.
      inputs: shape of one example, without the batch axis.
      classes: number of classes of its sparse labels; 0 for models that learn their input.
      vocabulary: inputs are int32 tokens below this; 0 for float32 inputs.
      batch: examples per step in the benchmark.
      summary: one line for listings.
    """

    make: Callable[[Model], keras.Model]
    inputs: tuple[int, ...]
    classes: int = 10
    vocabulary: int = 0
    batch: int = 32
    summary: str = ""

    def random_batch(self, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [size, *inputs] (float32 in 0..1, or int32 tokens) and targets: int64 labels
        [size], or the inputs."""
        rng = np.random.default_rng(seed)
        if self.vocabulary:
            x = rng.integers(1, self.vocabulary, (size, *self.inputs), dtype=np.int32)
        else:
            x = rng.uniform(size=(size, *self.inputs)).astype(np.float32)
        return x, rng.integers(0, self.classes, size) if self.classes else x


def build(name: str, learning_rate: float = 1e-3, seed: int = 0, **changes: Any) -> keras.Model:
    """The model, compiled with Adam. `changes` replace fields of its `Model`.

    Raises:
      ValueError: there is no model of that name.
    """
    import keras

    spec = find(name, **changes)
    keras.utils.set_random_seed(seed)
    model = spec.make(spec)
    if spec.classes:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:
        loss = keras.losses.MeanSquaredError()
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss,
        metrics=["accuracy"] if spec.classes else [],
    )
    return model


def find(name: str, **changes: Any) -> Model:
    """The `Model` of that name with `changes` to its fields; ValueError if there is none."""
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}; known are {', '.join(sorted(MODELS))}")
    return dataclasses.replace(MODELS[name], **changes)


def _classify(x: Any, classes: int) -> Any:
    import keras

    return keras.layers.Dense(classes, dtype="float32")(x)


def _mlp(spec: Model) -> keras.Model:
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(spec.inputs),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(256, activation="relu"),
            layers.Dense(spec.classes, dtype="float32"),
        ]
    )


def _cnn(spec: Model) -> keras.Model:
    """Two convolutional blocks with batch normalisation, pooling and dropout."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(spec.inputs),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),  # settles within a few hundred steps
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.1),
            layers.Dense(spec.classes, dtype="float32"),
        ]
    )


def _residual_block(x: Any, filters: int, stride: int, momentum: float) -> Any:
    from keras import layers

    def convolve(x, size, stride=1):
        x = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=momentum)(x)

    shortcut = x
    if stride != 1 or x.shape[-1] != filters:
        shortcut = convolve(x, 1, stride)
    x = convolve(layers.ReLU()(convolve(x, 3, stride)), 3)
    return layers.ReLU()(layers.Add()([x, shortcut]))


def _resnet(
    spec: Model, widths: tuple[int, ...] = (64, 128, 256, 512), momentum: float = 0.99
) -> keras.Model:
    """ResNet-18 for small images: He et al. 2015, without the first pooling."""
    from keras import Input, Model, layers

    inputs = Input(spec.inputs)
    x = layers.Conv2D(widths[0], 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization(momentum=momentum)(x))
    for i, filters in enumerate(widths):
        x = _residual_block(x, filters, 2 if i else 1, momentum)
        x = _residual_block(x, filters, 1, momentum)
    return Model(inputs, _classify(layers.GlobalAveragePooling2D()(x), spec.classes))


def _small_resnet(spec: Model) -> keras.Model:
    return _resnet(spec, widths=(16, 32), momentum=0.9)


def _transformer(spec: Model, width: int = 256, blocks: int = 4, heads: int = 4) -> keras.Model:
    """A pre-norm encoder (Xiong et al. 2020) over tokens or feature vectors."""
    from keras import Input, Model, layers

    if spec.vocabulary:
        inputs = Input(spec.inputs, dtype="int32")
        x = layers.Embedding(spec.vocabulary, width)(inputs)
    else:
        inputs = Input(spec.inputs)
        x = layers.Dense(width)(inputs)
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(heads, width // heads)(y, y)])
        y = layers.LayerNormalization()(x)
        y = layers.Dense(width)(layers.Dense(4 * width, activation="gelu")(y))
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return Model(inputs, _classify(x, spec.classes))


def _small_transformer(spec: Model) -> keras.Model:
    return _transformer(spec, width=32, blocks=2, heads=2)


def _on_cpu() -> bool:
    """Whether the model is made under `tf.device("CPU")`."""
    from tensorflow.python.eager import context

    return "CPU" in (context.context().device_name or "").upper()


def _recurrent(layer: str, units: int) -> Callable[[Model], keras.Model]:
    def make(spec: Model) -> keras.Model:
        import keras
        from keras import Input, Sequential, layers

        return Sequential(
            [
                Input(spec.inputs),
                # With a GPU in the process Keras takes CudnnRNN, which no CPU has: TensorFlow would
                # run it on the GPU.
                getattr(keras.layers, layer)(units, use_cudnn=False if _on_cpu() else "auto"),
                layers.Dense(spec.classes, dtype="float32"),
            ]
        )

    return make


def _embedding(spec: Model) -> keras.Model:
    """A bag of tokens: embedding, mean, dense."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(spec.inputs, dtype="int32"),
            layers.Embedding(spec.vocabulary, 32),
            layers.Flatten(),
            layers.Dropout(0.1),
            layers.Dense(64, activation="relu"),
            layers.Dense(spec.classes, dtype="float32"),
        ]
    )


def _vae(spec: Model) -> keras.Model:
    """A variational autoencoder (Kingma and Welling 2013) that adds its own KL loss."""
    import keras
    from keras import Input, layers

    @keras.saving.register_keras_serializable("tensorflow_metal_py")
    class Sample(layers.Layer):
        def __init__(self, seed: int = 0, **kwargs: Any):
            super().__init__(**kwargs)
            self.generator = keras.random.SeedGenerator(seed)

        def call(self, inputs):
            mean, log_variance = inputs
            kl = 1 + log_variance - keras.ops.square(mean) - keras.ops.exp(log_variance)
            self.add_loss(-5e-4 * keras.ops.mean(keras.ops.cast(kl, "float32")))
            noise = keras.random.normal(keras.ops.shape(mean), seed=self.generator)
            return mean + keras.ops.exp(0.5 * log_variance) * keras.ops.cast(noise, mean.dtype)

    size = int(np.prod(spec.inputs))
    inputs = Input(spec.inputs)
    x = layers.Dense(128, activation="relu")(layers.Flatten()(inputs))
    z = Sample()([layers.Dense(8)(x), layers.Dense(8)(x)])
    x = layers.Dense(128, activation="relu")(z)
    x = layers.Dense(size, activation="sigmoid", dtype="float32")(x)
    return keras.Model(inputs, layers.Reshape(spec.inputs)(x))


def _unet(spec: Model) -> keras.Model:
    """Two levels down and up (Ronneberger et al. 2015), learning its input."""
    from keras import Input, Model, layers

    def convolve(x, filters):
        return layers.Conv2D(filters, 3, padding="same", activation="relu")(x)

    inputs = Input(spec.inputs)
    top = convolve(inputs, 16)
    middle = convolve(layers.MaxPooling2D()(top), 32)
    x = convolve(layers.MaxPooling2D()(middle), 64)
    x = layers.Conv2DTranspose(32, 2, strides=2)(x)
    x = convolve(layers.Concatenate()([x, middle]), 32)
    x = layers.UpSampling2D(interpolation="bilinear")(x)
    x = convolve(layers.Concatenate()([x, top]), 16)
    return Model(inputs, layers.Conv2D(spec.inputs[-1], 1, dtype="float32")(x))


def _application(name: str) -> Callable[[Model], keras.Model]:
    def make(spec: Model) -> keras.Model:
        import keras

        base = getattr(keras.applications, name)(
            include_top=False, weights=None, input_shape=spec.inputs, pooling="avg"
        )
        return keras.Model(base.input, _classify(base.output, spec.classes))

    return make


_SEQUENCE = (8, 8)
MODELS = {
    "mlp": Model(_mlp, (32, 32, 3), batch=256, summary="3 dense layers"),
    "cnn": Model(_cnn, (8, 8, 1), summary="2 convolutions with batch normalisation"),
    "resnet": Model(_resnet, (32, 32, 3), batch=64, summary="ResNet-18 for 32x32 images"),
    "small_resnet": Model(_small_resnet, (8, 8, 1), summary="residual network of 10 layers"),
    "transformer": Model(
        _transformer, (128,), vocabulary=1000, batch=16, summary="4-layer encoder, width 256"
    ),
    "small_transformer": Model(_small_transformer, _SEQUENCE, summary="2-layer encoder, width 32"),
    "lstm": Model(_recurrent("LSTM", 256), (64, 64), batch=32, summary="LSTM(256), length 64"),
    "gru": Model(_recurrent("GRU", 256), (64, 64), batch=32, summary="GRU(256), length 64"),
    "small_lstm": Model(_recurrent("LSTM", 64), _SEQUENCE, summary="LSTM(64)"),
    "embedding": Model(_embedding, (64,), vocabulary=17, summary="embedding classifier"),
    "vae": Model(_vae, (8, 8, 1), classes=0, summary="variational autoencoder"),
    "unet": Model(_unet, (32, 32, 1), classes=0, batch=8, summary="U-Net of two levels"),
    "resnet50": Model(_application("ResNet50"), (32, 32, 3), batch=8, summary="ResNet50"),
    "mobilenet": Model(_application("MobileNetV2"), (32, 32, 3), batch=16, summary="MobileNetV2"),
    "efficientnet": Model(
        _application("EfficientNetB0"), (32, 32, 3), batch=8, summary="EfficientNetB0"
    ),
}
