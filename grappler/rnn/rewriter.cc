#include "grappler/rnn/rewriter.h"

#include <algorithm>

#include "kernels/op_table.h"

namespace tfmetal {

namespace {

constexpr const char *kOp = "_MetalRnn", *kGradientOp = "_MetalRnnGrad";
// Outputs of these ops.
constexpr int kOutputs = 0, kState = 1, kCell = 2, kReserve = 3;
constexpr int kInputGradient = 0, kWeightGradients = 3;

// Of the weights' gradients: that of their sums over the steps.
TF_DataType sum_type(const RecurrenceGradient& gradient, TF_DataType otherwise) {
  if (gradient.sums.empty()) return otherwise;
  return gradient.sums[0]->enter->def().attr_type("T");
}

// For a copy of a node of a loop in the graph around it, whose name is not unique yet.
NodeDef copy_of(const GraphNode& node, const char* suffix) {
  NodeDef def = node.def();
  def.name += suffix;
  def.inputs.clear();
  def.remove_attr("_class");  // of the loop
  return def;
}

}  // namespace

bool RecurrenceRewriter::possible() const {
  return find_kernel_row(definition(kOp, r_.keeps)) &&
         (!gradient_ || find_kernel_row(gradient_definition()));
}

void RecurrenceRewriter::run() {
  note_controls(r_.loop);
  const std::vector<Output> inputs = operands();
  GraphNode& rnn = view_.add(definition(kOp, r_.keeps), inputs, controls_);
  replace_results(rnn);
  if (gradient_) {
    note_controls(gradient_->loop);
    GraphNode& gradient = add_gradient(inputs, {&rnn, kReserve});
    replace_gradients(gradient);
    remove_loop(gradient_->loop, gradient);
  }
  remove_loop(r_.loop, rnn);
}

// ---- the ops -----------------------------------------------------------------------------------

NodeDef RecurrenceRewriter::definition(const char* op, Recurrence::Keeps keeps) const {
  static const char* const kKeeps[] = {"none", "last", "all"};
  NodeDef def;
  def.name = view_.unique_name(root_.name() + (op == kOp ? "/rnn" : "/rnn_gradient"));
  def.op = op;
  def.device = root_.device();
  def.set_attr("T", AttrValue::of_type(root_.def().attr_type("T")));
  def.set_attr("S", AttrValue::of_int(r_.c ? 2 : 1));
  def.set_attr("B", AttrValue::of_int(int64_t(r_.cell.biases.size())));
  def.set_attr("N", AttrValue::of_int(int64_t(r_.limits.size())));
  def.set_attr("rnn_mode", AttrValue::of_string(r_.cell.mode));
  def.set_attr("keeps", AttrValue::of_string(kKeeps[int(keeps)]));
  def.set_attr("element_shape", AttrValue::of_shape(r_.element_shape));
  if (op == kOp) def.set_attr("training", AttrValue::of_bool(gradient_.has_value()));
  return def;
}

NodeDef RecurrenceRewriter::gradient_definition() const {
  const RecurrenceGradient& gradient = *gradient_;
  const bool has_outputs = gradient.doutputs.node != nullptr;
  NodeDef def = definition(kGradientOp, has_outputs ? r_.writes : Recurrence::Keeps::kNone);
  def.set_attr("D", AttrValue::of_type(sum_type(gradient, root_.def().attr_type("T"))));
  def.set_attr("Y", AttrValue::of_int(has_outputs));
  def.set_attr("input_gradient", AttrValue::of_bool(!gradient.dx_stacks.empty()));
  return def;
}

std::vector<Output> RecurrenceRewriter::operands() {
  std::vector<Output> inputs = {r_.x, r_.h->initial()};
  if (r_.c) inputs.push_back(r_.c->initial());
  inputs.push_back(outside(r_.loop, r_.cell.weights));
  inputs.push_back(outside(r_.loop, r_.cell.state_weights));
  for (const Output bias : r_.cell.biases) inputs.push_back(outside(r_.loop, bias));
  for (const Output limit : r_.limits) inputs.push_back(outside(r_.loop, limit));
  inputs.push_back(r_.list ? r_.length : inputs.back());
  return inputs;
}

GraphNode& RecurrenceRewriter::add_gradient(std::vector<Output> inputs, Output reserve) {
  const RecurrenceGradient& gradient = *gradient_;
  inputs.push_back(reserve);
  if (gradient.doutputs.node) inputs.push_back(gradient.doutputs);
  inputs.push_back(gradient.dh->initial());
  if (gradient.dc) inputs.push_back(gradient.dc->initial());
  return view_.add(gradient_definition(), inputs, controls_);
}

// What runs before a loop runs before all that takes its place.
void RecurrenceRewriter::note_controls(const WhileLoop& loop) {
  loop.for_each_enter([&](const GraphNode& enter) {
    for (GraphNode* control : enter.controls()) {
      if (std::ranges::count(controls_, control) == 0) controls_.push_back(control);
    }
  });
}

// What computes an invariant of a loop in the graph around it.
Output RecurrenceRewriter::outside(const WhileLoop& loop, Output inside) {
  if (std::ranges::count(loop.constants, inside.node) > 0) return inside.node->input(0);
  if (const LoopVariable* variable = variable_before(loop, inside)) return variable->initial();
  const auto [entry, is_new] = copies_.try_emplace(inside.node);
  if (is_new) {
    std::vector<Output> inputs;
    for (const Output input : inside.node->inputs()) inputs.push_back(outside(loop, input));
    NodeDef def = copy_of(*inside.node, "/outside");
    def.name = view_.unique_name(def.name);
    std::vector<GraphNode*> controls = controls_;
    // In the loop around this one, if there is one.
    if (inputs.empty()) controls.push_back(r_.x.node);
    GraphNode& copy = view_.add(std::move(def), inputs, controls);
    copies_[inside.node] = &copy;
  }
  return {copies_[inside.node], inside.port};
}

// ---- results -----------------------------------------------------------------------------------

void RecurrenceRewriter::replace_results(GraphNode& rnn) {
  for (const LoopVariable& variable : r_.loop.variables) {
    const bool is_read_by_gradient =
        std::ranges::count(r_.counters, &variable) > 0 ||
        std::ranges::count(r_.kept, &variable, &Recurrence::Kept::list) > 0;
    if (!variable.exit || &variable == r_.list || is_read_by_gradient) continue;
    const Output exit = {variable.exit, 0};
    if (&variable == r_.h) {
      replace(exit, {&rnn, kState});
    } else if (&variable == r_.c) {
      replace(exit, {&rnn, kCell});
    } else {
      view_.replace_uses(exit, variable.initial());
    }
  }
  for (GraphNode* stack : r_.stacks) {
    replace({stack, 0}, {&rnn, kOutputs});
    view_.remove(*stack);
  }
}

void RecurrenceRewriter::replace_gradients(GraphNode& gradient) {
  for (const LoopVariable* state : {gradient_->dh, gradient_->dc}) {
    if (state && state->exit) {
      replace({state->exit, 0}, {&gradient, state == gradient_->dh ? kState : kCell});
    }
  }
  for (const LoopVariable* sum : gradient_->sums) {
    if (sum->exit) replace({sum->exit, 0}, total(gradient, *sum));
  }
  for (GraphNode* stack : gradient_->dx_stacks) {
    replace({stack, 0}, {&gradient, kInputGradient});
    view_.remove(*stack);
  }
}

// The sum behind the loop: what a step adds, made of what all steps together add.
Output RecurrenceRewriter::total(GraphNode& gradient, const LoopVariable& sum) {
  const GraphNode& add = *sum.after().node;
  std::vector<Output> inputs;
  for (const Output input : add.inputs()) {
    if (source_of(input) != sum.before()) inputs.push_back(summed(gradient, input));
  }
  if (inputs.size() == 1 && is_zeros(sum.initial())) return inputs[0];
  inputs.push_back(sum.initial());
  NodeDef def = copy_of(add, "/total");
  def.name = view_.unique_name(def.name);
  return {&view_.add(std::move(def), inputs), 0};
}

// What is linear in the gradients of weights, for those of all steps. They come in the type of the
// sums, so that casts to it are left out.
Output RecurrenceRewriter::summed(GraphNode& gradient, Output inside) {
  inside = source_of(inside);
  if (const auto share = gradient_->shares.find(inside.node); share != gradient_->shares.end()) {
    const Output gradient_output = {&gradient, kWeightGradients + int(share->second)};
    const bool keeps_axis = share->first->def().attr_bool("keep_dims", false);
    return keeps_axis ? as_row(gradient_output) : gradient_output;
  }
  if (!gradient_->linear.contains(inside.node)) return outside(gradient_->loop, inside);
  if (inside.node->op() == "Cast") return summed(gradient, inside.node->input(0));
  const auto [entry, is_new] = copies_.try_emplace(inside.node);
  if (is_new) {
    std::vector<Output> inputs;
    for (const Output input : inside.node->inputs()) {
      inputs.push_back(summed(gradient, input));
    }
    NodeDef def = copy_of(*inside.node, "/total");
    def.name = view_.unique_name(def.name);
    def.set_attr("T", AttrValue::of_type(gradient.def().attr_type("D")));
    copies_[inside.node] = &view_.add(std::move(def), inputs);
  }
  return {copies_[inside.node], inside.port};
}

// A vector as a matrix of one row, as a sum over the batch may leave it.
Output RecurrenceRewriter::as_row(Output vector) {
  const auto add = [&](const char* op, NodeDef def, const std::vector<Output>& inputs,
                       const std::vector<GraphNode*>& controls) {
    def.name = view_.unique_name(vector.node->name() + "/row");
    def.op = op;
    def.device = root_.device();
    return Output{&view_.add(std::move(def), inputs, controls), 0};
  };
  const int32_t zero = 0;
  NodeDef axis, row;
  axis.set_attr("dtype", AttrValue::of_type(TF_INT32));
  axis.set_attr("value", AttrValue::of_tensor(TensorProto::make(
                             TF_INT32, {}, {reinterpret_cast<const char*>(&zero), sizeof zero})));
  row.set_attr("T", AttrValue::of_type(vector.node->def().attr_type("D")));
  row.set_attr("Tdim", AttrValue::of_type(TF_INT32));
  return add("ExpandDims", std::move(row),
             {vector, add("Const", std::move(axis), {}, {vector.node})}, {});
}

void RecurrenceRewriter::replace(Output old, Output now) {
  if (old.node->uses(old.port).empty()) return;
  const auto info = context_.output_info(*old.node, old.port);
  if (info && !info->shape.unknown_rank) {
    // Unknown extents may have numbers below -1.
    PartialShape shape = info->shape;
    for (int64_t& extent : shape.dims) extent = std::max<int64_t>(extent, -1);
    NodeDef def;
    def.name = view_.unique_name(old.node->name() + "/shape");
    def.op = "EnsureShape";
    def.device = root_.device();
    def.set_attr("T", AttrValue::of_type(info->dtype));
    def.set_attr("shape", AttrValue::of_shape(shape));
    now = {&view_.add(std::move(def), {now}), 0};
  }
  view_.replace_uses(old, now);
}

// ---- the loops go ------------------------------------------------------------------------------

void RecurrenceRewriter::remove_loop(const WhileLoop& loop, GraphNode& instead) {
  std::vector<GraphNode*> nodes, lists;
  for (size_t i = 0; i < view_.size(); ++i) {
    if (loop.nodes.contains(&view_.node(i))) nodes.push_back(&view_.node(i));
  }
  for (GraphNode* node : nodes) {
    for (GraphNode* waiting : node->control_uses()) {
      view_.remove_control(*node, *waiting);
      if (!loop.nodes.contains(waiting)) view_.add_control(instead, *waiting);
    }
  }
  for (const LoopVariable& variable : loop.variables) {
    lists.push_back(variable.initial().node);
    // Ends the cycle.
    for (size_t i = 0; i < 2; ++i) view_.set_input(*variable.merge, i, {variable.enter, 0});
  }
  remove_unread(nodes);
  std::erase_if(lists, [&](const GraphNode* node) {
    static const std::unordered_set<std::string_view> kMakers = {
        "EmptyTensorList", "TensorListFromTensor", "TensorListReserve", "ZerosLike"};
    return !kMakers.contains(node->op()) || context_.preserved(*node);
  });
  remove_unread(lists);
}

// Removes what nobody reads, until there is no more of it.
void RecurrenceRewriter::remove_unread(const std::vector<GraphNode*>& nodes) {
  for (bool found = true; found;) {
    found = false;
    for (GraphNode* node : nodes) {
      if (node->removed() || node->num_data_uses()) continue;
      view_.remove(*node);
      found = true;
    }
  }
}

}  // namespace tfmetal
