"""The recorded vectors: cases of ops, graphs of fusions, and the methods that the plugin uses.

One file, golden.npz. Its array "index" is a JSON text; inputs of ops are not stored but drawn from
their seed (a checksum tells if another NumPy draws otherwise); all other values are elements of one
long array per type, whose bytes are stored by significance, because that compresses better.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from tensorflow_metal_py.selftest.cases import Case, Host, Tensor

PATH = pathlib.Path(__file__).with_name("golden.npz")
INDEX, GRAPHS, VALUES = "index", "graphs", "values_"


@dataclasses.dataclass(frozen=True)
class OpVector:
    """A case and what TensorFlow's CPU kernel answers.

    `dtype`: of the kernel, by its first type attribute. `checksum`: of the inputs.
    """

    case: Case
    dtype: str
    seed: int
    special: bool
    checksum: int
    outputs: list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class FusionVector:
    """A serialized GraphDef in which `pattern` fires at least `count` times.

    `feeds`: values of its placeholders. `outputs`: what TensorFlow's CPU kernels answer for
    `fetches`. `options`: of tf.config.optimizer.
    """

    name: str
    pattern: str
    dtype: str
    count: int
    options: dict[str, bool]
    graph: bytes
    feeds: dict[str, np.ndarray]
    fetches: list[str]
    outputs: list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Golden:
    """`methods`: [class, "+" or "-", selector, types, first macOS (1503 is 15.3)]."""

    tensorflow: str
    methods: list[list[Any]]
    shaders: list[str]
    ops: list[OpVector]
    fusions: list[FusionVector]


def checksum(inputs: Any) -> int:
    """Of the values of all tensors in a structure."""
    total = 0
    for x in tf.nest.flatten(inputs):
        if tf.is_tensor(x):
            total = zlib.crc32(np.ascontiguousarray(x.numpy()).tobytes(), total)
    return total


def imported(graph: Any, feeds: Iterable[str], fetches: list[str]) -> Any:
    """A function of the values of `feeds` that answers `fetches`; on the current device."""
    import_it = lambda: tf.import_graph_def(graph, name="")  # noqa: E731
    function = tf.compat.v1.wrap_function(import_it, [])
    inside = function.graph
    return function.prune(
        [inside.get_tensor_by_name(f"{name}:0") for name in feeds],
        [inside.get_tensor_by_name(name) for name in fetches],
    )


# ---- specifications as JSON ---------------------------------------------------------------------


def _to_json(spec: Any) -> Any:
    if isinstance(spec, Tensor):
        return {"tensor": [list(spec.shape), spec.kind, spec.dtype]}
    if isinstance(spec, Host):
        return {"host": [spec.value, spec.dtype]}
    if isinstance(spec, list):
        return [_to_json(x) for x in spec]
    if isinstance(spec, (str, int, float, bool, type(None))):
        return spec
    raise TypeError(f"no way to record {spec!r}")


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(x) for x in value]
    if isinstance(value, dict):
        ((kind, parts),) = value.items()
        return Tensor(tuple(parts[0]), *parts[1:]) if kind == "tensor" else Host(*parts)
    return value


CASE_FIELDS = ("op", "attrs", "dtype", "types", "scale", "exact", "stateful", "label")


def _case_to_json(case: Case) -> dict[str, Any]:
    args = {name: _to_json(spec) for name, spec in case.args.items()}
    return {"args": args, **{name: getattr(case, name) for name in CASE_FIELDS}}


def _case_from_json(fields: dict[str, Any]) -> Case:
    args = {name: _from_json(spec) for name, spec in fields["args"].items()}
    return Case(args=args, **{name: fields[name] for name in CASE_FIELDS})


# ---- values -------------------------------------------------------------------------------------


class _Writer:
    """Collects arrays; `add` answers where one is."""

    def __init__(self):
        self.parts: dict[str, list[np.ndarray]] = {}
        self.sizes: dict[str, int] = {}

    def add(self, array: np.ndarray) -> list[Any]:
        name = tf.as_dtype(array.dtype).name
        at = self.sizes.get(name, 0)
        self.parts.setdefault(name, []).append(np.ravel(array))
        self.sizes[name] = at + array.size
        return [name, at, list(array.shape)]

    def arrays(self) -> dict[str, np.ndarray]:
        result = {}
        for name, parts in self.parts.items():
            flat = np.concatenate(parts)
            result[VALUES + name] = flat.view(np.uint8).reshape(-1, flat.itemsize).T.copy()
        return result


class _Reader:
    def __init__(self, archive: Any):
        self.flat = {}
        for key in archive.files:
            if key.startswith(VALUES):
                name = key.removeprefix(VALUES)
                dtype = tf.as_dtype(name).as_numpy_dtype
                self.flat[name] = np.ascontiguousarray(archive[key].T).reshape(-1).view(dtype)

    def get(self, place: list[Any]) -> np.ndarray:
        name, at, shape = place
        size = int(np.prod(shape, dtype=np.int64))
        return self.flat[name][at : at + size].reshape(shape)


def write(golden: Golden, path: pathlib.Path) -> None:
    values, graphs, at = _Writer(), [], 0
    ops = [
        {
            "case": _case_to_json(v.case),
            "dtype": v.dtype,
            "seed": v.seed,
            "special": v.special,
            "checksum": v.checksum,
            "outputs": [values.add(y) for y in v.outputs],
        }
        for v in golden.ops
    ]
    fusions = []
    for v in golden.fusions:
        fusions.append(
            {
                **{name: getattr(v, name) for name in ("name", "pattern", "dtype", "count")},
                "options": v.options,
                "graph": [at, len(v.graph)],
                "feeds": {name: values.add(x) for name, x in v.feeds.items()},
                "fetches": v.fetches,
                "outputs": [values.add(y) for y in v.outputs],
            }
        )
        graphs.append(v.graph)
        at += len(v.graph)
    index = {name: getattr(golden, name) for name in ("tensorflow", "methods", "shaders")}
    text = json.dumps({**index, "ops": ops, "fusions": fusions}, separators=(",", ":"))
    arrays = {
        INDEX: np.frombuffer(text.encode(), np.uint8),
        GRAPHS: np.frombuffer(b"".join(graphs), np.uint8),
    }
    np.savez_compressed(path, **arrays, **values.arrays())


def read(path: pathlib.Path = PATH) -> Golden:
    """Raises OSError or ValueError when there is no such file or it is damaged."""
    with np.load(path) as archive:
        index = json.loads(archive[INDEX].tobytes())
        graphs = archive[GRAPHS].tobytes()
        values = _Reader(archive)
    ops = [
        OpVector(
            _case_from_json(row["case"]),
            *(row[name] for name in ("dtype", "seed", "special", "checksum")),
            [values.get(place) for place in row["outputs"]],
        )
        for row in index["ops"]
    ]
    return Golden(
        *(index[name] for name in ("tensorflow", "methods", "shaders")),
        ops,
        list(_fusions(index["fusions"], graphs, values)),
    )


def _fusions(rows: list[dict[str, Any]], graphs: bytes, values: _Reader) -> Iterable[FusionVector]:
    for row in rows:
        at, size = row["graph"]
        yield FusionVector(
            *(row[name] for name in ("name", "pattern", "dtype", "count", "options")),
            graphs[at : at + size],
            {name: values.get(place) for name, place in row["feeds"].items()},
            row["fetches"],
            [values.get(place) for place in row["outputs"]],
        )
