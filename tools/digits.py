"""The handwritten digits that scikit-learn carries, as the models of this project want them."""

from __future__ import annotations

import numpy as np

from tensorflow_metal_py import models

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def load(spec: models.Model) -> Arrays:
    """1,797 images of 8x8 numbers from 0 to 16, a fifth of them for testing.

    Args:
      spec: takes 64 elements an example, as int32 tokens (0..16) or float32 (0..1), and learns the
        digits (int64 [n]) or its input.

    Returns:
      x_train, x_test, y_train, y_test.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    x = data.data.reshape(-1, *spec.inputs)
    x = x.astype(np.int32) if spec.vocabulary else (x / 16).astype(np.float32)
    y = data.target.astype(np.int64) if spec.classes else x
    return train_test_split(x, y, test_size=0.2, random_state=0)
