// Where: its shape depends on data. A first pass counts, the host waits for the counts, allocates
// the output, and a second pass writes it.
//
// The wait blocks a TensorFlow thread. Asynchronous kernels of the C API do not help: TensorFlow
// hands them a pointer to a callback on its own stack (CAsyncOpKernel::ComputeAsync in
// tensorflow/c/kernels.cc, 2.16 to 2.21), which is gone when the function returns.
#include "kernels/families.h"
#include "kernels/kernel.h"
#include "kernels/msl/arguments.h"

namespace tfmetal {

namespace {

// Elements a thread looks at: large enough that summing the counts up on the host is nothing.
constexpr int64_t kChunk = 1024;

constexpr size_t kMaxRank = 8;  // of TensorFlow's own kernels

struct Counting {
  Node node;
  BufferSlice input, counts;
  int64_t chunks;
  WhereArguments arguments;
};

Counting describe(KernelCall& call) {
  Counting c;
  c.node.def = call.kernel().shared_def();
  c.node.inputs = {call.input_info(0)};
  const TensorInfo& input = c.node.in(0);
  if (input.rank() == 0 || input.rank() > kMaxRank) {
    throw_invalid_argument(c.node.describe(),
                           ": WhereOp: Unhandled input dimensions: ", input.rank(),
                           ", allowed are 1 to ", kMaxRank);
  }
  c.input = call.input_slice(0);
  c.chunks = (input.count() + kChunk - 1) / kChunk;
  c.arguments = {
      static_cast<unsigned>(input.count()), kChunk, static_cast<unsigned>(input.rank()), {}};
  for (size_t axis = 0; axis < input.rank(); ++axis) {
    c.arguments.extents[axis] = static_cast<unsigned>(input.shape[axis]);
  }
  return c;
}

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

void where(KernelCall& call) {
  Counting c = describe(call);
  const int64_t rank = static_cast<int64_t>(c.node.in(0).rank());
  int64_t total = 0;
  if (c.chunks > 0) {
    c.counts = call.allocate_temp({TF_UINT32, {c.chunks}});
    call.encode(c.node, {c.input}, {c.counts}, c.node.in(0).bytes(), [&](NativeCall& native) {
      native.dispatch(shader_name("where_count", c.node.in(0).dtype), c.chunks,
                      {native.in(0), native.out(), NativeCall::value(c.arguments)});
    });
    call.synchronize();
    total = exclusive_scan(reinterpret_cast<uint32_t*>(c.counts.contents()), c.chunks);
  }
  c.node.outputs = {{TF_INT64, {total, rank}}};
  const BufferSlice out = call.allocate_output(0, c.node.out());
  if (c.node.out().count() == 0) return;
  call.encode(c.node, {c.input, c.counts}, {out}, c.node.in(0).bytes(), [&](NativeCall& native) {
    native.dispatch(shader_name("where_write", c.node.in(0).dtype), c.chunks,
                    {native.in(0), native.in(1), native.out(), NativeCall::value(c.arguments)});
  });
}

}  // namespace

std::vector<OpRow> where_ops() {
  return {{.op = "Where",
           .types = T(kFloats + kIntegers + DTypes{TF_BOOL}),
           .run = where,
           .cluster = ClusterPolicy::kNever}};
}

}  // namespace tfmetal
