"""Every layer that Keras 3 and tf_keras have, with inputs for it."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import keras
import numpy as np
import tf_keras

PACKAGES = {"keras": keras, "tf_keras": tf_keras}

VECTOR, SEQUENCE = (6,), (6, 4)
IMAGE, VOLUME = (8, 8, 3), (4, 4, 4, 2)


@dataclasses.dataclass(frozen=True)
class Layer:
    """How to make a layer and what to feed it.

    Attributes:
      kwargs: of its constructor; functions take the package and give the argument.
      inputs: shape of one example of each input, without the batch axis.
      tokens: inputs are integers below this; 0: float32 in -1..1.
      random: what it gives in training is drawn at random.
      unit: inputs are in 0..1, as images are.
      cpu_ops: what of it the device has not: Keras computes in float64 there, or draws from a
        gamma distribution.
      packages: that have it.
    """

    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    inputs: tuple[tuple[int, ...], ...] = (SEQUENCE,)
    tokens: int = 0
    random: bool = False
    unit: bool = False
    cpu_ops: frozenset[str] = frozenset()
    packages: tuple[str, ...] = ("keras", "tf_keras")

    def make(self, package: str, name: str):
        k = PACKAGES[package]
        layer = getattr(k.layers, name)
        known = inspect.signature(layer).parameters
        kwargs = {n: v(k.layers) if inspect.isfunction(v) else v for n, v in self.kwargs.items()}
        return layer(**{n: v for n, v in kwargs.items() if n != "value_range" or n in known})

    def arrays(self, batch: int = 4) -> list[np.ndarray]:
        rng = np.random.default_rng(7)
        shapes = [(batch, *shape) for shape in self.inputs]
        if self.tokens:
            return [rng.integers(1, self.tokens, shape, dtype=np.int32) for shape in shapes]
        low = 0 if self.unit else -1
        return [rng.uniform(low, 1, shape).astype(np.float32) for shape in shapes]


def _each(names: str, **fields: Any) -> dict[str, Layer]:
    return {name: Layer(**fields) for name in names.split()}


_IMAGE, _VOLUME = {"inputs": (IMAGE,)}, {"inputs": (VOLUME,)}
_AUGMENT = {"inputs": (IMAGE,), "random": True, "unit": True}
_DROP = {"kwargs": {"rate": 0.3}, "random": True}
# Keras draws orthogonal weights by a decomposition that TensorFlow has not in bfloat16.
_GLOROT = {"recurrent_initializer": "glorot_uniform"}
_FLOAT64, _GAMMA = frozenset({"Cast"}), frozenset({"StatelessRandomGammaV3"})
_KERAS_3 = {"packages": ("keras",)}
_TF_KERAS = {"packages": ("tf_keras",)}

LAYERS: dict[str, Layer] = {
    # activations
    "Activation": Layer({"activation": "gelu"}),
    **_each("ELU LeakyReLU PReLU ReLU Softmax"),
    "ThresholdedReLU": Layer(**_TF_KERAS),
    # attention
    **_each("AdditiveAttention Attention", inputs=(SEQUENCE, SEQUENCE)),
    "GroupQueryAttention": Layer(
        {"head_dim": 4, "num_query_heads": 4, "num_key_value_heads": 2},
        inputs=(SEQUENCE, SEQUENCE),
        **_KERAS_3,
    ),
    "MultiHeadAttention": Layer({"num_heads": 2, "key_dim": 3}, inputs=(SEQUENCE, SEQUENCE)),
    # convolutions
    **_each("Conv1D Conv1DTranspose SeparableConv1D", kwargs={"filters": 5, "kernel_size": 3}),
    **_each(
        "Conv2D Conv2DTranspose SeparableConv2D", kwargs={"filters": 5, "kernel_size": 3}, **_IMAGE
    ),
    **_each("Conv3D Conv3DTranspose", kwargs={"filters": 5, "kernel_size": 2}, **_VOLUME),
    "DepthwiseConv1D": Layer({"kernel_size": 3}),
    "DepthwiseConv2D": Layer({"kernel_size": 3}, **_IMAGE),
    "LocallyConnected1D": Layer({"filters": 2, "kernel_size": 3}, **_TF_KERAS),
    "LocallyConnected2D": Layer(
        {"filters": 2, "kernel_size": 3, "implementation": 2}, **_IMAGE, **_TF_KERAS
    ),
    # core
    "Dense": Layer({"units": 5, "activation": "tanh"}),
    "EinsumDense": Layer({"equation": "abc,cd->abd", "output_shape": (None, 5), "bias_axes": "d"}),
    "Embedding": Layer({"input_dim": 9, "output_dim": 5}, inputs=((6,),), tokens=9),
    "ReversibleEmbedding": Layer(
        {"input_dim": 9, "output_dim": 5}, inputs=((6,),), tokens=9, **_KERAS_3
    ),
    "Identity": Layer(),
    "Lambda": Layer({"function": lambda _: _double}),
    "Masking": Layer(),
    # merging
    **_each(
        "Add Average Concatenate Maximum Minimum Multiply Subtract", inputs=(SEQUENCE, SEQUENCE)
    ),
    "Dot": Layer({"axes": 2}, inputs=(SEQUENCE, SEQUENCE)),
    # normalization
    **_each("BatchNormalization LayerNormalization UnitNormalization"),
    "GroupNormalization": Layer({"groups": 2}),
    "RMSNormalization": Layer(**_KERAS_3),
    "SpectralNormalization": Layer({"layer": lambda layers: layers.Dense(5)}),
    # pooling
    **_each("AveragePooling1D MaxPooling1D", kwargs={"pool_size": 2}),
    **_each("AveragePooling2D MaxPooling2D", kwargs={"pool_size": 2}, **_IMAGE),
    **_each("AveragePooling3D MaxPooling3D", kwargs={"pool_size": 2}, **_VOLUME),
    **_each("GlobalAveragePooling1D GlobalMaxPooling1D"),
    **_each("GlobalAveragePooling2D GlobalMaxPooling2D", **_IMAGE),
    **_each("GlobalAveragePooling3D GlobalMaxPooling3D", **_VOLUME),
    **_each("AdaptiveAveragePooling1D AdaptiveMaxPooling1D", kwargs={"output_size": 3}, **_KERAS_3),
    **_each(
        "AdaptiveAveragePooling2D AdaptiveMaxPooling2D",
        kwargs={"output_size": 3},
        **_IMAGE,
        **_KERAS_3,
    ),
    **_each(
        "AdaptiveAveragePooling3D AdaptiveMaxPooling3D",
        kwargs={"output_size": 2},
        **_VOLUME,
        **_KERAS_3,
    ),
    # regularization
    **_each("Dropout AlphaDropout GaussianDropout SpatialDropout1D", **_DROP),
    "GaussianNoise": Layer({"stddev": 0.1}, random=True),
    "SpatialDropout2D": Layer(**_DROP, **_IMAGE),
    "SpatialDropout3D": Layer(**_DROP, **_VOLUME),
    "ActivityRegularization": Layer({"l2": 0.1}),
    # shapes
    **_each("Cropping1D Flatten UpSampling1D ZeroPadding1D"),
    **_each("Cropping2D ZeroPadding2D", **_IMAGE),
    "UpSampling2D": Layer({"interpolation": "bilinear"}, **_IMAGE),
    **_each("Cropping3D UpSampling3D ZeroPadding3D", **_VOLUME),
    "Permute": Layer({"dims": (2, 1)}),
    "RepeatVector": Layer({"n": 3}, inputs=(VECTOR,)),
    "Reshape": Layer({"target_shape": (4, 6)}),
    # recurrent
    **_each("GRU LSTM SimpleRNN", kwargs={"units": 5, **_GLOROT}),
    "Bidirectional": Layer({"layer": lambda layers: layers.LSTM(5, **_GLOROT)}),
    "RNN": Layer({"cell": lambda layers: layers.LSTMCell(5, **_GLOROT)}),
    "StackedRNNCells": Layer(),  # see `wrapped`
    **_each("GRUCell LSTMCell SimpleRNNCell", kwargs={"units": 5, **_GLOROT}),
    "TimeDistributed": Layer({"layer": lambda layers: layers.Dense(5)}),
    "ConvLSTM1D": Layer({"filters": 3, "kernel_size": 2, **_GLOROT}, inputs=((3, 6, 4),)),
    "ConvLSTM2D": Layer({"filters": 3, "kernel_size": 2, **_GLOROT}, inputs=((3, 5, 5, 2),)),
    "ConvLSTM3D": Layer({"filters": 2, "kernel_size": 2, **_GLOROT}, inputs=((2, 4, 4, 4, 2),)),
    # preprocessing of numbers and images
    "CategoryEncoding": Layer({"num_tokens": 9}, inputs=((6,),), tokens=9),
    "Rescaling": Layer({"scale": 0.5, "offset": 0.1}, **_IMAGE),
    "Normalization": Layer({"mean": 0.2, "variance": 2.0}),
    "CenterCrop": Layer({"height": 4, "width": 4}, **_IMAGE),
    "Resizing": Layer({"height": 5, "width": 7}, **_IMAGE),
    "MelSpectrogram": Layer(
        {"fft_length": 32, "sequence_stride": 16, "sampling_rate": 100, "num_mel_bins": 4,
         "min_freq": 1.0},
        inputs=((64,),), **_KERAS_3,
    ),
    "STFTSpectrogram": Layer(
        {"frame_length": 16, "frame_step": 8, "fft_length": 16, "mode": "magnitude"},
        inputs=((64, 1),), **_KERAS_3
    ),
    **_each("RandomFlip", **_AUGMENT),
    **_each(
        "AutoContrast CutMix RandomGrayscale RandomInvert "
        "ContrastLimitedAdaptiveHistogramEqualization RandomElasticTransform RandomErasing "
        "RandomGaussianBlur RandomPerspective Solarization",
        kwargs={"value_range": (0, 1)},
        **_AUGMENT,
        **_KERAS_3,
    ),
    **_each(
        "Equalization RandAugment", kwargs={"value_range": (0, 1)}, cpu_ops=_FLOAT64, **_AUGMENT,
        **_KERAS_3,
    ),
    "AugMix": Layer({"value_range": (0, 1)}, cpu_ops=_FLOAT64 | _GAMMA, **_AUGMENT, **_KERAS_3),
    "MixUp": Layer(cpu_ops=_GAMMA, **_AUGMENT, **_KERAS_3),
    "RandomShear": Layer({"x_factor": 0.2, "y_factor": 0.2}, **_AUGMENT, **_KERAS_3),
    "RandomColorJitter": Layer(
        {"value_range": (0, 1), "brightness_factor": 0.2, "contrast_factor": 0.2}, **_AUGMENT,
        **_KERAS_3,
    ),
    "RandomPosterization": Layer({"factor": 4, "value_range": (0, 1)}, **_AUGMENT, **_KERAS_3),
    **_each(
        "RandomColorDegeneration RandomHue RandomSaturation RandomSharpness",
        kwargs={"factor": 0.2, "value_range": (0, 1)}, **_AUGMENT, **_KERAS_3,
    ),
    **_each(
        "RandomBrightness RandomContrast RandomRotation",
        kwargs={"factor": 0.2, "value_range": (0, 1)}, **_AUGMENT,
    ),
    "RandomZoom": Layer({"height_factor": 0.2}, **_AUGMENT),
    "RandomTranslation": Layer({"height_factor": 0.2, "width_factor": 0.2}, **_AUGMENT),
    "RandomCrop": Layer({"height": 4, "width": 4}, **_AUGMENT),
    **_each("RandomHeight RandomWidth", kwargs={"factor": 0.2}, **_AUGMENT, **_TF_KERAS),
}  # fmt: skip

# What is not swept, and why.
EXCLUDED = {
    **dict.fromkeys(
        "Layer Wrapper AbstractRNNCell InputLayer DenseFeatures Pipeline".split(),
        "has no computation of its own",
    ),
    **dict.fromkeys(
        "TFSMLayer FlaxLayer JaxLayer TorchModuleWrapper".split(), "wraps a model of another kind"
    ),
    **dict.fromkeys(
        "Discretization HashedCrossing Hashing IntegerLookup StringLookup TextVectorization "
        "MaxNumBoundingBoxes".split(),
        "of integers, strings or boxes: preprocessing of data, with no float to compute",
    ),
}


@keras.saving.register_keras_serializable()
@tf_keras.saving.register_keras_serializable()
def _double(x):
    return x * 2.0


def names(package: str) -> list[str]:
    """The layers of a package, each under one of its names."""
    layers = PACKAGES[package].layers
    found = {}
    for name, value in vars(layers).items():
        if inspect.isclass(value) and issubclass(value, layers.Layer):
            found.setdefault(value, name)
            if name in LAYERS or name in EXCLUDED:
                found[value] = name
    return sorted(found.values())


def wrapped(package: str, name: str):
    """The layer; a recurrent cell inside of an RNN layer."""
    layers = PACKAGES[package].layers
    if name == "StackedRNNCells":
        return layers.RNN(
            layers.StackedRNNCells([layers.GRUCell(5, **_GLOROT), layers.LSTMCell(3, **_GLOROT)])
        )
    layer = LAYERS[name].make(package, name)
    return layers.RNN(layer) if name.endswith("Cell") else layer
