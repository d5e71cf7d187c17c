// In which order the nodes of an executable run, and which of them together.
//
// Elementwise nodes of one result shape become chains, which keep what is between them in the
// first-level cache. Chains, and reductions over the last axes, whose values consist of the same
// rows become groups, which run row by row, so that what is between them stays in the second-level
// cache and, when nobody outside reads it, never gets a place in memory.
#pragma once

#include <memory>
#include <unordered_set>
#include <vector>

#include "plugin/host/mps_graph/elementwise.h"

namespace host {

// Which tensors share memory: aliases, and copies of what no target is made of.
class Storage {
 public:
  explicit Storage(const std::vector<Tensor*>& targets);
  bool shares(const Node* node) const {
    return node->kind == Kind::Alias || (node->is_copy && !kept_.count(node));
  }
  // The tensor whose memory it is.
  const Tensor* root(const Tensor* tensor) const {
    while (shares(tensor->node)) tensor = tensor->node->inputs[0];
    return tensor;
  }

 private:
  std::unordered_set<const Node*> kept_;
};

struct Step {
  const Node* node = nullptr;               // evaluated, or
  std::unique_ptr<ElementwiseChain> chain;  // run
  std::vector<const Tensor*> inputs, outputs;
};

struct Group {
  std::vector<Step> steps;
  // Into how many rows each value that the steps write falls; 1: the steps run one after the other.
  long rows = 1;
  std::vector<const Tensor*> locals;  // written and read by this group only
};

// `nodes`: in a topological order.
std::vector<Group> schedule(const std::vector<const Node*>& nodes,
                            const std::vector<Tensor*>& targets, const Storage& storage);

}  // namespace host
