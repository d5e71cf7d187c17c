// Rows dealt out and put together by indices that the host reads: DynamicStitch, DynamicPartition;
// and the Inplace ops.
#include <algorithm>

#include "kernels/families.h"
#include "kernels/kernel.h"
#include "kernels/native/rows.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

const DTypes kNumbers = kFloats + kIntegers + DTypes{TF_COMPLEX64};
const DTypes kAny = kNumbers + DTypes{TF_BOOL};

// ---- DynamicStitch ------------------------------------------------------------------------------

// Of the rows of the output, which input and which of its rows they come from: the last one wins.
struct Source {
  size_t input;
  int32_t row;
};
using Sources = std::vector<std::optional<Source>>;

Sources stitched_rows(const Node& node, size_t inputs) {
  int64_t rows = 0;
  std::vector<std::vector<int64_t>> indices;
  for (size_t i = 0; i < inputs; ++i) {
    indices.push_back(node.host_ints(i));
    for (int64_t index : indices.back()) {
      if (index < 0) {
        throw_invalid_argument(node.describe(), ": indices[", i, "] holds ", index,
                               ", which is below 0");
      }
      rows = std::max(rows, index + 1);
    }
  }
  Sources sources(static_cast<size_t>(rows));
  for (size_t i = 0; i < inputs; ++i) {
    for (size_t k = 0; k < indices[i].size(); ++k) {
      sources[static_cast<size_t>(indices[i][k])] = Source{i, static_cast<int32_t>(k)};
    }
  }
  return sources;
}

// What follows the indices' shape in the data's.
Shape stitched_row_shape(const Node& node, size_t inputs) {
  Shape shape;
  for (size_t i = 0; i < inputs; ++i) {
    const Shape &indices = node.in(i).shape, &data = node.in(inputs + i).shape;
    const bool starts =
        data.size() >= indices.size() && std::equal(indices.begin(), indices.end(), data.begin());
    if (!starts) {
      throw_invalid_argument(node.describe(), ": data[", i, "].shape = ", to_string(data),
                             " does not start with indices[", i, "].shape = ", to_string(indices));
    }
    const Shape rest(data.begin() + static_cast<std::ptrdiff_t>(indices.size()), data.end());
    if (i > 0 && rest != shape) {
      throw_invalid_argument(node.describe(), ": the rows of data[0] have shape ", to_string(shape),
                             ", those of data[", i, "] ", to_string(rest));
    }
    shape = rest;
  }
  return shape;
}

void stitch_input(KernelCall& call, const Node& node, const Sources& sources, size_t input,
                  BufferSlice values, BufferSlice out) {
  std::vector<int32_t> rows, items;
  for (size_t row = 0; row < sources.size(); ++row) {
    if (!sources[row] || sources[row]->input != input) continue;
    rows.push_back(static_cast<int32_t>(row));
    items.push_back(sources[row]->row);
  }
  if (rows.empty()) return;
  Combine c;
  c.sorted = {call.upload(rows), call.upload(items)};
  c.count = static_cast<int64_t>(rows.size());
  c.rows = static_cast<int64_t>(sources.size());
  c.width = product(node.out().shape, 1, node.out().rank());
  c.op = kUpdateAssign;
  call.encode(node, {values}, {out, c.sorted.keys, c.sorted.items}, node.out().bytes(),
              [&](NativeCall& native) {
                combine_rows(native, c, node.out().dtype, native.outputs[0], native.inputs[0]);
              });
}

void dynamic_stitch(KernelCall& call) {
  Node node = call.node();
  const size_t inputs = node.inputs.size() / 2;
  const Shape row = stitched_row_shape(node, inputs);
  const Sources sources = stitched_rows(node, inputs);
  Shape shape = {static_cast<int64_t>(sources.size())};
  shape.insert(shape.end(), row.begin(), row.end());
  node.outputs = {{node.in(inputs).dtype, shape}};
  const BufferSlice out = call.allocate_output(0, node.out());
  if (node.out().count() == 0) return;
  if (std::count(sources.begin(), sources.end(), std::nullopt) > 0) {
    call.encode(node, {}, {out}, node.out().bytes(), [&](NativeCall& native) {
      native.clear(native.outputs[0], node.out().bytes());  // rows that no index names
    });
  }
  for (size_t i = 0; i < inputs; ++i) {
    if (node.in(inputs + i).count() == 0) continue;
    stitch_input(call, node, sources, i, call.input_slice(inputs + i), out);
  }
}

// ---- DynamicPartition ---------------------------------------------------------------------------

// The rows of each partition, in order. The host waits for the partitions.
std::vector<std::vector<int32_t>> dealt_rows(KernelCall& call, const Node& node) {
  std::vector<std::vector<int32_t>> rows(static_cast<size_t>(node.def->attr_int("num_partitions")));
  const int64_t count = node.in(1).count();
  if (count == 0) return rows;
  call.synchronize();
  const int32_t* partitions = static_cast<const int32_t*>(call.input_data(1));
  for (int64_t i = 0; i < count; ++i) {
    if (partitions[i] < 0 || static_cast<size_t>(partitions[i]) >= rows.size()) {
      throw_invalid_argument(node.describe(), ": partitions holds ", partitions[i], " at ", i,
                             ", which is not in [0, ", rows.size(), ")");
    }
    rows[static_cast<size_t>(partitions[i])].push_back(static_cast<int32_t>(i));
  }
  return rows;
}

void dynamic_partition(KernelCall& call) {
  Node node = call.node();
  const Shape &data = node.in(0).shape, &partitions = node.in(1).shape;
  if (data.size() < partitions.size() ||
      !std::equal(partitions.begin(), partitions.end(), data.begin())) {
    throw_invalid_argument(node.describe(), ": data.shape must start with partitions.shape");
  }
  const std::vector<std::vector<int32_t>> rows = dealt_rows(call, node);
  const Shape row(data.begin() + static_cast<std::ptrdiff_t>(partitions.size()), data.end());
  Gather g = {{},
              1,
              1,
              0,
              node.in(1).count(),
              static_cast<size_t>(element_count(row)) * size_of(node.in(0).dtype)};
  g.index = row_index(node, TF_INT32, {g.rows}, 0, 1);
  for (size_t i = 0; i < rows.size(); ++i) {
    g.tuples = static_cast<int64_t>(rows[i].size());
    Shape shape = {g.tuples};
    shape.insert(shape.end(), row.begin(), row.end());
    const TensorInfo info{node.in(0).dtype, shape};
    const BufferSlice out = call.allocate_output(i, info);
    if (info.count() == 0) continue;
    const BufferSlice indices = call.upload(rows[i]);
    call.encode(node, {call.input_slice(0), indices}, {out}, 2 * info.bytes(),
                [&](NativeCall& native) {
                  gather_rows(native, g, native.inputs[0], native.in(1), native.outputs[0]);
                });
  }
}

// ---- Inplace ops: rows of a copy ----------------------------------------------------------------

size_t inplace_scratch(const Node& node) {
  return node.in(1).count() == 0 ? 0 : sort_scratch_bytes(node.in(1).count());
}

template <VariableUpdate op>
void change_rows(NativeCall& call) {
  const Node& node = call.node;
  const TensorInfo& out = node.out();
  call.copy(call.inputs[0], call.outputs[0], out.bytes());
  Combine c;
  c.count = node.in(1).count();
  if (c.count == 0 || node.in(2).count() == 0) return;
  c.sorted = sort_by_row(call, call.in(1), row_index(node, TF_INT32, out.shape, 0, 1), c.count,
                         call.scratch());
  c.rows = out.shape[0];
  c.width = product(out.shape, 1, out.rank());
  c.op = op;
  combine_rows(call, c, out.dtype, call.outputs[0], call.inputs[2]);
}

void check_rows(const Node& node) {
  const Shape &x = node.in(0).shape, &v = node.in(2).shape;
  if (node.in(1).rank() != 1 || x.size() != v.size() || v.empty() || v[0] != node.in(1).shape[0] ||
      !std::equal(x.begin() + 1, x.end(), v.begin() + 1)) {
    throw_invalid_argument(node.describe(), ": i must be a vector, and v of its length and of the ",
                           "shape of rows of x");
  }
}

OpRow inplace(const char* op, Launch launch, DTypes dtypes) {
  return {.op = op,
          .types = T(std::move(dtypes)),
          .launch = launch,
          .takes_empty = true,
          .check = check_rows,
          .scratch = inplace_scratch};
}

}  // namespace

std::vector<OpRow> stitch_ops() {
  return {
      {.op = "DynamicStitch",
       .types = T(kAny),
       .host = {{"indices", HostUse::kArg}},
       .run = dynamic_stitch,
       .cluster = ClusterPolicy::kNever,
       .precision = Precision::kClear},
      {.op = "DynamicPartition",
       .types = T(kAny),
       .run = dynamic_partition,
       .cluster = ClusterPolicy::kNever,
       .precision = Precision::kClear},
      inplace("InplaceUpdate", change_rows<kUpdateAssign>, kAny),
      inplace("InplaceAdd", change_rows<kUpdateAdd>, kNumbers),
      inplace("InplaceSub", change_rows<kUpdateSub>, kNumbers),
  };
}

}  // namespace tfmetal
