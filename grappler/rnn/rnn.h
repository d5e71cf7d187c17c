// Loops over time of a standard recurrent cell become one op.
#pragma once

#include <string>
#include <vector>

#include "grappler/pass.h"

namespace tfmetal {

// The pass.
int fuse_recurrent_loops(GraphView& view, Context& context);

std::vector<std::string> recurrent_cell_names();

}  // namespace tfmetal
