"""What CudnnRNN means, in TensorFlow ops on the CPU: the kernels' reference, gradients included."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

GATES = {"lstm": 4, "gru": 3, "rnn_relu": 1, "rnn_tanh": 1}


@dataclasses.dataclass(frozen=True)
class Model:
    """A recurrent model, and the sequences that it runs over."""

    mode: str = "lstm"
    layers: int = 1
    bidirectional: bool = False
    units: int = 4
    inputs: int = 3
    projection: int = 0
    input_mode: str = "linear_input"
    steps: int = 5
    batch: int = 2
    time_major: bool = True
    lengths: tuple[int, ...] | None = None

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def output(self) -> int:
        return self.projection or self.units

    @property
    def skips(self) -> bool:
        same = self.inputs == self.units
        return self.input_mode == "skip_input" or (self.input_mode == "auto_select" and same)

    def weight_shapes(self) -> list[tuple[int, int]]:
        """In the order of the parameter buffer."""
        shapes = []
        for layer in range(self.layers):
            for _ in range(self.directions):
                width = self.inputs if layer == 0 else self.directions * self.output
                width = 0 if layer == 0 and self.skips else width
                shapes += GATES[self.mode] * [(self.units, width)]
                shapes += GATES[self.mode] * [(self.units, self.output)]
                shapes += [(self.projection, self.units)] if self.projection else []
        return shapes

    def bias_count(self) -> int:
        return 2 * GATES[self.mode] * self.layers * self.directions

    def parameters(self) -> int:
        return sum(a * b for a, b in self.weight_shapes()) + self.bias_count() * self.units

    def input_shape(self) -> tuple[int, int, int]:
        outer = (self.steps, self.batch) if self.time_major else (self.batch, self.steps)
        return (*outer, self.inputs)

    def state_shape(self, width: int) -> tuple[int, int, int]:
        cells = self.layers * self.directions
        return (*((cells, self.batch) if self.time_major else (self.batch, cells)), width)

    def attributes(self) -> dict[str, object]:
        return {
            "rnn_mode": self.mode,
            "input_mode": self.input_mode,
            "direction": "bidirectional" if self.bidirectional else "unidirectional",
        }


def _cell(mode, x, h, c, weights, biases):
    """One step: (hidden state before any projection, cell state)."""
    gates = GATES[mode]
    inputs = [
        x @ tf.transpose(w) if w.shape[1] == x.shape[-1] else x  # no weights: skip_input
        for w in weights[:gates]
    ]
    xs = [v + b for v, b in zip(inputs, biases[:gates], strict=True)]
    hs = [
        h @ tf.transpose(w) + b
        for w, b in zip(weights[gates : 2 * gates], biases[gates:], strict=True)
    ]
    if mode == "lstm":
        i, f, g, o = (a + b for a, b in zip(xs, hs, strict=True))
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c
    if mode == "gru":
        z, r = tf.sigmoid(xs[0] + hs[0]), tf.sigmoid(xs[1] + hs[1])
        return z * h + (1 - z) * tf.tanh(xs[2] + r * hs[2]), c
    return (tf.nn.relu if mode == "rnn_relu" else tf.tanh)(xs[0] + hs[0]), c


def run(model: Model, x, h, c, parameters):
    """(output, output_h, output_c) of inputs in the op's layout."""
    gates = GATES[model.mode]
    if not model.time_major:
        x, h, c = (t if t is None else tf.transpose(t, [1, 0, 2]) for t in (x, h, c))
    sizes = [a * b for a, b in model.weight_shapes()] + [model.units] * model.bias_count()
    pieces = tf.split(parameters, sizes)
    count = len(model.weight_shapes())
    weights = [tf.reshape(p, s) for p, s in zip(pieces, model.weight_shapes(), strict=False)]
    biases = pieces[count:]
    per_cell = 2 * gates + (1 if model.projection else 0)
    lengths = tf.constant(model.lengths or [model.steps] * model.batch)
    last_h, last_c = [], []
    for layer in range(model.layers):
        columns = []
        for d in range(model.directions):
            cell = layer * model.directions + d
            mine = weights[cell * per_cell : (cell + 1) * per_cell]
            bias = biases[cell * 2 * gates : (cell + 1) * 2 * gates]
            h_t, c_t = h[cell], h[cell] if c is None else c[cell]
            outputs = [None] * model.steps
            for t in range(model.steps) if d == 0 else reversed(range(model.steps)):
                new_h, new_c = _cell(model.mode, x[t], h_t, c_t, mine, bias)
                if model.projection:
                    new_h = new_h @ tf.transpose(mine[-1])
                inside = (t < lengths)[:, None]
                outputs[t] = tf.where(inside, new_h, 0)
                h_t, c_t = tf.where(inside, new_h, h_t), tf.where(inside, new_c, c_t)
            empty = tf.zeros([0, model.batch, model.output], x.dtype)
            columns.append(tf.stack(outputs) if outputs else empty)
            last_h.append(h_t)
            last_c.append(c_t)
        x = tf.concat(columns, -1)
    results = [x, tf.stack(last_h), tf.stack(last_c)]
    return results if model.time_major else [tf.transpose(t, [1, 0, 2]) for t in results]
