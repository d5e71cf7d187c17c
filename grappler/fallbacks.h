// Which floating-point work TensorFlow placed on the CPU beside work on our device: usually an op
// without a kernel here.
//
// A node counts when all of these hold:
// * its graph also has a node on our device (a graph wholly on the CPU was meant to be);
// * it is placed on a device of type CPU;
// * its result type, the first present of the attributes DstT, dtype and T, is float32, float16,
//   bfloat16 or complex64;
// * its op is none of those that are on the CPU by nature and compute nothing: constants,
//   placeholders, arguments, variables, aliases, control flow, text output (table in the source).
// A node that the program itself put on the CPU counts too; it cannot be told apart.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "grappler/graphdef/graph_def.h"

namespace tfmetal {

// Op name -> number of nodes.
std::map<std::string, int64_t> find_fallbacks(const GraphDef& graph, std::string_view device_type);

// The fallbacks of all graphs seen since the start, or since reset_fallbacks().
std::map<std::string, int64_t> fallback_ops();
void count_fallbacks(const std::map<std::string, int64_t>& found);  // also in stats().fallbacks
void reset_fallbacks();

}  // namespace tfmetal
