// Where: its shape depends on data. A first pass counts, the host waits for the counts, allocates
// the output, and a second pass writes it.
//
// The wait blocks a TensorFlow thread. Asynchronous kernels of the C API do not help: TensorFlow
// hands them a pointer to a callback on its own stack (CAsyncOpKernel::ComputeAsync in
// tensorflow/c/kernels.cc, 2.16 to 2.21), which is gone when the function returns.
#include "kernels/native/where.h"

#include "kernels/families.h"
#include "kernels/msl/arguments.h"

namespace tfmetal {

namespace {

// Elements a thread looks at: large enough that summing the counts up on the host is nothing.
constexpr int64_t kChunk = 1024;

constexpr size_t kMaxRank = 8;  // of TensorFlow's own kernels

WhereArguments arguments_of(const TensorInfo& input) {
  WhereArguments a = {
      static_cast<unsigned>(input.count()), kChunk, static_cast<unsigned>(input.rank()), {}};
  for (size_t axis = 0; axis < input.rank(); ++axis) {
    a.extents[axis] = static_cast<unsigned>(input.shape[axis]);
  }
  return a;
}

int64_t chunks_of(const TensorInfo& input) { return (input.count() + kChunk - 1) / kChunk; }

// Turns counts per chunk into the first output row of each chunk; returns the total.
int64_t exclusive_scan(uint32_t* counts, int64_t chunks) {
  int64_t total = 0;
  for (int64_t i = 0; i < chunks; ++i) {
    const int64_t n = counts[i];
    counts[i] = static_cast<uint32_t>(total);
    total += n;
  }
  return total;
}

}  // namespace

SetElements find_set(KernelCall& call, const Node& node, const TensorInfo& info,
                     BufferSlice tensor) {
  const int64_t chunks = chunks_of(info);
  if (chunks == 0) return {};
  const WhereArguments arguments = arguments_of(info);
  const BufferSlice counts = call.allocate_temp({TF_UINT32, {chunks}});
  call.encode(node, {tensor}, {counts}, info.bytes(), [&](NativeCall& native) {
    native.dispatch(shader_name("where_count", info.dtype), chunks,
                    {native.in(0), native.out(), NativeCall::value(arguments)});
  });
  call.synchronize();
  return {exclusive_scan(reinterpret_cast<uint32_t*>(counts.contents()), chunks), counts};
}

void write_set(KernelCall& call, const Node& node, const TensorInfo& info, BufferSlice tensor,
               const SetElements& found, BufferSlice out) {
  if (found.count == 0 || info.rank() == 0) return;
  const WhereArguments arguments = arguments_of(info);
  call.encode(node, {tensor, found.offsets}, {out}, info.bytes(), [&](NativeCall& native) {
    native.dispatch(shader_name("where_write", info.dtype), chunks_of(info),
                    {native.in(0), native.in(1), native.out(), NativeCall::value(arguments)});
  });
}

namespace {

void where(KernelCall& call) {
  Node node;
  node.def = call.kernel().shared_def();
  node.inputs = {call.input_info(0)};
  const TensorInfo& input = node.in(0);
  if (input.rank() == 0 || input.rank() > kMaxRank) {
    throw_invalid_argument(node.describe(), ": WhereOp: Unhandled input dimensions: ", input.rank(),
                           ", allowed are 1 to ", kMaxRank);
  }
  const BufferSlice tensor = call.input_slice(0);
  const SetElements found = find_set(call, node, input, tensor);
  node.outputs = {{TF_INT64, {found.count, static_cast<int64_t>(input.rank())}}};
  write_set(call, node, input, tensor, found, call.allocate_output(0, node.out()));
}

}  // namespace

std::vector<OpRow> where_ops() {
  return {{.op = "Where",
           .types = T(kFloats + kIntegers + DTypes{TF_BOOL}),
           .run = where,
           .cluster = ClusterPolicy::kNever,
           .precision = Precision::kClear}};
}

}  // namespace tfmetal
