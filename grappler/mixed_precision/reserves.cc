// Reserve spaces: what a recurrent layer keeps for its gradient. It has the layer's element type,
// but holds float32 whatever that is, so no Cast may come between: the layer and its gradients are
// converted together, or not at all where something else reads it (a function that returns it to
// its gradient, a loop that keeps it).
#include <algorithm>

#include "grappler/mixed_precision/painter.h"
#include "kernels/op_def.h"

namespace tfmetal {
namespace {

constexpr std::string_view kReserve = "reserve_space";

// The output of that name; -1 if there is none. All outputs of such ops are single tensors.
int reserve_output(const GraphNode& node) {
  const std::vector<ArgDef>& outputs = op_def(node.op()).outputs;
  const auto found = std::ranges::find(outputs, kReserve, &ArgDef::name);
  return found == outputs.end() ? -1 : int(found - outputs.begin());
}

bool is_reserve_input(const GraphNode& node, int index) {
  return input_names(node.def())[size_t(index)] == kReserve;
}

}  // namespace

void Painting::group_reserves() {
  for (size_t i = 0; i < all_.size(); ++i) {
    const GraphNode& node = *all_[i].node;
    for (size_t k = 0; k < node.num_inputs(); ++k) {
      const Output source = node.input(k);
      if (is_reserve_input(node, int(k)) &&
          (find(*source.node) == kNone || reserve_output(*source.node) != source.port))
        join({int(i)}, false);
    }
    const int port = reserve_output(node);
    if (port < 0) continue;
    std::vector<int> members = {int(i)};
    bool allowed = true;
    for (const Use& use : node.uses(port)) {
      const int reader = find(*use.node);
      allowed &= reader != kNone && is_reserve_input(*use.node, use.index);
      if (reader != kNone) members.push_back(reader);
    }
    if (members.size() > 1 || !allowed) join(members, allowed);
  }
}

}  // namespace tfmetal
