// Counts in bins: Bincount, DenseBincount, HistogramFixedWidth. Values outside of the bins,
// negative ones included, are not counted, as by TensorFlow's kernels for GPUs; the CPU's raise an
// error.
#include <algorithm>
#include <cstring>

#include "kernels/families.h"
#include "kernels/kernel.h"
#include "kernels/msl/scan_arguments.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// A thread counts at least so many values, and all threads' bins together are bounded.
constexpr int64_t kFewest = 2048, kMostBins = 1 << 22, kMostParts = 256;

struct Counting {
  BufferSlice values, weights;  // no weights: every value counts once
  TF_DataType index;
  int64_t rows;
  bool binary;
};

// Counts `what` into `out`, whose last dimension is the bins.
void count(KernelCall& call, const Node& node, const Counting& what, int64_t columns,
           BufferSlice out) {
  const int64_t bins = node.out().shape.back();
  const int64_t parts = std::clamp(std::min(columns / kFewest, kMostBins / (what.rows * bins)),
                                   int64_t{1}, kMostParts);
  CountArguments a = {};
  a.columns = static_cast<unsigned>(columns);
  a.parts = static_cast<unsigned>(parts);
  a.bins = static_cast<unsigned>(bins);
  a.weighted = what.weights.block != nullptr;
  a.binary = what.binary;
  const TF_DataType dtype = node.out().dtype;
  const BufferSlice partial = call.allocate_temp({dtype, {what.rows * parts * bins}});
  const BufferSlice& values = what.values.block ? what.values : partial;  // something to bind
  call.encode(node, {values, a.weighted ? what.weights : partial}, {out, partial},
              static_cast<size_t>(what.rows * columns) * size_of(what.index),
              [&](NativeCall& native) {
                native.dispatch(shader_name(shader_name("count_values", what.index), dtype),
                                what.rows * parts,
                                {native.in(0), native.in(1), native.out(1), NativeCall::value(a)},
                                NativeCall::kSmallGroup);
                native.dispatch(shader_name("add_counts", dtype), node.out().count(),
                                {native.out(1), native.out(0), NativeCall::value(a)});
              });
}

int64_t bins_of(const Node& node, size_t input) {
  if (node.in(input).rank() != 0) {
    throw_invalid_argument(node.describe(), ": Shape must be rank 0 but is rank ",
                           node.in(input).rank());
  }
  const int64_t bins = node.host_int(input);
  if (bins < 0) {
    throw_invalid_argument(node.describe(), ": size (", bins, ") must be non-negative");
  }
  return bins;
}

enum BincountInput { kValues = 0, kSize = 1, kWeights = 2 };

void check_weights(const Node& node, bool same_shape) {
  const TensorInfo &values = node.in(kValues), &weights = node.in(kWeights);
  if (weights.count() == 0) return;
  if (same_shape ? weights.shape == values.shape : weights.count() == values.count()) return;
  throw_invalid_argument(node.describe(), ": weights must have the shape of the values or no ",
                         "elements");
}

// `dense`: values may be a matrix, whose rows are counted by themselves.
template <bool dense>
void bincount(KernelCall& call) {
  Node node = call.node();
  const TensorInfo& values = node.in(kValues);
  const int64_t bins = bins_of(node, kSize);
  check_weights(node, dense);
  if (dense && values.rank() > 2) {
    throw_invalid_argument(node.describe(), ": Shape must be at most rank 2 but is rank ",
                           values.rank());
  }
  const bool matrix = dense && values.rank() == 2;
  const int64_t rows = matrix ? values.shape[0] : 1;
  node.outputs = {{node.in(kWeights).dtype, matrix ? Shape{rows, bins} : Shape{bins}}};
  const BufferSlice out = call.allocate_output(0, node.out());
  if (node.out().count() == 0) return;
  const bool binary = node.def->attr_bool("binary_output", false);
  count(call, node,
        {call.input_slice(kValues), call.input_slice(kWeights), values.dtype, rows, binary},
        values.count() / rows, out);
}

// ---- HistogramFixedWidth ------------------------------------------------------------------------

enum HistogramInput { kRange = 1, kBins = 2 };

void histogram(KernelCall& call) {
  Node node = call.node();
  const TensorInfo values = node.in(0);
  if (node.in(kRange).shape != Shape{2}) {
    throw_invalid_argument(node.describe(), ": value_range should be a vector of 2 elements.");
  }
  float range[2];
  std::memcpy(range, node.host[kRange].data(), sizeof range);
  const int64_t bins = node.host_int(kBins);
  if (!(range[0] < range[1])) {
    throw_invalid_argument(node.describe(), ": value_range should satisfy value_range[0] < ",
                           "value_range[1], but got '[", range[0], ", ", range[1], "]'");
  }
  if (bins <= 0) {
    throw_invalid_argument(node.describe(), ": nbins should be a positive number, but got '", bins,
                           "'");
  }
  node.outputs = {{node.def->attr_type("dtype"), {bins}}};
  const BufferSlice out = call.allocate_output(0, node.out());
  const BufferSlice indices = call.allocate_temp({TF_INT32, {values.count()}});
  if (values.count() > 0) {
    const double step = (double{range[1]} - double{range[0]}) / static_cast<double>(bins);
    HistogramArguments h = {range[0], {}};
    double rest = step;
    for (float& part : h.step) rest -= part = static_cast<float>(rest);
    CountArguments a = {};
    a.bins = static_cast<unsigned>(bins);
    call.encode(node, {call.input_slice(0)}, {indices}, values.bytes(), [&](NativeCall& native) {
      native.dispatch("histogram_bins", values.count(),
                      {native.in(0), native.out(), NativeCall::value(h), NativeCall::value(a)});
    });
  }
  count(call, node, {indices, {}, TF_INT32, 1, false}, values.count(), out);
}

}  // namespace

std::vector<OpRow> count_ops() {
  const DTypes counted = {TF_FLOAT, TF_INT32, TF_INT64};
  return {
      {.op = "Bincount",
       .types = T(counted),
       .host = {{"size", HostUse::kArg}},
       .run = bincount<false>},
      {.op = "DenseBincount",
       .types = {{"T", counted}, {"Tidx", kIndex}},
       .host = {{"size", HostUse::kArg}},
       .run = bincount<true>},
      {.op = "HistogramFixedWidth",
       .types = {{"T", {TF_FLOAT}}, {"dtype", kIndex}},
       .host = {{"value_range", HostUse::kArg}, {"nbins", HostUse::kArg}},
       .run = histogram},
  };
}

}  // namespace tfmetal
