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
#include <unordered_map>

#include "grappler/remapper/record.h"
#include "grappler/rnn/recurrence.h"
#include "kernels/op_table.h"
#include "plugin/device/stats.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

constexpr const char* kOp = "_MetalRnn";

class Rewriter {
 public:
  Rewriter(GraphView& view, Context& context, Recurrence& recurrence)
      : view_(view), context_(context), r_(recurrence), root_(*recurrence.cell.match.root) {}

  // Whether there is a kernel.
  bool possible() const { return find_kernel_row(definition()); }

  void run() {
    note_controls();
    std::vector<Output> inputs = {r_.x, r_.h->initial()};
    if (r_.c) inputs.push_back(r_.c->initial());
    inputs.push_back(outside(r_.cell.weights));
    inputs.push_back(outside(r_.cell.state_weights));
    for (const Output bias : r_.cell.biases) inputs.push_back(outside(bias));
    for (const Output limit : r_.limits) inputs.push_back(outside(limit));
    inputs.push_back(r_.keeps == Recurrence::Keeps::kNone ? inputs.back() : r_.length);
    GraphNode& rnn = view_.add(definition(), inputs, controls_);
    replace_results(rnn);
    remove_loop(rnn);
  }

 private:
  NodeDef definition() const {
    static const char* const kKeeps[] = {"none", "last", "all"};
    NodeDef def;
    def.name = view_.unique_name(root_.name() + "/rnn");
    def.op = kOp;
    def.device = root_.device();
    def.set_attr("T", AttrValue::of_type(root_.def().attr_type("T")));
    def.set_attr("S", AttrValue::of_int(r_.c ? 2 : 1));
    def.set_attr("B", AttrValue::of_int(int64_t(r_.cell.biases.size())));
    def.set_attr("N", AttrValue::of_int(int64_t(r_.limits.size())));
    def.set_attr("rnn_mode", AttrValue::of_string(r_.cell.mode));
    def.set_attr("keeps", AttrValue::of_string(kKeeps[int(r_.keeps)]));
    def.set_attr("element_shape", AttrValue::of_shape(r_.element_shape));
    return def;
  }

  // What runs before the loop runs before all that takes its place.
  void note_controls() {
    r_.loop.for_each_enter([&](const GraphNode& enter) {
      for (GraphNode* control : enter.controls()) {
        if (std::ranges::count(controls_, control) == 0) controls_.push_back(control);
      }
    });
  }

  // What computes an invariant of the loop in the graph around it.
  Output outside(Output inside) {
    if (std::ranges::count(r_.loop.constants, inside.node) > 0) return inside.node->input(0);
    if (const LoopVariable* variable = variable_before(r_.loop, inside)) return variable->initial();
    const auto [entry, is_new] = copies_.try_emplace(inside.node);
    if (is_new) {
      std::vector<Output> inputs;
      for (const Output input : inside.node->inputs()) inputs.push_back(outside(input));
      NodeDef def = inside.node->def();
      def.name = view_.unique_name(def.name + "/outside");
      def.inputs.clear();
      def.remove_attr("_class");  // of the loop
      std::vector<GraphNode*> controls = controls_;
      // In the loop around this one, if there is one.
      if (inputs.empty()) controls.push_back(r_.x.node);
      GraphNode& copy = view_.add(std::move(def), inputs, controls);
      copies_[inside.node] = &copy;
    }
    return {copies_[inside.node], inside.port};
  }

  void replace_results(GraphNode& rnn) {
    for (const LoopVariable& variable : r_.loop.variables) {
      if (!variable.exit) continue;
      const Output exit = {variable.exit, 0};
      if (&variable == r_.list) continue;
      if (&variable == r_.h) {
        replace(exit, {&rnn, 1});
      } else if (&variable == r_.c) {
        replace(exit, {&rnn, 2});
      } else {
        view_.replace_uses(exit, variable.initial());
      }
    }
    for (GraphNode* stack : r_.stacks) {
      replace({stack, 0}, {&rnn, 0});
      view_.remove(*stack);
    }
  }

  void replace(Output old, Output now) {
    if (old.node->uses(old.port).empty()) return;
    const auto info = context_.output_info(*old.node, old.port);
    if (info && !info->shape.unknown_rank) {
      NodeDef def;
      def.name = view_.unique_name(old.node->name() + "/shape");
      def.op = "EnsureShape";
      def.device = root_.device();
      def.set_attr("T", AttrValue::of_type(root_.def().attr_type("T")));
      def.set_attr("shape", AttrValue::of_shape(known(info->shape)));
      now = {&view_.add(std::move(def), {now}), 0};
    }
    view_.replace_uses(old, now);
  }

  // Unknown extents may have numbers below -1.
  static PartialShape known(PartialShape shape) {
    for (int64_t& extent : shape.dims) extent = std::max<int64_t>(extent, -1);
    return shape;
  }

  void remove_loop(GraphNode& rnn) {
    std::vector<GraphNode*> nodes;
    for (size_t i = 0; i < view_.size(); ++i) {
      if (r_.loop.nodes.contains(&view_.node(i))) nodes.push_back(&view_.node(i));
    }
    for (GraphNode* node : nodes) {
      for (GraphNode* waiting : node->control_uses()) {
        view_.remove_control(*node, *waiting);
        if (!r_.loop.nodes.contains(waiting)) view_.add_control(rnn, *waiting);
      }
    }
    std::vector<GraphNode*> lists;
    for (const LoopVariable& variable : r_.loop.variables) {
      lists.push_back(variable.initial().node);
      // Ends the cycle.
      for (size_t i = 0; i < 2; ++i) view_.set_input(*variable.merge, i, {variable.enter, 0});
    }
    remove_unread(nodes);
    std::erase_if(lists, [&](const GraphNode* node) { return !makes_list(*node); });
    remove_unread(lists);
  }

  bool makes_list(const GraphNode& node) const {
    const bool makes = node.op() == "TensorListFromTensor" || node.op() == "TensorListReserve";
    return makes && !context_.preserved(node);
  }

  // Removes what nobody reads, until there is no more of it.
  void remove_unread(const std::vector<GraphNode*>& nodes) {
    for (bool found = true; found;) {
      found = false;
      for (GraphNode* node : nodes) {
        if (node->removed() || node->num_data_uses()) continue;
        view_.remove(*node);
        found = true;
      }
    }
  }

  GraphView& view_;
  Context& context_;
  Recurrence& r_;
  GraphNode& root_;
  std::vector<GraphNode*> controls_;
  std::unordered_map<const GraphNode*, GraphNode*> copies_;
};

bool reads_list(const GraphNode& condition) {
  const std::vector<Use> uses = condition.data_uses();
  return std::ranges::any_of(
      uses, [](const Use& use) { return use.node->def().attr_type("T", TF_FLOAT) == TF_VARIANT; });
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
    auto found = find_recurrence(*std::move(loop), context);
    auto* recurrence = std::get_if<Recurrence>(&found);
    if (!recurrence) {
      if (recording()) record_refusal("rnn", node, {std::get<std::string>(found), &node});
      continue;
    }
    Rewriter rewriter(view, context, *recurrence);
    if (!rewriter.possible()) continue;
    record_fusion(*recurrence->cell.pattern, recurrence->cell.match);
    count_fusion(recurrence->cell.pattern->name);
    rewriter.run();
    ++changes;
  }
  return changes;
}

std::vector<std::string> recurrent_cell_names() {
  std::vector<std::string> names;
  for (const Pattern& pattern : cell_patterns()) names.push_back(pattern.name);
  return names;
}

}  // namespace tfmetal
