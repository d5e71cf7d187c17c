// Passes over loops and branches.
#pragma once

#include "grappler/pass.h"

namespace tfmetal {

int compute_predicates_on_host(GraphView& graph, Context& context);
int convert_lists(GraphView& graph, Context& context);

}  // namespace tfmetal
