// The pass "rnn":
//
//   x -> TensorListFromTensor                       x   h0 (c0)   W   U   b   limits
//               |                                    \    |       |   |   |    /
//   while (i < limits...)                                      _MetalRnn
//     TensorListGetItem                  becomes               |    |   |
//         -> cell with h (, c), W, U, b               [time, batch, |   c
//         -> TensorListSetItem                               units] h
//               |
//        TensorListStack, h, c
//
// What the cell takes from variables moves out of the loop (ReadVariableOp, and casts and pieces of
// what was read). All that leaves the loop is replaced; shapes that TensorFlow knew of it stay
// known by EnsureShape, for the new op tells none.
//
// Fires when
// * the loop counts from 0 to limits that do not change;
// * each step takes one element of one list, made of a tensor of rank 3, and is a cell of cells.cc;
// * it writes h to a list, at the step's number or always to the only element, or nowhere; and all
//   that read the list stack it;
// * states are [batch, units], weights and biases have the sizes of the cell and do not change;
// * the loop holds nothing else, all of it is on one device, nothing of it is asked for by name and
//   nobody reads its counters.
#include "grappler/rnn/rnn.h"

#include <algorithm>
#include <set>

#include "grappler/remapper/record.h"
#include "grappler/rnn/gradient.h"
#include "grappler/rnn/recurrence.h"
#include "grappler/rnn/rewriter.h"
#include "plugin/device/stats.h"

namespace tfmetal {

namespace {

bool reads_list(const GraphNode& condition) {
  const std::vector<Use> uses = condition.data_uses();
  return std::ranges::any_of(
      uses, [](const Use& use) { return use.node->def().attr_type("T", TF_FLOAT) == TF_VARIANT; });
}

// The gradients of the recurrence, which then are all that read its counters and what it keeps; or
// why they are none.
std::variant<std::vector<RecurrenceGradient>, std::string> find_gradients(
    const Recurrence& recurrence, Context& context) {
  std::set<GraphNode*> conditions;
  for (const GraphNode* entry : recurrence.gradient_entries()) {
    GraphNode* condition = condition_of(*entry);
    if (!condition) return "'" + entry->name() + "' reads what it keeps for a gradient";
    conditions.insert(condition);
  }
  std::vector<RecurrenceGradient> gradients;
  for (GraphNode* condition : conditions) {
    std::optional<WhileLoop> loop = parse_loop(*condition);
    if (!loop) return "its gradient is no simple loop";
    auto found = find_gradient(*std::move(loop), recurrence, context);
    if (auto* why = std::get_if<std::string>(&found)) return *why;
    gradients.push_back(std::get<RecurrenceGradient>(std::move(found)));
  }
  return gradients;
}

// Replaces the loop and its gradients; nothing, or why it is none to replace.
std::optional<std::string> fuse(GraphView& view, WhileLoop loop, Context& context) {
  auto found = find_recurrence(std::move(loop), context);
  if (auto* why = std::get_if<std::string>(&found)) return *why;
  Recurrence& recurrence = std::get<Recurrence>(found);
  auto gradients = find_gradients(recurrence, context);
  if (auto* why = std::get_if<std::string>(&gradients)) return *why;
  RecurrenceRewriter rewriter(view, context, recurrence,
                              std::get<std::vector<RecurrenceGradient>>(gradients));
  if (!rewriter.possible()) return "there is no kernel for it";
  record_fusion(*recurrence.cell.pattern, recurrence.cell.match);
  count_fusion(recurrence.cell.pattern->name);
  rewriter.run();
  return {};
}

}  // namespace

int fuse_recurrent_loops(GraphView& view, Context& context) {
  int changes = 0;
  const size_t count = view.size();  // nodes added meanwhile are of no interest
  for (size_t i = 0; i < count; ++i) {
    GraphNode& node = view.node(i);
    if (node.removed() || node.op() != "LoopCond" || !reads_list(node)) continue;
    std::optional<WhileLoop> loop = parse_loop(node);
    if (!loop) continue;
    const std::optional<std::string> refusal = fuse(view, *std::move(loop), context);
    if (!refusal) {
      ++changes;
    } else if (recording()) {
      record_refusal("rnn", node, {*refusal, &node});
    }
  }
  return changes;
}

std::vector<std::string> recurrent_cell_names() {
  std::vector<std::string> names;
  for (const Pattern& pattern : cell_patterns()) names.push_back(pattern.name);
  return names;
}

}  // namespace tfmetal
