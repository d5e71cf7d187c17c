// Cumsum, Cumprod and CumulativeLogsumexp. Native, so that integers are exact, 16-bit floats add up
// in float32, and any axis of any rank will do.
#include <algorithm>
#include <functional>

#include "kernels/families.h"
#include "kernels/kernel.h"
#include "kernels/msl/scan_arguments.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// Lines are cut until there are so many threads, unless that leaves a thread fewer elements.
constexpr int64_t kThreads = 1024, kFewest = 128;

constexpr size_t kInput = 0, kAxis = 1;

int64_t scanned_axis(const Node& node) {
  const int64_t rank = static_cast<int64_t>(node.in(kInput).rank());
  const int64_t axis = node.host_int(kAxis);
  if (axis < -rank || axis >= rank) {
    throw_invalid_argument(node.describe(), ": ScanOp: Expected scan axis in the range [", -rank,
                           ", ", rank, "), but got ", axis);
  }
  return axis < 0 ? axis + rank : axis;
}

ScanArguments scan_arguments(const Node& node, ScanOperation op) {
  const Shape& shape = node.in(kInput).shape;
  const auto axis = shape.begin() + scanned_axis(node);
  const int64_t length = *axis;
  const int64_t inner = element_count(Shape(axis + 1, shape.end()));
  const int64_t lines = node.in(kInput).count() / length;
  const int64_t fewest = std::max(kFewest, length * lines / kThreads);
  const int64_t chunk = std::min(length, fewest);
  ScanArguments a = {};
  a.op = op;
  a.length = static_cast<unsigned>(length);
  a.inner = static_cast<unsigned>(inner);
  a.chunk = static_cast<unsigned>(chunk);
  a.chunks = static_cast<unsigned>((length + chunk - 1) / chunk);
  a.exclusive = node.def->attr_bool("exclusive", false);
  a.reverse = node.def->attr_bool("reverse", false);
  return a;
}

template <ScanOperation op>
void scan(KernelCall& call) {
  Node node = call.node();
  const TensorInfo x = node.in(kInput);
  scanned_axis(node);
  node.outputs = {x};
  const BufferSlice out = call.allocate_output(0, x);
  if (x.count() == 0) return;
  const ScanArguments a = scan_arguments(node, op);
  const int64_t threads = x.count() / a.length * a.chunks;
  const TF_DataType sum = is_float(x.dtype) ? TF_FLOAT : TF_UINT64;
  const BufferSlice totals = call.allocate_temp({sum, {threads}});
  call.encode(
      node, {call.input_slice(kInput)}, {out, totals}, 2 * x.bytes(), [&](NativeCall& native) {
        const ShaderArgument arguments = NativeCall::value(a);
        if (a.chunks > 1) {
          native.dispatch(shader_name("scan_reduce", x.dtype), threads,
                          {native.in(0), native.out(1), arguments}, NativeCall::kSmallGroup);
        }
        native.dispatch(shader_name("scan_write", x.dtype), threads,
                        {native.in(0), native.out(1), native.out(0), arguments},
                        NativeCall::kSmallGroup);
      });
}

OpRow row(const char* op, Run run, DTypes dtypes) {
  return {.op = op,
          .types = {{"T", std::move(dtypes)}, {"Tidx", kIndex}},
          .host = {{"axis", HostUse::kArg}},
          .run = run};
}

}  // namespace

std::vector<OpRow> scan_ops() {
  return {row("Cumsum", scan<kScanSum>, kFloats + kIntegers),
          row("Cumprod", scan<kScanProduct>, kFloats + kIntegers),
          row("CumulativeLogsumexp", scan<kScanLogSumExp>, kFloats)};
}

}  // namespace tfmetal
