// What may go into a _MetalCluster.
#pragma once

#include "grappler/graphdef/node_def.h"

namespace tfmetal {

// Whether the device has a kernel for the node that a cluster can run: a lowering or a launch.
bool can_be_member(const NodeDef& node);
// Whether a cluster can run the node on the device although outside TensorFlow keeps its int32 on
// the host. Between members that saves a wait for the device.
bool can_be_inner(const NodeDef& node);
// Whether it would be no work outside a cluster either: an alias of its input.
bool is_free(const NodeDef& node);

// Whether the kernel of _MetalCluster is there. Without it nothing may be outlined.
bool has_cluster_kernel();

}  // namespace tfmetal
