// Gathers from tensors.
#include "kernels/families.h"
#include "kernels/native/rows.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// Takes rows along `axis`, which follows `batch` axes that both inputs share.
void gather_along(NativeCall& call, size_t axis, size_t batch) {
  const Node& node = call.node;
  const TensorInfo &params = node.in(0), &indices = node.in(1);
  Gather g;
  g.index = row_index(node, indices.dtype, params.shape, axis, 1);
  g.batches = product(params.shape, 0, batch);
  g.outer = product(params.shape, batch, axis);
  g.tuples = product(indices.shape, batch, indices.rank());
  g.rows = params.shape[axis];
  g.row_bytes =
      static_cast<size_t>(product(params.shape, axis + 1, params.rank())) * size_of(params.dtype);
  gather_rows(call, g, call.inputs[0], call.in(1), call.outputs[0]);
}

void gather(NativeCall& call) { gather_along(call, 0, 0); }

size_t batch_dims(const Node& node) {
  const int64_t batch = node.def->attr_int("batch_dims", 0);
  return static_cast<size_t>(batch < 0 ? batch + static_cast<int64_t>(node.in(1).rank()) : batch);
}

void gather_v2(NativeCall& call) {
  const int64_t axis = canonical_axis(call.node.host_int(2), call.node.in(0).rank(), "GatherV2");
  gather_along(call, static_cast<size_t>(axis), batch_dims(call.node));
}

// The shape function does not compare the batches.
void check_batches(const Node& node) {
  const Shape &params = node.in(0).shape, &indices = node.in(1).shape;
  for (size_t axis = 0; axis < batch_dims(node); ++axis) {
    if (params[axis] != indices[axis]) {
      throw_invalid_argument(node.describe(), ": params.shape[", axis, "]: ", params[axis],
                             " should be equal to indices.shape[", axis, "]: ", indices[axis]);
    }
  }
}

// The last axis of the indices holds tuples.
void gather_nd(NativeCall& call) {
  const Node& node = call.node;
  const TensorInfo &params = node.in(0), &indices = node.in(1);
  const size_t depth = static_cast<size_t>(indices.shape.back());
  Gather g;
  g.index = row_index(node, indices.dtype, params.shape, 0, depth);
  g.batches = g.outer = 1;
  g.tuples = product(indices.shape, 0, indices.rank() - 1);
  g.rows = row_count(g.index);
  g.row_bytes =
      static_cast<size_t>(product(params.shape, depth, params.rank())) * size_of(params.dtype);
  // Tuples of no indices have no memory, but a shader needs a buffer to bind.
  gather_rows(call, g, call.inputs[0], depth == 0 ? call.in(0) : call.in(1), call.outputs[0]);
}

void check_gather_nd(const Node& node) {
  if (node.in(0).count() == 0 && node.in(1).count() > 0) {
    throw_invalid_argument(node.describe(),
                           ": Requested more than 0 entries, but params is empty.  Params shape: ",
                           to_string(node.in(0).shape));
  }
  check_bad_indices_policy(node);
}

OpRow row(const char* op, Launch launch) {
  const DTypes any = kFloats + kIntegers + DTypes{TF_BOOL, TF_COMPLEX64};
  return {.op = op,
          .types = {{"Tparams", any}, {"Tindices", kIndex + DTypes{TF_INT16}}},
          .launch = launch,
          .empty_value = 0,
          .precision = Precision::kClear};
}

}  // namespace

std::vector<OpRow> gather_ops() {
  OpRow v2 = row("GatherV2", gather_v2), nd = row("GatherNd", gather_nd);
  v2.types.push_back({"Taxis", kIndex});
  v2.host = {{"axis", HostUse::kKey}};
  v2.check = check_batches;
  v2.shape_arithmetic = "Tparams";
  nd.takes_empty = true;
  nd.check = check_gather_nd;
  return {row("Gather", gather), v2, nd};
}

}  // namespace tfmetal
