// Takes the remapper's fused ops apart, for a pass that looks at their members, and puts them
// together again. In between the graph is not one to be run.
#pragma once

#include <string>
#include <vector>

#include "grappler/pass.h"

namespace tfmetal {

// A fused op, and the nodes that it was made of.
struct Fusion {
  std::string name, pattern;
  std::vector<GraphNode*> members;
};

// Whether the node is a cluster that the remapper made.
bool is_fusion(const GraphNode& node);

// Those whose names are asked for stay as they are.
std::vector<Fusion> dissolve_fusions(GraphView& view, const Context& context);

// Casts that have come between members since become members.
void restore_fusions(GraphView& view, Context& context, const std::vector<Fusion>& fusions);

}  // namespace tfmetal
