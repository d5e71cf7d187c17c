// The recurrent cells that the fused kernel knows, as patterns of one step of a loop.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "grappler/remapper/pattern.h"

namespace tfmetal {

// What a cell computes, found in the body of a loop.
struct Cell {
  const Pattern* pattern = nullptr;
  const char* mode = "";  // rnn_mode of the kernel
  Match match = {};       // all nodes of it
  Output x = {};          // of this step
  Output h, c = {};       // states before; c: null node if the cell has none
  Output next_c = {};
  Output weights = {}, state_weights = {};
  std::vector<Output> biases = {};
};

const std::vector<Pattern>& cell_patterns();

// The cell whose new state is `next_h` when `h` was the one before; nothing if it is none of the
// patterns or its operands have other ranks or sizes.
std::optional<Cell> find_cell(Output next_h, Output h, Context& context);

// The columns that a StridedSlice of all rows takes, or its gradient gives back, of `all`. Begin,
// end and strides are inputs `first` and following.
std::optional<std::pair<int64_t, int64_t>> sliced_range(const GraphNode& slice, size_t first,
                                                        int64_t all);

}  // namespace tfmetal
