// The gradient of a loop over time, which is a loop, too.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "grappler/rnn/recurrence.h"
#include "grappler/rnn/values.h"

namespace tfmetal {

// The loop backwards over the steps of a recurrence:
//
//   for (i = 0; i < steps; ++i)
//     what each step kept = TensorListPopBack
//     dh += TensorListGetItem(TensorListFromTensor(doutputs), step or 0), which becomes zeros
//     dh (, dc) = gradient of the cell
//     dx = AddN(dx, TensorListSetItem(TensorListReserve, step, gradient of x))
//     sums... = sum + gradient of weights or biases, or what is linear in these
struct RecurrenceGradient {
  // What a step adds to the gradients of weights.
  enum Share { kWeights, kStateWeights, kBias, kStateBias };

  WhileLoop loop;
  const LoopVariable *dh = nullptr, *dc = nullptr;
  Output doutputs = {};                    // outside; null node if there are none
  std::vector<GraphNode*> dx_stacks = {};  // TensorListStack, who read the gradient of the input
  std::vector<const LoopVariable*> sums = {};
  std::map<const GraphNode*, Share> shares = {};  // the nodes whose output 0 they are
  std::set<const GraphNode*> linear = {};         // those between shares and sums
};

// The loop as the gradient of `recurrence`, or why it is none.
std::variant<RecurrenceGradient, std::string> find_gradient(WhileLoop loop,
                                                            const Recurrence& recurrence,
                                                            Context& context);

// The LoopCond of the loop that `enter` leads into; null if it is none.
GraphNode* condition_of(const GraphNode& enter);
// Whether it is zeros, as far as the graph tells.
bool is_zeros(Output output);

}  // namespace tfmetal
