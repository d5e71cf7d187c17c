// Where: the one shape that depends on data. Asynchronous: a first pass counts, the host learns the
// count without blocking a TensorFlow thread, then the output is allocated and written.
#include <numeric>

#include "kernels/families.h"
#include "kernels/kernel.h"
#include "kernels/msl/arguments.h"
#include "plugin/device/stats.h"
#include "plugin/device/stream.h"

namespace tfmetal {

namespace {

// Elements a thread looks at: large enough that summing the counts up on the host is nothing.
constexpr int64_t kChunk = 1024;

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
  if (input.rank() > MAX_SHADER_RANK) {
    throw_invalid_argument(c.node.describe(), ": rank ", input.rank(), " is above ",
                           MAX_SHADER_RANK);
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

void write(KernelCall& call, Counting& c) {
  uint32_t* counts = reinterpret_cast<uint32_t*>(c.counts.contents());
  const int64_t total = exclusive_scan(counts, c.chunks);
  const int64_t rank = static_cast<int64_t>(c.node.in(0).rank());
  c.node.outputs = {{TF_INT64, {total, rank}}};
  const BufferSlice out = call.allocate_output(0, c.node.out());
  if (c.node.out().count() == 0) return;
  call.encode(c.node, {c.input, c.counts}, {out}, c.node.in(0).bytes(), [&](NativeCall& native) {
    native.dispatch(shader_name("where_write", c.node.in(0).dtype), c.chunks,
                    {native.in(0), native.in(1), native.out(), NativeCall::value(c.arguments)});
  });
}

void where(const std::shared_ptr<KernelCall>& call) {
  Counting c = describe(*call);
  if (c.node.in(0).count() == 0) {
    call->allocate_output(0, {TF_INT64, {0, static_cast<int64_t>(c.node.in(0).rank())}});
    return call->finish();
  }
  c.counts = call->allocate_temp({TF_UINT32, {c.chunks}});
  call->encode(c.node, {c.input}, {c.counts}, c.node.in(0).bytes(), [&](NativeCall& native) {
    native.dispatch(shader_name("where_count", c.node.in(0).dtype), c.chunks,
                    {native.in(0), native.out(), NativeCall::value(c.arguments)});
  });
  stats().sync_op++;
  call->stream().host_callback([call, c]() mutable {
    try {
      write(*call, c);
    } catch (...) {
      fail_kernel(call->context(), call->kernel().label());
    }
    call->finish();
  });
}

}  // namespace

std::vector<OpRow> where_ops() {
  return {{.op = "Where",
           .types = T(kFloats + kIntegers + DTypes{TF_BOOL}),
           .run = where,
           .async = true,
           .cluster = ClusterPolicy::kNever}};
}

}  // namespace tfmetal
