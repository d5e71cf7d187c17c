// Maps between a dense grid and a tensor of another shape: how padding, blocks and patches are
// described to kernels/msl/movement.metal.
#pragma once

#include "kernels/msl/movement_arguments.h"
#include "kernels/native_call.h"

namespace tfmetal {

struct MapFactor {
  int64_t extent;
  size_t axis;       // of the tensor
  int64_t step = 1;  // on that axis
};

struct ElementMap {
  std::vector<MapFactor> factors;  // of the dense side, last fastest
  Shape sizes;                     // of the tensor
  Shape starts;                    // on the tensor's axes; empty: all 0
  MapEdge edge = kEdgeValue;
};

// One factor per axis of the tensor: element i of an axis is at start + i.
ElementMap axis_map(const Shape& dense, const Shape& sizes, const Shape& starts, MapEdge edge);

// output = input at the map; outside of it `value` (null: zeros).
void map_load(NativeCall& call, const ElementMap& map, size_t input,
              const ShaderArgument* value = nullptr);
// output at the map = input, where that is inside. Writes what the map reaches only.
void map_store(NativeCall& call, const ElementMap& map, size_t input);
// All bits of the output 0.
void fill_zero(NativeCall& call);

}  // namespace tfmetal
