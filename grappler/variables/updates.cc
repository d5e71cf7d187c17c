// Turns updates of variables into read, sum and assignment (variables.h).
#include <algorithm>

#include "grappler/cluster/member.h"
#include "grappler/variables/variables.h"
#include "plugin/device/stats.h"

namespace tfmetal {
namespace {

NodeDef make_node(const GraphNode& update, std::string name, const char* op, const char* attr) {
  NodeDef def;
  def.name = std::move(name);
  def.op = op;
  def.device = update.device();
  def.set_attr(attr, update.def().attr("dtype"));
  return def;
}

bool subtracts(const GraphNode& update) { return update.op() == "AssignSubVariableOp"; }

NodeDef sum_of(const GraphNode& update) {
  NodeDef def = make_node(update, update.name() + "/sum", "AddN", "T");
  def.set_attr("N", AttrValue::of_int(2));
  return def;
}

NodeDef negative_of(const GraphNode& update) {
  return make_node(update, update.name() + "/negative", "Neg", "T");
}

// Of float32, float16, bfloat16 or int64, with which the device computes.
bool has_kernels(const GraphNode& update) {
  constexpr TF_DataType kTypes[] = {TF_FLOAT, TF_HALF, TF_BFLOAT16, TF_INT64};
  return std::ranges::count(kTypes, update.def().attr_type("dtype", TF_DataType(0))) &&
         can_be_member(sum_of(update)) && can_be_member(negative_of(update));
}

// Whether other passes will have something to put the sum together with.
bool is_worth_it(const GraphNode& update, const History& history, const Context& context) {
  const GraphNode& value = *update.input(1).node;
  if (context.on_device(value) && can_be_member(value.def())) return true;
  return std::ranges::any_of(history.accesses(),
                             [](const Access& access) { return access.kind == AccessKind::kRead; });
}

// In a loop, an iteration has to wait for the updates of the one before.
bool is_serial(const GraphNode& update, const History& history, const ControlFlow& flow) {
  const int frame = flow.frame(update);
  return frame == 0 || (flow.parent(frame) == 0 &&
                        std::ranges::all_of(flow.continuations(frame), [&](const GraphNode* next) {
                          return history.comes_before(update, *next);
                        }));
}

bool can_split(const GraphNode& update, const History& history, const Context& context,
               const ControlFlow& flow) {
  return context.on_device(update) && is_serial(update, history, flow) && has_kernels(update) &&
         std::ranges::count(history.writes_around(update), Order::kAny) == 0 &&
         is_worth_it(update, history, context);
}

GraphNode& add(GraphView& view, NodeDef def, const std::vector<Output>& inputs,
               const std::vector<GraphNode*>& controls = {}) {
  def.name = view.unique_name(def.name);
  return view.add(std::move(def), inputs, controls);
}

void split(GraphView& view, GraphNode& update, const std::vector<GraphNode*>& last_writes) {
  const Output handle = update.input(0);
  Output value = update.input(1);
  GraphNode& read = add(view, make_node(update, update.name() + "/read", "ReadVariableOp", "dtype"),
                        {handle}, update.controls());
  for (GraphNode* write : last_writes) view.add_control(*write, read);
  if (subtracts(update)) value = {&add(view, negative_of(update), {value}), 0};
  GraphNode& sum = add(view, sum_of(update), {{&read, 0}, value});
  NodeDef assign = make_node(update, "", "AssignVariableOp", "dtype");
  assign.set_attr("validate_shape", AttrValue::of_bool(true));
  view.redefine(update, std::move(assign), {handle, {&sum, 0}});
}

int visit(GraphView& view, Context& context, const History& history, ControlFlow& flow) {
  int count = 0;
  for (const Access& access : history.accesses()) {
    if (access.kind != AccessKind::kUpdate || !can_split(*access.node, history, context, flow))
      continue;
    split(view, *access.node, history.last_writes(*access.node));
    count_fusion("variables/update");
    ++count;
  }
  return count;
}

}  // namespace

int split_updates(GraphView& view, Context& context) {
  return for_each_history(view, context, visit);
}

}  // namespace tfmetal
