// Writes into the graph what the painter has decided: types of nodes, and Casts where a tensor
// crosses the border.
//
//   float32 ---------> 16 bits       a Cast for each tensor, whoever reads it; a constant is
//                                    rounded now if that makes the graph no larger, or hardly
//   16 bits ---------> float32       a Cast for each tensor
//   X -> Cast -> float32 -> 16 bits  the Cast that is there gives 16 bits
//   16 bits -> Cast(float32) -> X    the Cast that is there takes 16 bits, and is an Identity if
//                                    it has nothing to do
//
// A Cast is beside the tensor that it reads: in its loop, dead when that is dead, and on the device
// even if that is on the CPU.
#pragma once

#include <map>
#include <tuple>
#include <unordered_set>

#include "grappler/mixed_precision/painter.h"

namespace tfmetal {

class Converter {
 public:
  Converter(GraphView& view, const Context& context, const Painting& painting, TF_DataType target)
      : view_(view), context_(context), painting_(painting), target_(target) {}

  // Returns the number of Casts added.
  int convert();

 private:
  void find_casts();
  void convert_input(GraphNode& reader, int index);
  bool take_reduced(GraphNode& cast);
  Output cast(Output source, TF_DataType to, const std::string& device);
  Output constant(GraphNode& source);
  bool is_small_or_ours(const GraphNode& constant) const;

  GraphView& view_;
  const Context& context_;
  const Painting& painting_;
  const TF_DataType target_;
  std::unordered_set<const GraphNode*> reduced_casts_;  // there already, to give 16 bits
  std::map<std::tuple<const GraphNode*, int, TF_DataType, std::string>, Output> casts_;
  std::map<const GraphNode*, Output> constants_;
};

}  // namespace tfmetal
