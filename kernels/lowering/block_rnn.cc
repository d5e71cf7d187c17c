// One step of an LSTM or GRU as TensorFlow's block ops define it, and its gradient. Sequences of
// steps: kernels/native/block_lstm.cc.
#include "kernels/block_rnn.h"

#include "kernels/families.h"
#include "kernels/shape_oracle.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// Matrices side by side; null ones have no columns.
Tensor beside(GraphBuilder& g, const Tensors& matrices) {
  Tensors parts;
  for (Tensor matrix : matrices) {
    if (matrix) parts.push_back(matrix);
  }
  return parts.size() == 1 ? parts[0] : g.concat(g.list(parts), 1);
}

// The columns of a matrix, `width` at a time.
Tensors split_columns(GraphBuilder& g, Tensor matrix, int64_t width) {
  const Shape shape = g.shape_of(matrix);
  Tensors parts;
  for (int64_t at = 0; at < shape[1]; at += width) {
    parts.push_back(
        g.slice(matrix, g.axes({0, at}), g.axes({shape[0], at + width}), g.axes({1, 1})));
  }
  return parts;
}

Tensor one_minus(GraphBuilder& g, Tensor x) { return g.sub(g.constant(1, x), x); }
// The derivatives of sigmoid and tanh by their results.
Tensor sigmoid_slope(GraphBuilder& g, Tensor y) { return g.mul(y, one_minus(g, y)); }
Tensor tanh_slope(GraphBuilder& g, Tensor y) { return one_minus(g, g.mul(y, y)); }

Tensor zeros(GraphBuilder& g, const TensorInfo& info) {
  return g.constant(0, g.list(info.shape), to_mps(info.dtype));
}

// Inputs: x, cs_prev, h_prev, w, wci, wcf, wco, b. Outputs: i, cs, f, o, ci, co, h. Gates in the
// order i, ci, f, o.
Tensors lstm_cell(GraphBuilder& g, const Node& node, Inputs in) {
  const auto with_peephole = [&](Tensor gate, Tensor state, Tensor weights) {
    return uses_peepholes(node) ? g.add(gate, g.mul(state, weights)) : gate;
  };
  const Tensor before = in[1];
  const Tensor products = g.add(g.matmul(beside(g, {in[0], in[2]}), in[3]), in[7]);
  const Tensors gates = split_columns(g, products, node.in(1).shape[1]);
  const Tensor bias = g.constant(node.def->attr_float("forget_bias", 1), products);
  const Tensor i = g.sigmoid(with_peephole(gates[0], before, in[4]));
  const Tensor ci = g.tanh(gates[1]);
  const Tensor f = g.sigmoid(with_peephole(g.add(gates[2], bias), before, in[5]));
  Tensor cs = g.add(g.mul(i, ci), g.mul(f, before));
  if (const float clip = node.def->attr_float("cell_clip", 3); clip > 0) {
    cs = g.minimum_nan(g.maximum_nan(cs, g.constant(-clip, cs)), g.constant(clip, cs));
  }
  const Tensor co = g.tanh(cs);
  const Tensor o = g.sigmoid(with_peephole(gates[3], cs, in[6]));
  return {i, cs, f, o, ci, co, g.mul(o, co)};
}

// Inputs: those of the cell, i, cs, f, o, ci, co, and the gradients of cs and h. Outputs: those of
// cs_prev, of the gates, and of wci, wcf, wco. Clipping is taken for none, as TensorFlow does.
Tensors lstm_cell_grad(GraphBuilder& g, const Node& node, Inputs in) {
  const bool peepholes = uses_peepholes(node);
  Tensors out(5);
  for (size_t k = 2; k < 5; ++k) {
    if (node.out(k).count() > 0) out[k] = zeros(g, node.out(k));
  }
  if (!in[1]) return out;  // no batch or no units
  const Tensor before = in[1], i = in[8], cs = in[9], f = in[10], o = in[11], ci = in[12],
               co = in[13], dh = in[15];
  const Tensor d_o = g.mul(g.mul(sigmoid_slope(g, o), dh), co);
  Tensor dcs = g.add(g.mul(g.mul(tanh_slope(g, co), dh), o), in[14]);
  if (peepholes) dcs = g.add(dcs, g.mul(d_o, in[6]));
  const Tensor dci = g.mul(g.mul(tanh_slope(g, ci), dcs), i);
  const Tensor df = g.mul(g.mul(sigmoid_slope(g, f), dcs), before);
  const Tensor di = g.mul(g.mul(sigmoid_slope(g, i), dcs), ci);
  out[0] = g.mul(dcs, f);
  out[1] = beside(g, {di, dci, df, d_o});
  if (!peepholes) return out;
  out[0] = g.add(g.add(out[0], g.mul(di, in[4])), g.mul(df, in[5]));
  const Tensor products[] = {g.mul(di, before), g.mul(df, before), g.mul(d_o, cs)};
  for (size_t k = 0; k < 3; ++k) out[2 + k] = g.sum(products[k], g.axes({0}));
  return out;
}

// TensorFlow's kernel gives the gradients of wci, wcf and wco their shapes even when unused.
bool infer_lstm_cell_grad(Node* node) {
  infer_outputs(node);
  for (size_t k = 0; k < 3; ++k) node->outputs[2 + k].shape = node->in(4 + k).shape;
  return true;
}

// Inputs: x, h_prev, w_ru, w_c, b_ru, b_c. Outputs: r, u, c, h.
Tensors gru_cell(GraphBuilder& g, const Node& node, Inputs in) {
  const Tensor x = in[0], before = in[1];
  const Tensor products = g.add(g.matmul(beside(g, {x, before}), in[2]), in[4]);
  const Tensors gates = split_columns(g, g.sigmoid(products), node.in(1).shape[1]);
  const Tensor r = gates[0], u = gates[1];
  const Tensor reset = beside(g, {x, g.mul(before, r)});
  const Tensor c = g.tanh(g.add(g.matmul(reset, in[3]), in[5]));
  return {r, u, c, g.add(g.mul(u, g.sub(before, c)), c)};
}

// Inputs: those of the cell, r, u, c, and the gradient of h. Outputs: the gradients of x, h_prev,
// of what tanh makes c of, and of what sigmoid makes r and u of.
Tensors gru_cell_grad(GraphBuilder& g, const Node& node, Inputs in) {
  if (!in[1]) return {zeros(g, node.out(0)), {}, {}, {}};  // no units
  const int64_t batch = node.in(0).shape[0], input = node.in(0).shape[1];
  const Tensor before = in[1], r = in[6], u = in[7], c = in[8], dh = in[9];
  const Tensor dc = g.mul(g.mul(dh, one_minus(g, u)), tanh_slope(g, c));
  const Tensor du = g.mul(g.mul(dh, g.sub(before, c)), sigmoid_slope(g, u));
  // Gradients of [x, state] through each of the two products.
  const auto columns = [&](Tensor xh, int64_t from, int64_t to) {
    return g.slice(xh, g.axes({0, from}), g.axes({batch, to}), g.axes({1, 1}));
  };
  const int64_t all = g.shape_of(in[3])[0];
  const Tensor through_c = g.matmul(dc, g.matrix_transpose(in[3]));
  const Tensor dreset = columns(through_c, input, all);
  const Tensor dr = g.mul(g.mul(dreset, before), sigmoid_slope(g, r));
  const Tensor dru = beside(g, {dr, du});
  const Tensor through_ru = g.matmul(dru, g.matrix_transpose(in[2]));
  const Tensor dbefore =
      g.add(g.add(columns(through_ru, input, all), g.mul(dreset, r)), g.mul(dh, u));
  const Tensor dx = input ? columns(g.add(through_ru, through_c), 0, input) : Tensor();
  return {dx, dbefore, dc, dru};
}

void check_lstm_cell(const Node& node) {
  check_lstm(node, 0, Peepholes::kIfUsed);
  if (node.in(1).count() > 0) return;
  throw_invalid_argument(node.describe(),
                         ": cs_prev is empty, has shape: ", to_string(node.in(1).shape));
}

OpRow row(const char* op, DTypes dtypes, Lower lower, void (*check)(const Node&)) {
  return {.op = op,
          .types = T(std::move(dtypes)),
          .lower = lower,
          .widen = true,
          .takes_empty = true,
          .check = check,
          .precision = Precision::kAllow};
}

}  // namespace

std::vector<OpRow> block_cell_ops() {
  const DTypes lstm = {TF_FLOAT, TF_HALF}, gru = {TF_FLOAT};  // all that the definitions allow
  std::vector<OpRow> rows = {
      row("LSTMBlockCell", lstm, lstm_cell, check_lstm_cell),
      row("LSTMBlockCellGrad", lstm, lstm_cell_grad,
          [](const Node& node) { check_lstm(node, 0, Peepholes::kIfUsed); }),
      row("GRUBlockCell", gru, gru_cell, check_gru),
      row("GRUBlockCellGrad", gru, gru_cell_grad, check_gru),
  };
  rows[1].infer = infer_lstm_cell_grad;
  return rows;
}

}  // namespace tfmetal
