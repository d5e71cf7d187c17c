"""Lower precision where it is fast and does no harm: docs/mixed_precision.md.

>>> from tensorflow_metal_py import mixed_precision
>>> policy = mixed_precision.tune(model, (x, y))  # measures, prints a table
>>> model = policy.apply(model)
>>> policy.save("policy.json")
"""

from tensorflow_metal_py.mixed_precision.autocast import autocast
from tensorflow_metal_py.mixed_precision.graph_rewrite import graph_rewrite, set_graph_rewrite
from tensorflow_metal_py.mixed_precision.policy import FLOAT32, LayerMeasurement, Policy
from tensorflow_metal_py.mixed_precision.tuner import tune

__all__ = [
    "FLOAT32",
    "LayerMeasurement",
    "Policy",
    "autocast",
    "graph_rewrite",
    "set_graph_rewrite",
    "tune",
]
