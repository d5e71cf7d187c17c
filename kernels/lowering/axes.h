// Checks of axes, shared by the rows for floats and those for integers.
#pragma once

#include "kernels/node.h"

namespace tfmetal {

void check_reduction_axes(const Node& node);  // none is named twice
void check_arg_axis(const Node& node);        // it has elements

}  // namespace tfmetal
