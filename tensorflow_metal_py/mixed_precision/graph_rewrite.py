"""Automatic mixed precision of graphs: the switch of the plugin's own graph pass."""

from __future__ import annotations

import os

SETTING = "TF_METAL_MIXED_PRECISION"
STOCK = "TF_METAL_STOCK_MIXED_PRECISION"  # the plugin keeps TensorFlow's own switch here
DTYPES = ("float16", "bfloat16")


def set_graph_rewrite(dtype: str | None) -> None:
    """Lets the graphs that TensorFlow optimizes from now on compute partly with 16 bits.

    A function that has run before keeps its graph. The setting is the environment variable
    TF_METAL_MIXED_PRECISION of this process, which processes started from it inherit.

    Args:
      dtype: "float16", "bfloat16", or None: graphs stay as they are, whatever TensorFlow's own
        switch says.

    Raises:
      ValueError: it is none of these.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype is 'float16', 'bfloat16' or None, not {dtype!r}")
    os.environ[SETTING] = dtype or "off"


def graph_rewrite() -> str | None:
    """To which dtype graphs are rewritten now; None if they are not."""
    setting = os.environ.get(SETTING) or "tensorflow"
    if setting == "tensorflow":
        return "float16" if os.environ.get(STOCK) == "1" else None
    return setting if setting in DTYPES else None
