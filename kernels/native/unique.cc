// Unique and its versions: equal elements, or equal rows along an axis, once each, in the order in
// which they come first. How many there are is known only on the device, so the host waits once.
#include <utility>

#include "kernels/families.h"
#include "kernels/kernel.h"
#include "kernels/msl/unique_arguments.h"
#include "kernels/native/sort.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

constexpr unsigned kChunk = 1024;
constexpr size_t kInput = 0, kAxis = 1;

int64_t unique_axis(const Node& node) {
  const TensorInfo& x = node.in(kInput);
  const int64_t rank = static_cast<int64_t>(x.rank());
  const bool has_axis = node.inputs.size() > 1 && node.in(kAxis).count() > 0;
  if (!has_axis && rank != 1) {
    throw_invalid_argument(node.describe(), ": unique expects a 1D vector.");
  }
  if (!has_axis) return 0;
  if (node.in(kAxis).rank() != 1) {
    throw_invalid_argument(node.describe(), ": axis expects a 1D vector.");
  }
  if (node.in(kAxis).count() > 1) {
    throw_invalid_argument(node.describe(),
                           ": axis does not support input tensors larger than 1 elements");
  }
  const int64_t axis = node.host_int(kAxis);
  if (axis < -rank || axis >= rank) {
    throw_invalid_argument(node.describe(), ": axis has to be between [0, ", rank, ")");
  }
  return axis < 0 ? axis + rank : axis;
}

// Sorted by the last element of a row first: each sort keeps the order of the ones before.
BufferSlice sort_rows(KernelCall& call, const Node& node, BufferSlice x, const UniqueArguments& a) {
  RowsToSort what = {x, node.in(kInput).dtype, 1, a.rows, a.rows, false};
  what.stride = a.inner;
  for (int64_t outer = a.outer; outer-- > 0;) {
    for (int64_t inner = a.inner; inner-- > 0;) {
      what.offset = outer * a.rows * a.inner + inner;
      what.order = sorted_order(call, node, what).columns;
    }
  }
  return what.order;
}

// Turns counts per chunk into those before each chunk; returns the total.
uint32_t exclusive_scan(BufferSlice counts, int64_t chunks) {
  auto* count = reinterpret_cast<uint32_t*>(counts.contents());
  uint32_t total = 0;
  for (int64_t i = 0; i < chunks; ++i) total += std::exchange(count[i], total);
  return total;
}

TF_DataType word_of(TF_DataType dtype) {
  const size_t size = size_of(dtype);
  return size == 1 ? TF_UINT8 : size == 2 ? TF_UINT16 : size == 4 ? TF_UINT32 : TF_UINT64;
}

void no_rows(KernelCall& call, const Node& node, bool counts) {
  const TF_DataType index = node.def->attr_type("out_idx");
  call.allocate_output(0, node.in(kInput));
  call.allocate_output(1, {index, {0}});
  if (counts) call.allocate_output(2, {index, {0}});
}

// Rows of no elements are all equal.
void one_row(KernelCall& call, const Node& node, size_t axis, bool counts) {
  const TF_DataType index = node.def->attr_type("out_idx");
  Shape shape = node.in(kInput).shape;
  const int64_t rows = std::exchange(shape[axis], 1);
  call.allocate_output(0, {node.in(kInput).dtype, shape});
  const TensorInfo groups{index, {rows}};
  call.stream().fill(call.allocate_output(1, groups), 0, groups.bytes());
  if (!counts) return;
  call.stream().copy_from_host(call.allocate_output(2, {index, {1}}), &rows, size_of(index));
}

template <bool counts>
void unique(KernelCall& call) {
  Node node = call.node();
  const TensorInfo x = node.in(kInput);
  const auto axis = static_cast<std::ptrdiff_t>(unique_axis(node));
  UniqueArguments a = {};
  a.outer = static_cast<unsigned>(element_count(Shape(x.shape.begin(), x.shape.begin() + axis)));
  a.rows = static_cast<unsigned>(x.shape[static_cast<size_t>(axis)]);
  a.inner = static_cast<unsigned>(element_count(Shape(x.shape.begin() + axis + 1, x.shape.end())));
  a.chunk = kChunk;
  if (a.rows == 0) return no_rows(call, node, counts);
  if (x.count() == 0) return one_row(call, node, static_cast<size_t>(axis), counts);
  const BufferSlice in = call.input_slice(kInput);
  const BufferSlice order = sort_rows(call, node, in, a);
  const int64_t rows = a.rows, chunks = (rows + kChunk - 1) / kChunk;
  const auto temp = [&](TF_DataType dtype, int64_t n) { return call.allocate_temp({dtype, {n}}); };
  const BufferSlice heads = temp(TF_UINT8, rows), firsts = temp(TF_UINT8, rows);
  const BufferSlice head_counts = temp(TF_UINT32, chunks), first_counts = temp(TF_UINT32, chunks);
  call.encode(node, {in, order}, {heads, firsts, head_counts, first_counts}, x.bytes(),
              [&](NativeCall& native) {
                native.dispatch(shader_name("unique_mark", x.dtype), rows,
                                {{in}, {order}, {heads}, {firsts}, NativeCall::value(a)});
                native.dispatch(
                    "unique_count", chunks,
                    {{heads}, {firsts}, {head_counts}, {first_counts}, NativeCall::value(a)},
                    NativeCall::kSmallGroup);
              });
  call.synchronize();
  exclusive_scan(head_counts, chunks);
  a.groups = exclusive_scan(first_counts, chunks);

  const TF_DataType index = node.def->attr_type("out_idx");
  Shape shape = x.shape;
  shape[static_cast<size_t>(axis)] = a.groups;
  node.outputs = {{x.dtype, shape}, {index, {rows}}, {index, {a.groups}}};
  const BufferSlice values = call.allocate_output(0, node.out(0));
  const BufferSlice groups = call.allocate_output(1, node.out(1));
  const BufferSlice sizes =
      counts ? call.allocate_output(2, node.out(2)) : call.allocate_temp(node.out(2));
  const BufferSlice numbers = temp(TF_UINT32, rows), chosen = temp(TF_UINT32, a.groups);
  const BufferSlice starts = temp(TF_UINT32, a.groups);
  call.encode(
      node, {in, order, heads, firsts, head_counts, first_counts},
      {values, groups, sizes, numbers, chosen, starts}, 2 * x.bytes(), [&](NativeCall& native) {
        native.dispatch("unique_number", chunks,
                        {{heads},
                         {firsts},
                         {head_counts},
                         {first_counts},
                         {numbers},
                         {chosen},
                         {starts},
                         NativeCall::value(a)},
                        NativeCall::kSmallGroup);
        native.dispatch(shader_name("unique_groups", index), int64_t{a.groups},
                        {{order}, {numbers}, {starts}, {groups}, {sizes}, NativeCall::value(a)},
                        NativeCall::kSmallGroup);
        native.dispatch(shader_name("unique_rows", word_of(x.dtype)), node.out().count(),
                        {{in}, {chosen}, {values}, NativeCall::value(a)});
      });
}

OpRow row(const char* op, Run run, std::vector<HostInput> host) {
  return {.op = op,
          .types = {{"T", kFloats + kIntegers + DTypes{TF_BOOL}}, {"out_idx", kIndex}},
          .host = std::move(host),
          .run = run,
          .cluster = ClusterPolicy::kNever};
}

}  // namespace

std::vector<OpRow> unique_ops() {
  return {
      row("Unique", unique<false>, {}),
      row("UniqueV2", unique<false>, {{"axis", HostUse::kArg}}),
      row("UniqueWithCounts", unique<true>, {}),
      row("UniqueWithCountsV2", unique<true>, {{"axis", HostUse::kArg}}),
  };
}

}  // namespace tfmetal
