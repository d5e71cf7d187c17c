// The graph optimizer that TensorFlow calls for every graph of at least four nodes.
//
// TensorFlow makes one optimizer object per graph (the main graph and each function of its
// library) and calls it twice, each time after its own passes. A graph counts once in
// stats().graphs and stats().fallbacks: at the first call of its object.
//
// Whatever goes wrong, the graph goes back to TensorFlow as it came, with one warning.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "grappler/pass.h"
#include "tensorflow/c/experimental/grappler/grappler.h"

namespace tfmetal {

// Registers the optimizer for graphs with nodes on `device_type`, which must outlive the process'
// use of the plugin, and switches TensorFlow's layout optimizer and remapper off for these graphs.
void fill_optimizer(TP_OptimizerRegistrationParams* params, const char* device_type);

// The passes of `table` that are on. Warns once of each unknown word.
std::vector<Pass> selected_passes(const std::vector<Pass>& table, const Switches& switches);

// Runs the passes over a graph; `bytes` unchanged when none did anything. A pass that throws, or
// whose graph is not one, is undone and warned of once. `item` may be null (see Context). Throws
// InvalidArgument when `bytes` is no graph.
std::string run_passes(std::string_view bytes, const std::vector<Pass>& table,
                       const TF_GrapplerItem* item, const std::string& device_type,
                       const Switches& switches = {});

}  // namespace tfmetal
