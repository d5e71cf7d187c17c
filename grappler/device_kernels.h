// What passes ask about the kernels of our device.
#pragma once

#include "grappler/graphdef/node_def.h"
#include "kernels/op_table.h"

namespace tfmetal {

// The row with which a kernel was registered that runs this node on the device; null: there is
// none, be it that TensorFlow keeps these types on the host.
const OpRow* registered_row(const NodeDef& def);

}  // namespace tfmetal
