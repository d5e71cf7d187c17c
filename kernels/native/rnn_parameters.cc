// The rows of recurrent layers, and their parameters: how many there are, and the conversions
// between one buffer of all and the canonical form, a matrix or vector per gate.
#include "kernels/families.h"
#include "kernels/native/rnn.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

RnnModel model_of(const Node& node) {
  for (size_t i = 0; i < 3; ++i) {
    if (node.in(i).rank() == 0) continue;
    const char* const names[] = {"num_layers", "num_units", "input_size"};
    throw_invalid_argument(node.describe(), ": ", names[i], " is not a scalar");
  }
  return RnnModel::make(*node.def, node.host_int(0), node.host_int(1), node.host_int(2));
}

void parameters_size(KernelCall& call) {
  const Node node = call.node();
  const int64_t size = model_of(node).parameters();
  const TensorInfo info{node.def->attr_type("S"), {1}};
  void* out = call.allocate_host_output(0, info);
  if (info.dtype == TF_INT64) {
    *static_cast<int64_t*>(out) = size;
  } else {
    *static_cast<int32_t*>(out) = static_cast<int32_t>(size);
  }
}

// Pieces of one buffer and the tensors that they are.
struct Piece {
  RnnModel::Region region;
  BufferSlice tensor;
};

void move(KernelCall& call, const Node& node, TF_DataType dtype, BufferSlice all,
          const std::vector<Piece>& pieces, bool gather) {
  if (!all.block) return;
  std::vector<BufferSlice> uses = {all};
  for (const Piece& piece : pieces) {
    if (piece.tensor.block) uses.push_back(piece.tensor);
  }
  call.encode(node, uses, {}, 0, [&](NativeCall& native) {
    for (const auto& [region, tensor] : pieces) {
      if (region.size() == 0) continue;
      BufferSlice part = all;
      part.offset += static_cast<size_t>(region.offset) * size_of(dtype);
      native.copy(gather ? tensor : part, gather ? part : tensor,
                  static_cast<size_t>(region.size()) * size_of(dtype));
    }
  });
}

// The number of weights or biases that the node has: the attribute of version 1 or of version 2.
size_t expected(const Node& node, const char* attr) {
  return static_cast<size_t>(
      node.def->attr_int(node.def->has_attr("num_params") ? "num_params" : attr));
}

void check_count(const Node& node, const char* what, size_t given, size_t needed) {
  if (given == needed) return;
  throw_invalid_argument(node.describe(), ": Number of params (", what, ") mismatch. Expected ",
                         needed, ", got ", given);
}

void to_canonical(KernelCall& call) {
  Node node = call.node();
  const RnnModel model = model_of(node);
  const auto weights = model.canonical_weights(), biases = model.canonical_biases();
  check_count(node, "weights", expected(node, "num_params_weights"), weights.size());
  check_count(node, "biases", expected(node, "num_params_biases"), biases.size());
  const TensorInfo& all = node.in(3);
  if (all.count() != model.parameters()) {
    throw_invalid_argument(node.describe(), ": params has ", all.count(),
                           " elements, this model has ", model.parameters());
  }
  std::vector<Piece> pieces;
  for (const RnnModel::Region& r : weights) {
    node.outputs.push_back({all.dtype, {r.rows, r.columns}});
    pieces.push_back({r, {}});
  }
  for (const RnnModel::Region& r : biases) {
    node.outputs.push_back({all.dtype, {r.rows}});
    pieces.push_back({r, {}});
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    pieces[i].tensor = call.allocate_output(i, node.out(i));
  }
  move(call, node, all.dtype, call.input_slice(3), pieces, /*gather=*/false);
}

void from_canonical(KernelCall& call) {
  Node node = call.node();
  const RnnModel model = model_of(node);
  std::vector<RnnModel::Region> regions = model.canonical_weights();
  check_count(node, "weights", expected(node, "num_params_weights"), regions.size());
  const auto biases = model.canonical_biases();
  check_count(node, "biases", expected(node, "num_params_biases"), biases.size());
  regions.insert(regions.end(), biases.begin(), biases.end());
  std::vector<Piece> pieces;
  for (size_t i = 0; i < regions.size(); ++i) {
    if (node.in(3 + i).count() != regions[i].size()) {
      throw_invalid_argument(node.describe(), ": Params size mismatch. Expected ",
                             regions[i].size(), ", got ", node.in(3 + i).count());
    }
    pieces.push_back({regions[i], call.input_slice(3 + i)});
  }
  const TF_DataType dtype = node.def->attr_type("T");
  node.outputs = {{dtype, {model.parameters()}}};
  move(call, node, dtype, call.allocate_output(0, node.out()), pieces, /*gather=*/true);
}

OpRow row(const char* op, Run run, std::vector<const char*> host = {}) {
  OpRow r{.op = op,
          .types = T(kFloats),
          .run = run,
          .cluster = ClusterPolicy::kNever,
          .precision = Precision::kAllow};
  for (const char* name : host) r.host.push_back({name, HostUse::kArg});
  return r;
}

OpRow parameters_row(const char* op, Run run) {
  OpRow r = row(op, run, {"num_layers", "num_units", "input_size"});
  r.precision = Precision::kNone;  // moves weights, once
  return r;
}

}  // namespace

std::vector<OpRow> rnn_ops() {
  OpRow size = parameters_row("CudnnRNNParamsSize", parameters_size);
  size.types.push_back({"S", kIndex});
  size.host.push_back({"params_size", HostUse::kArg});
  return {
      row("CudnnRNN", rnn_forward<1>),
      row("CudnnRNNV2", rnn_forward<2>, {"host_reserved"}),
      row("CudnnRNNV3", rnn_forward<3>, {"sequence_lengths", "host_reserved"}),
      row("CudnnRNNBackprop", rnn_backward<1>),
      row("CudnnRNNBackpropV2", rnn_backward<2>, {"host_reserved"}),
      row("CudnnRNNBackpropV3", rnn_backward<3>, {"sequence_lengths", "host_reserved"}),
      size,
      parameters_row("CudnnRNNParamsToCanonical", to_canonical),
      parameters_row("CudnnRNNParamsToCanonicalV2", to_canonical),
      parameters_row("CudnnRNNCanonicalToParams", from_canonical),
      parameters_row("CudnnRNNCanonicalToParamsV2", from_canonical),
      rnn_loop_row(),
      rnn_loop_grad_row(),
  };
}

}  // namespace tfmetal
