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
// In training the gradient, a loop too, becomes _MetalRnnGrad, to which the first hands on what it
// keeps instead of lists. The two go together or not at all.
//
// Fires when
// * the loop counts from 0 to limits that do not change;
// * each step takes one element of one list, made of a tensor of rank 3, and is a cell of cells.cc;
// * it writes h to a list, at the step's number or always to the only element, or nowhere; and all
//   that read the list stack it;
// * states are [batch, units], weights and biases have the sizes of the cell and do not change;
// * the loop holds nothing else, the cell is on one device, nothing of it is asked for by name;
// * nobody reads its counters, or what it keeps for a gradient; or one loop does, which counts as
// far,
//   takes back what was kept, and computes the gradient of the cell (gradient.h), whatever it adds
//   to sums being linear in the gradients of weights and biases.
#include "grappler/rnn/rnn.h"

#include <algorithm>
#include <optional>

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

// Whether it takes back what another loop kept: it goes with that one or stays.
bool is_gradient(const WhileLoop& loop) {
  return std::ranges::any_of(
      loop.nodes, [](const GraphNode* node) { return node->op() == "TensorListPopBack"; });
}

// The gradient of the recurrence, which then is all that reads its counters and what it keeps; none
// in inference; or why it is no gradient.
std::variant<std::optional<RecurrenceGradient>, std::string> find_its_gradient(
    const Recurrence& recurrence, Context& context) {
  GraphNode* condition = nullptr;
  for (const GraphNode* entry : recurrence.gradient_entries()) {
    GraphNode* next = condition_of(*entry);
    if (!next) return "'" + entry->name() + "' reads what it keeps for a gradient";
    if (condition && next != condition) return "two loops read what it keeps for a gradient";
    condition = next;
  }
  if (!condition) return std::nullopt;
  std::optional<WhileLoop> loop = parse_loop(*condition);
  if (!loop) return "its gradient is no simple loop";
  auto found = find_gradient(*std::move(loop), recurrence, context);
  if (auto* why = std::get_if<std::string>(&found)) return *why;
  return std::get<RecurrenceGradient>(std::move(found));
}

// Replaces the loop and its gradient; nothing, or why it is none to replace.
std::optional<std::string> fuse(GraphView& view, WhileLoop loop, Context& context) {
  auto found = find_recurrence(std::move(loop), context);
  if (auto* why = std::get_if<std::string>(&found)) return *why;
  Recurrence& recurrence = std::get<Recurrence>(found);
  auto gradient = find_its_gradient(recurrence, context);
  if (auto* why = std::get_if<std::string>(&gradient)) return *why;
  RecurrenceRewriter rewriter(view, context, recurrence,
                              std::get<std::optional<RecurrenceGradient>>(std::move(gradient)));
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
    if (!loop || is_gradient(*loop)) continue;
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
