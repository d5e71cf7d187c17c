// Removes reads whose value is at hand: it has just been written, or read before (variables.h).
#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_set>

#include "grappler/variables/variables.h"
#include "plugin/device/stats.h"

namespace tfmetal {
namespace {

// The nodes that have an effect, or whose result is asked for, which `read` reaches through pure
// computation: all that could notice the order of the read and what came before it. A loop begins
// to notice where values enter it, for what is inside cannot wait for what is outside; the end of a
// branch does by the node before it, for what comes after would die with a node of the branch. The
// next iteration does at its start. Nothing when that is the read itself, when the loop ends by
// what was read, or when there are so many that keeping them in order would cost more.
std::optional<std::vector<GraphNode*>> observers(GraphNode& read, const Context& context) {
  constexpr size_t kMaxObservers = 64;
  std::vector<GraphNode*> found, stack = {&read};
  std::unordered_set<GraphNode*> seen = {&read};
  const auto add = [&](GraphNode* node) {
    if (std::ranges::count(found, node) == 0) found.push_back(node);
  };
  bool leaves_loop = false;
  const auto reach = [&](GraphNode* node, GraphNode* from) {
    leaves_loop |= node->op() == "Exit";
    if (node->op() == "Merge") add(from);
    if (node->op() == "Merge" || !seen.insert(node).second) return;
    const bool is_last = !node->num_data_uses() && !node->num_control_uses();
    const bool is_gate = node->op() == "Enter" || is_next_iteration(*node);
    if (is_last || is_gate || context.preserved(*node) || !is_pure(*node))
      add(node);
    else
      stack.push_back(node);
  };
  while (!stack.empty() && found.size() <= kMaxObservers) {
    GraphNode& node = *stack.back();
    stack.pop_back();
    for (const Use& use : node.data_uses()) reach(use.node, &node);
    // Who waits for the read itself will wait for what it waited for: GraphView::remove.
    if (&node != &read)
      for (GraphNode* reader : node.control_uses()) reach(reader, &node);
  }
  if (leaves_loop || found.size() > kMaxObservers || std::ranges::count(found, &read))
    return std::nullopt;
  return found;
}

// Lets `value` take the place of the read. One whose name is asked for stays, for whoever asks.
bool replace_read(GraphView& view, GraphNode& read, Output value, const Context& context) {
  const bool stays = context.preserved(read);
  if (stays && !read.num_data_uses()) return false;
  if (read.num_controls()) {
    const std::optional<std::vector<GraphNode*>> waiting = observers(read, context);
    if (!waiting) return false;
    for (GraphNode* source : read.controls())
      for (GraphNode* node : *waiting) view.add_control(*source, *node);
  }
  view.replace_uses({&read, 0}, value);
  if (!stays) view.remove(read);
  return true;
}

// The assignment whose value a read sees, if it is certain.
GraphNode* seen_assignment(const GraphNode& read, const History& history) {
  const std::vector<GraphNode*> writes = history.last_writes(read);
  if (writes.size() != 1) return nullptr;
  const bool assigns = std::ranges::any_of(history.accesses(), [&](const Access& access) {
    return access.node == writes[0] && access.kind == AccessKind::kAssign;
  });
  return assigns ? writes[0] : nullptr;
}

bool is_candidate(const GraphNode& read, const History& history, const Context& context) {
  return context.on_device(read) &&
         std::ranges::count(history.writes_around(read), Order::kAny) == 0;
}

// What the read would find, if an assignment in the graph tells.
std::optional<Output> written_value(const GraphNode& read, const History& history,
                                    ControlFlow& flow) {
  const GraphNode* write = seen_assignment(read, history);
  if (!write || write->device() != read.device() ||
      write->def().attr("dtype") != read.def().attr("dtype"))
    return std::nullopt;
  const Output value = write->input(1);
  const bool alive_together = flow.frame(*write) == flow.frame(read) &&
                              flow.liveness(*write) == flow.liveness(read) &&
                              flow.liveness(value) == flow.liveness(read);
  return alive_together ? std::optional(value) : std::nullopt;
}

int visit(GraphView& view, Context& context, const History& history, ControlFlow& flow) {
  // Reads between the same writes, in the same loop and branch, of the same type.
  using Moment = std::tuple<std::string, std::string, int, int, std::vector<Order>>;
  std::map<Moment, GraphNode*> known;
  int count = 0;
  for (const Access& access : history.accesses()) {
    GraphNode& read = *access.node;
    if (access.kind != AccessKind::kRead || !is_candidate(read, history, context)) continue;
    const std::optional<Output> written = written_value(read, history, flow);
    if (written) {
      if (!replace_read(view, read, *written, context)) continue;
      count_fusion("variables/forward");
      ++count;
      continue;
    }
    const Moment moment = {read.device(), read.def().attr("dtype").serialized(), flow.frame(read),
                           flow.liveness(read), history.writes_around(read)};
    const auto [entry, is_first] = known.emplace(moment, &read);
    if (is_first || !replace_read(view, read, {entry->second, 0}, context)) continue;
    count_fusion("variables/share");
    ++count;
  }
  return count;
}

}  // namespace

int remove_reads(GraphView& view, Context& context) {
  return for_each_history(view, context, visit);
}

}  // namespace tfmetal
