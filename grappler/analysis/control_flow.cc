#include "grappler/analysis/control_flow.h"

#include <algorithm>
#include <iterator>

#include "grappler/analysis/topology.h"

namespace tfmetal {
namespace {

// Values of Condition::way beside 0 and 1, the outputs of a Switch.
constexpr int kUnknown = -1, kIteration = -2;
// Added to the outputs of _SwitchN: two of them need not be all.
constexpr int kManyWays = 2;

bool is_op(const GraphNode& node, std::string_view op) {
  std::string_view name = node.op();
  if (name.starts_with("Ref")) name.remove_prefix(3);
  return name == op;
}

bool is_switch(const GraphNode& node) { return is_op(node, "Switch") || node.op() == "_SwitchN"; }

Output behind_identities(Output output) {
  while (output.node->op() == "Identity" && output.port == 0) output = output.node->input(0);
  return output;
}

}  // namespace

ControlFlow::ControlFlow(const GraphView& view, const std::vector<GraphNode*>& order)
    : frames_of_(view.size(), 0), lives_(view.size(), 0), frames_(1) {
  interned({});
  do {  // loops are taken for regular ones until one is found not to be
    found_odd_ = false;
    for (Frame& frame : frames_) frame.enters = frame.continues = std::nullopt;
    for (const GraphNode* node : order) visit(*node);
    check_continuations(order);
  } while (found_odd_);
}

int ControlFlow::liveness(Output output) {
  const int life = lives_[output.node->index()];
  if (output.port == kControlPort || !is_switch(*output.node)) return life;
  const Output predicate = behind_identities(output.node->input(1));
  const int way = output.node->op() == "_SwitchN" ? output.port + kManyWays : output.port;
  return with(life, {predicate.node, predicate.port, way});
}

bool ControlFlow::exclusive(const GraphNode& a, const GraphNode& b) const {
  const Conditions& other = sets_[size_t(liveness(b))];
  for (const Condition& mine : sets_[size_t(liveness(a))]) {
    if (mine.way < 0) continue;
    for (auto it = other.lower_bound({mine.node, mine.number, 0});
         it != other.end() && it->node == mine.node && it->number == mine.number; ++it)
      if (it->way != mine.way) return true;
  }
  return false;
}

void ControlFlow::visit(const GraphNode& node) {
  int frame = 0, life = 0;
  for_each_source(node, [&](Output source) {
    frame = std::max(frame, frames_of_[source.node->index()]);
    life = both(life, liveness(source));
  });
  frames_of_[node.index()] = frame;
  lives_[node.index()] = life;
  if (is_op(node, "Enter")) enter_frame(node);
  if (is_op(node, "Exit")) leave_frame(node, frames_[size_t(frame)]);
  if (is_merge(node)) lives_[node.index()] = merged(node, frame);
}

void ControlFlow::enter_frame(const GraphNode& node) {
  const int parent = frames_of_[node.index()];
  const auto key = std::make_tuple(parent, node.def().attr_string("frame_name", ""));
  const auto [entry, is_new] = frame_numbers_.emplace(key, int(frames_.size()));
  if (is_new) frames_.emplace_back().parent = parent;
  frames_of_[node.index()] = entry->second;
  Frame& frame = frames_[size_t(entry->second)];
  expect_same(frame.enters, lives_[node.index()], frame);
}

void ControlFlow::leave_frame(const GraphNode& node, const Frame& frame) {
  frames_of_[node.index()] = frame.parent;
  const GraphNode& way_out = *node.input(0).node;
  const bool regular = frame.enters && !frame.odd && is_switch(way_out) &&
                       node.input(0).port == 0 &&
                       behind_identities(way_out.input(1)).node->op() == "LoopCond";
  lives_[node.index()] = regular ? *frame.enters : unknown(node);
}

int ControlFlow::merged(const GraphNode& node, int frame) {
  const std::vector<Output> inputs = node.inputs();
  const bool loop = std::ranges::any_of(
      inputs, [](const Output& input) { return is_next_iteration(*input.node); });
  if (!loop) return joined(node);
  const Frame& mine = frames_[size_t(frame)];
  if (mine.odd || !mine.enters) return unknown(node);
  return with(*mine.enters, {nullptr, frame, kIteration});
}

// Alive if one of two inputs is: when they differ in nothing but the way of one Switch, then
// whenever that Switch is.
int ControlFlow::joined(const GraphNode& node) {
  if (node.num_inputs() != 2) return unknown(node);
  const Conditions& a = sets_[size_t(liveness(node.input(0)))];
  const Conditions& b = sets_[size_t(liveness(node.input(1)))];
  std::vector<Condition> only_a, only_b;
  std::ranges::set_difference(a, b, std::back_inserter(only_a));
  std::ranges::set_difference(b, a, std::back_inserter(only_b));
  if (only_a.size() != 1 || only_b.size() != 1) return unknown(node);
  const Condition x = only_a[0], y = only_b[0];
  if (x.node != y.node || x.number != y.number || std::min(x.way, y.way) != 0 ||
      std::max(x.way, y.way) != 1)
    return unknown(node);
  Conditions common = a;
  common.erase(x);
  return interned(common);
}

void ControlFlow::check_continuations(const std::vector<GraphNode*>& order) {
  for (Frame& frame : frames_) frame.continuations.clear();
  for (GraphNode* node : order) {
    if (!is_next_iteration(*node)) continue;
    Frame& frame = frames_[size_t(frames_of_[node->index()])];
    frame.continuations.push_back(node);
    expect_same(frame.continues, lives_[node->index()], frame);
  }
}

void ControlFlow::expect_same(std::optional<int>& known, int life, Frame& frame) {
  if (frame.odd) return;
  if (!known) known = life;
  frame.odd = *known != life;
  found_odd_ |= frame.odd;
}

int ControlFlow::interned(const Conditions& conditions) {
  const auto [entry, is_new] = numbers_.emplace(conditions, int(sets_.size()));
  if (is_new) sets_.push_back(conditions);
  return entry->second;
}

int ControlFlow::with(int life, Condition condition) {
  if (sets_[size_t(life)].contains(condition)) return life;
  Conditions more = sets_[size_t(life)];
  more.insert(condition);
  return interned(more);
}

int ControlFlow::both(int a, int b) {
  if (a == b || !b) return a;
  if (!a) return b;
  Conditions all = sets_[size_t(a)];
  all.insert(sets_[size_t(b)].begin(), sets_[size_t(b)].end());
  return interned(all);
}

int ControlFlow::unknown(const GraphNode& node) { return interned({{&node, 0, kUnknown}}); }

}  // namespace tfmetal
