// Replaces nodes by one _MetalCluster that computes what they compute (its attributes: see
// kernels/cluster/). Passes decide what goes together; this is the only place that does it.
#pragma once

#include <string_view>
#include <vector>

#include "grappler/pass.h"

namespace tfmetal {

inline constexpr char kClusterOp[] = "_MetalCluster";

// Constants up to this size are copied into the cluster; larger ones stay outside.
inline constexpr size_t kMaxInlineBytes = 1024;

// Whether a cluster that reads this node, a constant, gets a copy of it.
bool is_inlined(const GraphNode& constant);

// Which inputs of a node a cluster needs on the host: those that its kernel reads there, and what
// shape arithmetic computes with. Throws NotFound when no cluster can run the node.
std::vector<bool> host_inputs(const NodeDef& node);

// Replaces `members`, nodes on the device without a cycle or a path that leaves them and comes
// back, by one cluster. Its results are the outputs that other nodes read or whose names are
// preserved; these names live on. Constants that nobody reads any more go away. Takes time linear
// in the members and their edges. Throws, leaving the graph as it was, when a member is no op of
// the device.
//
// Returns the cluster, which has the name of its last member if that has one output and is read
// from outside.
GraphNode& outline(GraphView& view, const std::vector<GraphNode*>& members, Context& context,
                   std::string_view pattern);

}  // namespace tfmetal
