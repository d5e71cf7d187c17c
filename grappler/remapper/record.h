// What the remapper and automatic mixed precision did and why not, for `python -m
// tensorflow_metal_py fusions`: only recorded while somebody asks, through the MetalRuntime calls
// `record_fusions` and `recorded_fusions`.
#pragma once

#include "grappler/remapper/matcher.h"

namespace tfmetal {

bool recording();
void record_fusion(const Pattern& pattern, const Match& match);
void record_refusal(const char* pattern, const GraphNode& root, const Refusal& refusal);

// A node that automatic mixed precision looked at.
struct PrecisionRow {
  std::string node, op, precision;  // its class
  bool converted;
  std::string why;
};
void record_precision(const PrecisionRow& row);

}  // namespace tfmetal
