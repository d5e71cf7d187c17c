"""Decompositions that are unique up to signs: they must reproduce the matrix and be orthogonal."""

import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.usefixtures("on_device")


def _adjoint(a):
    return np.swapaxes(a, -1, -2)


def _assert_orthonormal(q):
    eye = np.broadcast_to(np.eye(q.shape[-1]), (*q.shape[:-2], q.shape[-1], q.shape[-1]))
    np.testing.assert_allclose(_adjoint(q) @ q, eye, atol=1e-5)


def _matrix(kind, shape):
    rng = np.random.default_rng(0)
    a = rng.standard_normal(shape)
    if kind == "rank one":
        a = a[..., :1] * a[..., :1, :]
    if kind == "zero":
        a = a * 0
    if kind == "tiny":
        a = a * 1e-25
    if kind == "graded":
        a = a * 10.0 ** -np.arange(shape[-1])
    if kind == "equal":
        a = np.broadcast_to(np.eye(shape[-2], shape[-1]), shape)
    return a.astype(np.float32)


_KINDS = ["full", "rank one", "zero", "tiny", "graded", "equal"]


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (7, 3), (3, 7), (2, 3, 5, 4), (70, 41)])
def test_svd(kind, full, shape):
    a = _matrix(kind, shape)
    s, u, v = (x.numpy().astype("f8") for x in tf.linalg.svd(a, full_matrices=full))
    k = min(shape[-2:])
    assert (np.diff(s) <= 0).all() and (s >= 0).all()
    _assert_orthonormal(u)
    _assert_orthonormal(v)
    size = max(s.max(), 1e-37)
    np.testing.assert_allclose(
        (u[..., :k] * s[..., None, :]) @ _adjoint(v[..., :k]) / size, a / size, atol=1e-5
    )
    np.testing.assert_allclose(s / size, np.linalg.svd(a.astype("f8"))[1] / size, atol=3e-6)


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (2, 3, 5, 5), (43, 43)])
@pytest.mark.parametrize("is_complex", [False, True], ids=["float32", "complex64"])
def test_self_adjoint_eig(kind, shape, is_complex):
    a = _matrix(kind, shape)
    if is_complex:
        a = (a + 1j * _matrix(kind, shape)[..., ::-1, :]).astype("complex64")
    a = a + np.conj(_adjoint(a))
    wide = "c16" if is_complex else "f8"
    e, v = (x.numpy().astype(wide) for x in tf.linalg.eigh(np.tril(a)))  # the lower part counts
    if is_complex:
        np.testing.assert_array_equal(e.imag, 0)
    assert (np.diff(e.real) >= 0).all()
    identity = np.broadcast_to(np.eye(shape[-1]), v.shape)
    np.testing.assert_allclose(np.conj(_adjoint(v)) @ v, identity, atol=2e-5)
    size = max(abs(e).max(), 1e-37)
    np.testing.assert_allclose(
        (v * e[..., None, :]) @ np.conj(_adjoint(v)) / size, a / size, atol=1e-5
    )
    # A complex rotation rounds about twice as often.
    atol = 6e-6 if is_complex else 3e-6
    np.testing.assert_allclose(e / size, np.linalg.eigvalsh(a.astype(wide)) / size, atol=atol)


def test_not_a_number_gives_not_a_number():
    a = tf.constant([[1.0, np.nan], [np.inf, 1.0]])
    assert np.isnan(tf.linalg.svd(a, compute_uv=False).numpy()).all()


def test_not_positive_definite_gives_not_a_number():
    good = np.eye(2, dtype=np.float32)
    lower = np.tril(np.full((2, 2), np.nan))
    np.testing.assert_array_equal(tf.linalg.cholesky([good, -good]), [good, lower])


def test_singular_matrices():
    a = tf.constant([[1.0, 2.0], [2.0, 4.0]])
    assert tf.linalg.det(a).numpy() == 0
    sign, log = tf.linalg.slogdet(a)
    assert sign.numpy() == 0 and log.numpy() == -np.inf


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (2, 3, 6), (33, 40)])
def test_singular_values_alone_and_their_gradient(shape):
    a = tf.constant(_matrix("full", shape))
    with tf.GradientTape() as tape:
        tape.watch(a)
        s = tf.linalg.svd(a, compute_uv=False)
    tf.config.set_soft_device_placement(True)
    u, expected, v = np.linalg.svd(a.numpy().astype("f8"), full_matrices=False)
    np.testing.assert_allclose(s, expected, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(s, a), u @ v, atol=1e-4)


def test_gradient_of_eigenvalues():
    a = tf.constant(_matrix("full", (5, 5)))
    a = a + tf.linalg.matrix_transpose(a)
    with tf.GradientTape() as tape:
        tape.watch(a)
        e = tf.linalg.eigvalsh(a)
    tf.config.set_soft_device_placement(True)
    np.testing.assert_allclose(tape.gradient(e, a), np.eye(5), atol=1e-4)


def test_gradient_of_least_squares():
    tf.config.set_soft_device_placement(True)
    a = tf.constant(_matrix("full", (6, 3)))
    b = tf.constant(_matrix("full", (6, 2)))
    with tf.GradientTape() as tape:
        tape.watch(a)
        x = tf.reduce_sum(tf.linalg.lstsq(a, b))
    actual = tape.gradient(x, a).numpy()
    with tf.device("/CPU:0"), tf.GradientTape() as tape:
        tape.watch(a)
        x = tf.reduce_sum(tf.linalg.lstsq(a, b))
        expected = tape.gradient(x, a).numpy()
    np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5)
