// The pass "cluster": puts all computation on the device into few `_MetalCluster` ops, so that it
// runs as few dispatches. It comes last.
//
// With the variables out of the way (grappler/variables/) a training step is one piece: forward
// pass, gradients and the arithmetic of whatever optimizer end up in one cluster, between the reads
// of the variables and their assignments. No optimizer is matched, so none can be mistaken.
#pragma once

#include <cstddef>

#include "grappler/pass.h"

namespace tfmetal {

// Attribute `pattern` of the clusters made here; those of other passes may become members.
inline constexpr char kClusterPattern[] = "cluster";

// Fewer ops that compute are left as they are: the cluster would save no launch worth its overhead.
inline constexpr size_t kMinClusterWork = 3;
// More become several clusters, to bound what a new shape makes compile at once.
inline constexpr size_t kMaxClusterMembers = 4096;

int form_clusters(GraphView& view, Context& context);

}  // namespace tfmetal
