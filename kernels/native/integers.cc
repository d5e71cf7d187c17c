// Integers, which MPSGraph computes in floating point or not at all: division, bits, reductions.
// Division by zero gives zero, as a GPU cannot raise TensorFlow's error.
#include <algorithm>

#include "kernels/families.h"
#include "kernels/lowering/axes.h"
#include "kernels/msl/integers_arguments.h"
#include "kernels/native/elements.h"
#include "kernels/native/extremes.h"
#include "kernels/native/rows.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

template <IntegerOperation op>
void binary(NativeCall& call) {
  const TF_DataType dtype = call.node.in(0).dtype;
  const BroadcastArguments arguments = broadcast_arguments(call.node, op);
  call.dispatch(shader_name(is_float(dtype) ? "float_remainder" : "integer_binary", dtype),
                call.node.out().count(),
                {call.in(0), call.in(1), call.out(), NativeCall::value(arguments)});
}

// Floats that lie side by side (kernels/msl/lane.h).
void floor_div(NativeCall& call) {
  const Node& node = call.node;
  const bool alike = node.in(0).shape == node.in(1).shape && node.out().count() <= INT32_MAX;
  if (!alike || !is_float(node.out().dtype)) return binary<kIntegerFloorDiv>(call);
  call.dispatch(shader_name("lane_floor_quotient", node.out().dtype), node.out().count(),
                {call.in(0), call.in(1), call.out()});
}

template <IntegerFunction function>
void unary(NativeCall& call) {
  const unsigned which = function;
  call.dispatch(shader_name("integer_unary", call.node.in(0).dtype), call.node.out().count(),
                {call.in(0), call.out(), NativeCall::value(which)});
}

void population_count(NativeCall& call) {
  call.dispatch(shader_name("population_count", call.node.in(0).dtype), call.node.out().count(),
                {call.in(0), call.out()});
}

void add_n(NativeCall& call) {
  const TensorInfo& out = call.node.out();
  BroadcastArguments arguments = {};
  arguments.op = kOperationAdd;
  arguments.rank = 1;
  arguments.extents[0] = narrow(call.node, out.count());
  arguments.a_strides[0] = arguments.b_strides[0] = 1;
  if (call.inputs.size() == 1) call.copy(call.inputs[0], call.outputs[0], out.bytes());
  for (size_t i = 1; i < call.inputs.size(); ++i) {
    call.dispatch(
        shader_name("integer_arithmetic", out.dtype), out.count(),
        {i == 1 ? call.in(0) : call.out(), call.in(i), call.out(), NativeCall::value(arguments)});
  }
}

// ---- reductions ---------------------------------------------------------------------------------

// Fewer outputs than this share the work among several threads each, of so many elements.
constexpr int64_t kBusyOutputs = 4096, kReduceChunk = 4096;

void append(IntegerAxes* axes, int64_t extent, int64_t stride) {
  axes->extents[axes->rank] = static_cast<unsigned>(extent);
  axes->strides[axes->rank++] = static_cast<long>(stride);
}

// Neighbouring axes that are both kept or both reduced are merged.
void describe_axes(const Node& node, IntegerReduceArguments* a) {
  const Shape& shape = node.in(0).shape;
  std::vector<bool> reduced(shape.size());
  for (int64_t axis : node.host_ints(1)) {
    reduced[static_cast<size_t>(canonical_axis(axis, shape.size(), node.op().c_str()))] = true;
  }
  struct Axis {
    int64_t extent, stride;
    bool reduced;
  };
  std::vector<Axis> axes;  // last first
  int64_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    if (!axes.empty() && axes.back().reduced == reduced[axis]) {
      axes.back().extent *= shape[axis];
    } else {
      axes.push_back({shape[axis], stride, reduced[axis]});
    }
    stride *= shape[axis];
  }
  if (axes.size() > MAX_SHADER_RANK) {
    throw_invalid_argument(node.describe(), ": more than ", MAX_SHADER_RANK, " dimensions");
  }
  for (size_t i = axes.size(); i-- > 0;) {
    append(axes[i].reduced ? &a->reduced : &a->kept, axes[i].extent, axes[i].stride);
  }
}

IntegerReduceArguments reduce_arguments(const Node& node) {
  IntegerReduceArguments a = {};
  describe_axes(node, &a);
  const int64_t outputs = node.out().count(), count = node.in(0).count() / outputs;
  narrow(node, node.in(0).count());
  a.count = static_cast<unsigned>(count);
  a.chunk = static_cast<unsigned>(outputs < kBusyOutputs ? std::min(count, kReduceChunk) : count);
  a.chunks = static_cast<unsigned>((count + a.chunk - 1) / a.chunk);
  return a;
}

size_t reduce_scratch(const Node& node) {
  if (node.in(0).count() == 0) return 0;
  const IntegerReduceArguments a = reduce_arguments(node);
  return a.chunks == 1 ? 0 : node.out().bytes() * a.chunks;
}

template <IntegerReduction op, Empty empty>
void reduce(NativeCall& call) {
  const TensorInfo& out = call.node.out();
  if (call.node.in(0).count() == 0) return fill_empty(call, empty, out, call.outputs[0]);
  const std::string shader = shader_name("integer_reduce", out.dtype);
  IntegerReduceArguments a = reduce_arguments(call.node);
  a.op = op;
  if (a.chunks == 1) {
    return call.dispatch(shader, out.count(), {call.in(0), call.out(), NativeCall::value(a)}, 64);
  }
  const ShaderArgument parts = {call.scratch()};
  call.dispatch(shader, out.count() * a.chunks, {call.in(0), parts, NativeCall::value(a)}, 64);
  IntegerReduceArguments last = {};
  last.op = op;
  last.count = last.chunk = a.chunks;
  last.chunks = 1;
  append(&last.kept, out.count(), a.chunks);
  append(&last.reduced, a.chunks, 1);
  call.dispatch(shader, out.count(), {parts, call.out(), NativeCall::value(last)}, 64);
}

// ArgMax and ArgMin; a bool is a number of one byte.
template <bool largest>
void arg_extreme(NativeCall& call) {
  const Node& node = call.node;
  const Shape& shape = node.in(0).shape;
  const size_t rank = shape.size();
  const size_t axis =
      rank == 0 ? 0 : static_cast<size_t>(canonical_axis(node.host_int(1), rank, "ArgMax"));
  IntegerArgArguments a = {};
  a.count = rank == 0 ? 1 : narrow(node, shape[axis]);
  a.inner = rank == 0 ? 1 : narrow(node, product(shape, axis + 1, rank));
  a.largest = largest;
  a.long_output = node.out().dtype == TF_INT64;
  const TF_DataType dtype = node.in(0).dtype == TF_BOOL ? TF_UINT8 : node.in(0).dtype;
  call.dispatch(shader_name("integer_arg", dtype), node.out().count(),
                {call.in(0), call.out(), NativeCall::value(a)}, 64);
}

// ---- rows of the op table -----------------------------------------------------------------------

OpRow elementwise(const char* op, Launch launch, DTypes dtypes) {
  return {.op = op, .types = T(std::move(dtypes)), .launch = launch, .elementwise = true};
}

OpRow reduction(const char* op, Launch launch, const char* shape_arithmetic = nullptr,
                DTypes dtypes = kIntegers) {
  return {.op = op,
          .types = T(std::move(dtypes)),
          .host = {{"reduction_indices", HostUse::kKey}},
          .launch = launch,
          .takes_empty = true,
          .check = check_reduction_axes,
          .scratch = reduce_scratch,
          .shape_arithmetic = shape_arithmetic};
}

OpRow arg_row(const char* op, Launch launch) {
  return {.op = op,
          .types = {{"T", kIntegers + DTypes{TF_BOOL}}, {"output_type", kIndex}},
          .host = {{"dimension", HostUse::kKey}},
          .launch = launch,
          .check = check_arg_axis};
}

}  // namespace

std::vector<OpRow> integer_ops() {
  const DTypes signs = {TF_INT8, TF_INT16, TF_INT32, TF_INT64};
  OpRow floor_division = elementwise("FloorDiv", floor_div, kFloats + kIntegers);
  floor_division.precision = Precision::kInfer;
  return {
      floor_division,
      elementwise("FloorMod", binary<kIntegerFloorMod>, kFloats + kIntegers),
      elementwise("TruncateMod", binary<kIntegerTruncateMod>, kFloats + kIntegers),
      elementwise("Mod", binary<kIntegerTruncateMod>, kFloats + kIntegers),
      elementwise("Div", binary<kIntegerTruncateDiv>, kIntegers),
      elementwise("TruncateDiv", binary<kIntegerTruncateDiv>, kIntegers),
      elementwise("BitwiseAnd", binary<kIntegerAnd>, kIntegers),
      elementwise("BitwiseOr", binary<kIntegerOr>, kIntegers),
      elementwise("BitwiseXor", binary<kIntegerXor>, kIntegers),
      elementwise("LeftShift", binary<kIntegerLeftShift>, kIntegers),
      elementwise("RightShift", binary<kIntegerRightShift>, kIntegers),
      elementwise("Pow", binary<kIntegerPow>, signs),
      elementwise("SquaredDifference", binary<kIntegerSquaredDifference>, kIntegers),
      elementwise("Abs", unary<kIntegerAbs>, signs),
      elementwise("Neg", unary<kIntegerNeg>, signs),
      elementwise("Sign", unary<kIntegerSign>, signs),
      elementwise("Square", unary<kIntegerSquare>, kIntegers),
      elementwise("Invert", unary<kIntegerInvert>, kIntegers),
      elementwise("PopulationCount", population_count, kIntegers),
      {.op = "AddN", .types = T(kIntegers), .launch = add_n},
      reduction("Sum", reduce<kReduceSum, Empty::kZero>, "T"),
      reduction("Prod", reduce<kReduceProd, Empty::kOne>, "T"),
      reduction("Prod", reduce<kReduceProd, Empty::kOne>, nullptr, {TF_COMPLEX64}),
      reduction("Max", reduce<kReduceMax, Empty::kLowest>),
      reduction("Min", reduce<kReduceMin, Empty::kHighest>),
      arg_row("ArgMax", arg_extreme<true>),
      arg_row("ArgMin", arg_extreme<false>),
  };
}

}  // namespace tfmetal
