// Ops that only rename or reshape. TensorFlow's own kernels for them cost nothing, so none is
// registered; inside a cluster they are nodes of the executable.
#include "kernels/families.h"

namespace tfmetal {

namespace {

// The plan gives a result the shape of the output.
Tensors same(GraphBuilder&, const Node&, Inputs in) { return {in[0]}; }

OpRow alias(const char* op, std::vector<HostInput> host = {}) {
  return {.op = op,
          .types = T(kFloats + kDeviceInts + DTypes{TF_BOOL, TF_COMPLEX64}),
          .host = std::move(host),
          .lower = same,
          .takes_empty = true,
          .precision = Precision::kClear,
          .cluster_only = true};
}

}  // namespace

std::vector<OpRow> alias_ops() {
  return {
      alias("EnsureShape"),     alias("ExpandDims", {{"dim", HostUse::kKey}}), alias("Identity"),
      alias("PreventGradient"), alias("Reshape", {{"shape", HostUse::kKey}}),  alias("Squeeze"),
      alias("StopGradient")};
}

}  // namespace tfmetal
