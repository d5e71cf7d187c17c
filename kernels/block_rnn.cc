#include "kernels/block_rnn.h"

#include "kernels/op_def.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// Inputs from `first` on have the shapes `expected`, the rest of the inputs the shape `others`.
void require_shapes(const Node& node, size_t first, const std::vector<Shape>& expected,
                    const Shape& others) {
  for (size_t i = 0; first + i < node.inputs.size(); ++i) {
    const Shape& given = node.in(first + i).shape;
    const Shape& needed = i < expected.size() ? expected[i] : others;
    if (given == needed) continue;
    throw_invalid_argument(node.describe(), ": ", input_names(*node.def)[first + i],
                           " must have shape ", to_string(needed), ", but has ", to_string(given));
  }
}

// Columns of a matrix; of anything else 0, which require_shapes() will find wrong.
int64_t columns(const TensorInfo& matrix) { return matrix.rank() == 2 ? matrix.shape[1] : 0; }

}  // namespace

void check_lstm(const Node& node, size_t x, Peepholes peepholes) {
  const Shape& in = node.in(x).shape;
  const int64_t batch = in[in.size() - 2], input = in.back(), units = columns(node.in(x + 1));
  const auto peephole = [&](size_t i) {
    const bool counts = peepholes == Peepholes::kAlways || uses_peepholes(node);
    return counts || node.in(i).rank() != 1 ? Shape{units} : node.in(i).shape;
  };
  const Shape state = {batch, units};
  Shape output = in;
  output.back() = units;
  require_shapes(node, x,
                 {in,
                  state,
                  state,
                  {input + units, 4 * units},
                  peephole(x + 4),
                  peephole(x + 5),
                  peephole(x + 6),
                  {4 * units}},
                 output);
}

void check_gru(const Node& node) {
  const Shape& in = node.in(0).shape;
  const int64_t units = columns(node.in(1)), rows = in.back() + units;
  const Shape state = {in[0], units};
  require_shapes(node, 0, {in, state, {rows, 2 * units}, {rows, units}, {2 * units}, {units}},
                 state);
}

}  // namespace tfmetal
