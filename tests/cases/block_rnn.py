"""Block RNN ops: cells of LSTM and GRU, and LSTMs over sequences."""

import math

import tensorflow as tf

from tests.spine import Case, Host, Tensor, expand

_LSTM_INPUTS = ("x", "cs_prev", "h_prev", "w", "wci", "wcf", "wco", "b")
_GRU_INPUTS = ("x", "h_prev", "w_ru", "w_c", "b_ru", "b_c")
_SIZES = [(3, 4, 5), (1, 1, 1), (8, 17, 33), (2, 0, 3)]  # batch, input, units


class Defined:
    """The CPU's op, with zeros where its kernel leaves memory as it was."""

    def __init__(self, op):
        self.op = op

    def __call__(self, seq_len_max, x, w, **kwargs):
        op = getattr(tf.raw_ops, self.op)
        outputs = op(seq_len_max=seq_len_max, x=x, w=w, **kwargs)
        steps = seq_len_max.numpy()
        if "Grad" not in self.op:
            return [tf.concat([y[:steps], tf.zeros_like(y[steps:])], 0) for y in outputs]
        if steps * x.shape[1] * w.shape[1] == 0:
            return [tf.zeros_like(y) for y in outputs]
        return list(outputs)


def _scale(*lengths):
    """Of a case whose sums are of so many terms."""
    return math.sqrt(max(1, *lengths))


def _lstm_args(batch, inputs, units, time=(), peephole=None):
    peephole = Tensor((units,) if peephole is None else peephole)
    return {
        "x": Tensor((*time, batch, inputs)),
        "cs_prev": Tensor((batch, units)),
        "h_prev": Tensor((batch, units), "unit"),
        "w": Tensor((inputs + units, 4 * units), "unit"),
        "wci": peephole,
        "wcf": peephole,
        "wco": peephole,
        "b": Tensor((4 * units,)),
    }


def _lstm_cells() -> list[Case]:
    result = []
    attrs = [{}, {"use_peephole": True, "cell_clip": 0.7, "forget_bias": -0.5}]
    attrs += [{"cell_clip": clip, "use_peephole": True} for clip in (0.0, -1.0)]
    for sizes in _SIZES:
        args = _lstm_args(*sizes)
        for attr in attrs:
            scale = _scale(sizes[1] + sizes[2])
            result += expand(Case("LSTMBlockCell", args, attr, special=True, scale=scale))
    result += expand(Case("LSTMBlockCell", _lstm_args(2, 3, 4, peephole=(1,)), scale=_scale(7)))
    for sizes in [*_SIZES, (0, 2, 3), (2, 3, 0)]:
        for peephole in [False, True]:
            result += _lstm_cell_grad(sizes, {"use_peephole": peephole})
    return result + _lstm_cell_grad((2, 3, 4), {"use_peephole": False}, peephole=(7,))


def _lstm_cell_grad(sizes, attrs, peephole=None) -> list[Case]:
    batch, _, units = sizes
    args = _lstm_args(*sizes, peephole=peephole)
    for name in ["i", "cs", "f", "o", "ci", "co", "cs_grad", "h_grad"]:
        args[name] = Tensor((batch, units), "normal" if "grad" in name else "unit")
    scale = 2 * _scale(batch)
    return expand(Case("LSTMBlockCellGrad", args, attrs, special=True, scale=scale))


def _gru_cells() -> list[Case]:
    result = []
    for batch, inputs, units in [*_SIZES, (0, 2, 3), (2, 3, 0)]:
        state = Tensor((batch, units), "unit")
        args = {
            "x": Tensor((batch, inputs)),
            "h_prev": state,
            "w_ru": Tensor((inputs + units, 2 * units), "unit"),
            "w_c": Tensor((inputs + units, units), "unit"),
            "b_ru": Tensor((2 * units,)),
            "b_c": Tensor((units,)),
        }
        scale = _scale(inputs + units)
        result += expand(Case("GRUBlockCell", args, special=True, scale=scale))
        if inputs > 0 and units == 0:
            continue  # the CPU leaves d_x as it was: tests/test_block_rnn.py
        grad = {**args, "r": state, "u": state, "c": state, "d_h": Tensor((batch, units))}
        result += expand(Case("GRUBlockCellGrad", grad, special=True, scale=scale))
    return result


def _sequences(suffix: str) -> list[Case]:
    op, result = "BlockLSTM" + suffix, []
    attrs = [{}, {"use_peephole": True, "cell_clip": 0.8}, {"cell_clip": -1.0}]
    if suffix == "":
        attrs.append({"use_peephole": True, "cell_clip": 0.0, "forget_bias": 0.25})
    shapes = [(3, 3), (5, 3), (1, 1), (3, 0), (0, 0)]  # time, steps
    for time, steps in shapes:
        for sizes in [*_SIZES, (0, 2, 3), (2, 3, 0)]:
            for attr in attrs if time == 5 else attrs[1:2]:
                args = {"seq_len_max": Host(steps, "int64"), **_lstm_args(*sizes, time=(time,))}
                scale = _scale(sizes[1] + sizes[2])
                grad = _LSTM_INPUTS if time == 5 and sizes == _SIZES[0] else ()
                case = Case(op, args, attr, scale=scale, grad=grad, reference=Defined(op))
                result += expand(case)
    args = {"seq_len_max": Host(2, "int64"), **_lstm_args(2, 3, 4, time=(2,))}
    return result + expand(Case(op, args, attrs[1], special=True, scale=_scale(7)))


def _sequence_grads(suffix: str) -> list[Case]:
    op, result = "BlockLSTMGrad" + suffix, []
    for time, steps in [(3, 3), (5, 3), (1, 1), (3, 0), (0, 0)]:
        for sizes in [*_SIZES, (0, 2, 3), (2, 3, 0)]:
            for peephole in [False, True]:
                result += _sequence_grad(op, time, steps, sizes, {"use_peephole": peephole})
    return result + _sequence_grad(op, 2, 2, (2, 3, 4), {"use_peephole": False}, peephole=(0,))


def _sequence_grad(op, time, steps, sizes, attrs, peephole=None) -> list[Case]:
    batch, _, units = sizes
    args = {"seq_len_max": Host(steps, "int64")}
    args |= _lstm_args(*sizes, time=(time,), peephole=peephole)
    for name in ["i", "cs", "f", "o", "ci", "co", "h", "cs_grad", "h_grad"]:
        kind = "normal" if "grad" in name else "unit"
        args[name] = Tensor((time, batch, units), kind)
    scale = 2 * _scale(4 * units, steps * batch)
    return expand(Case(op, args, attrs, scale=scale, reference=Defined(op)))


def cases() -> list[Case]:
    result = _lstm_cells() + _gru_cells()
    for suffix in ["", "V2"]:
        result += _sequences(suffix) + _sequence_grads(suffix)
    return result
