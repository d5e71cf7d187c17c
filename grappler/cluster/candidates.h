// Which nodes of a graph may go into clusters, and with which others.
//
// A member has a kernel on the device, computes only, and gives outputs whose shapes do not depend
// on values. Members may be together when they are on one device, in one loop and alive under the
// same conditions, and when none reads on the host what another computes on the device.
//
// Arithmetic on shapes takes part although TensorFlow runs it on the host: a cluster evaluates it
// while it prepares (kernels/cluster/shape_arithmetic.h). So a Reshape to a shape made of another
// member's shape need not wait for the device. And int32 that TensorFlow keeps on the host takes
// part where it comes from members and goes to members.
#pragma once

#include <vector>

#include "grappler/cluster/levels.h"
#include "grappler/pass.h"

namespace tfmetal {

struct Candidates {
  std::vector<GraphNode*> nodes;  // all of the graph, sources first: the problem's numbers
  LevelProblem problem;
};

Candidates find_candidates(const GraphView& view, const Context& context);

// Whether the node counts as work: not if it only renames or reshapes.
bool is_work(const GraphNode& node);

}  // namespace tfmetal
