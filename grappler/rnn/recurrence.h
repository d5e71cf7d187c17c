// What a loop over time does, and with what.
#pragma once

#include <string>
#include <variant>

#include "grappler/rnn/cells.h"
#include "grappler/rnn/loop.h"

namespace tfmetal {

// A loop that runs one cell over the elements of a list:
//
//   for (i = 0; i < limits...; ++i)
//     h (, c) = cell(TensorListGetItem(TensorListFromTensor(x), i), h (, c))
//     list = TensorListSetItem(list, i or 0, h)
//     kept... = TensorListPushBack(kept..., what the gradient needs)
struct Recurrence {
  enum class Keeps { kNone, kLast, kAll };
  struct Kept {
    const LoopVariable* list;
    Output value;  // of the step
  };

  WhileLoop loop;
  Cell cell = {};
  Output x = {};                                  // outside of the loop: [time, batch, features]
  const LoopVariable *h = nullptr, *c = nullptr;  // c: of an LSTM
  const LoopVariable* list = nullptr;             // of outputs, if somebody reads it
  std::vector<const LoopVariable*> counters = {};
  std::vector<Output> limits = {};      // inside of the loop, or what enters it
  Keeps writes = Keeps::kNone;          // to the list: at the number of each step, or over the last
  Keeps keeps = Keeps::kNone;           // of that, what somebody reads
  Output length = {};                   // of the list, outside
  PartialShape element_shape = {};      // of the list
  std::vector<GraphNode*> stacks = {};  // TensorListStack, who read the list
  // ZerosLike of the list: its gradient where nothing depends on the outputs.
  std::vector<GraphNode*> zeros = {};
  std::vector<Kept> kept = {};

  // Who reads the counters, what was kept, or those zeros, behind the loop: gradients of it.
  std::vector<GraphNode*> gradient_entries() const;
};

// The loop as a recurrence, or why it is none.
std::variant<Recurrence, std::string> find_recurrence(WhileLoop loop, Context& context);

// Whether all that `output` is made of is the same in each step, and can be computed outside.
bool is_invariant(const WhileLoop& loop, Output output);
// The variable whose value before the step `output` is; null if there is none.
const LoopVariable* variable_before(const WhileLoop& loop, Output output);
// Whether it stays as it was.
bool is_unchanged(const LoopVariable& variable);
// Whether it counts the steps, from 0, and which node does.
const GraphNode* find_increment(const LoopVariable& variable);

}  // namespace tfmetal
