#include "grappler/rnn/loop.h"

#include <algorithm>

#include "grappler/analysis/topology.h"

namespace tfmetal {

namespace {

bool is_enter(const GraphNode& node) { return node.op() == "Enter"; }

// The variable that a Switch of the loop decides about.
std::optional<LoopVariable> parse_variable(GraphNode& choice) {
  GraphNode* merge = choice.input(0).node;
  if (choice.op() != "Switch" || !is_merge(*merge) || merge->num_inputs() != 2) return {};
  LoopVariable variable{merge->input(0).node, merge, &choice, merge->input(1).node};
  if (!is_enter(*variable.enter)) std::swap(variable.enter, variable.next);
  if (!is_enter(*variable.enter) || !is_next_iteration(*variable.next)) return {};
  for (const Use& use : choice.uses(0)) {
    if (use.node->op() != "Exit" || variable.exit) return {};
    variable.exit = use.node;
  }
  return variable;
}

// All that reads or waits for the nodes of `open`, up to the Exits; false where a loop begins.
bool flood(std::vector<GraphNode*> open, WhileLoop* loop) {
  for (const GraphNode* node : open) loop->nodes.insert(node);
  while (!open.empty()) {
    GraphNode* node = open.back();
    open.pop_back();
    if (node->op() == "Exit") continue;
    std::vector<GraphNode*> readers = node->control_uses();
    for (const Use& use : node->data_uses()) readers.push_back(use.node);
    for (GraphNode* reader : readers) {
      if (is_enter(*reader)) return false;
      if (loop->nodes.insert(reader).second) open.push_back(reader);
    }
  }
  return true;
}

// The Enters from which the nodes of the loop come, beside those of its variables.
bool find_constants(WhileLoop* loop) {
  std::unordered_set<const GraphNode*> seen;
  std::vector<GraphNode*> open = {loop->condition};
  for (const LoopVariable& variable : loop->variables) {
    for (GraphNode* node : {variable.enter, variable.next, variable.choice}) open.push_back(node);
  }
  while (!open.empty()) {
    GraphNode* node = open.back();
    open.pop_back();
    if (!seen.insert(node).second) continue;
    if (is_enter(*node)) {
      const bool varies = std::ranges::count(loop->variables, node, &LoopVariable::enter) > 0;
      if (!varies && !node->def().attr_bool("is_constant", false)) return false;
      if (!varies) loop->constants.push_back(node);
      continue;
    }
    if (node->op() == "Exit") return false;  // of a loop inside
    for_each_source(*node, [&](Output source) { open.push_back(source.node); });
  }
  return true;
}

}  // namespace

Output source_of(Output output) {
  while (output.node->op() == "Identity" && output.port == 0) output = output.node->input(0);
  return output;
}

std::optional<int64_t> int_constant(Output output) {
  const GraphNode& node = *source_of(output).node;
  if (node.op() != "Const") return {};
  const TensorProto value = node.def().attr_tensor("value");
  if (value.dtype() != TF_INT32 || value.shape().elements() != 1) return {};
  return value.ints().at(0);
}

std::optional<WhileLoop> parse_loop(GraphNode& condition) {
  WhileLoop loop;
  loop.condition = &condition;
  std::vector<GraphNode*> enters;
  for (const Use& use : condition.data_uses()) {
    const std::optional<LoopVariable> variable = parse_variable(*use.node);
    if (!variable) return {};
    loop.variables.push_back(*variable);
    enters.push_back(variable->enter);
  }
  if (!find_constants(&loop)) return {};
  enters.insert(enters.end(), loop.constants.begin(), loop.constants.end());
  if (!flood(enters, &loop)) return {};
  const auto frame = [](const GraphNode* enter) { return enter->def().attr_string("frame_name"); };
  const bool one_frame = std::ranges::all_of(
      enters, [&](const GraphNode* enter) { return frame(enter) == frame(enters[0]); });
  return one_frame ? std::optional(std::move(loop)) : std::nullopt;
}

}  // namespace tfmetal
