// The graph that a `_MetalCluster` node carries, decoded: members in an order in which they can
// run, and numbered values between them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/op_instance.h"

namespace tfmetal {

// Attribute `graph` of `_MetalCluster`: a GraphDef of `_Arg` nodes (attribute index: position among
// the node's inputs, those in host memory first), constants, members, and `_Retval` nodes.
struct Program {
  struct Member {
    std::shared_ptr<const NodeDef> def;
    std::unique_ptr<const OpInstance> op;  // null for shape arithmetic
    std::vector<int> inputs, outputs;      // values
  };
  using Constant = GraphPart::Constant;

  // Throws InvalidArgument, naming the cluster, when the graph is not as described above.
  static Program parse(const NodeDef& cluster);

  size_t num_host = 0, num_inputs = 0;  // values 0, 1, ... are the inputs
  int num_values = 0;
  std::vector<Member> members;
  std::map<int, Constant> constants;
  std::vector<int> results;
};

}  // namespace tfmetal
