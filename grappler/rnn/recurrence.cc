#include "grappler/rnn/recurrence.h"

#include <algorithm>

#include "grappler/rnn/values.h"

namespace tfmetal {

namespace {

// Ops without effect that compute what a cell takes from its variables.
bool can_move_out(const std::string& op) {
  static const std::unordered_set<std::string_view> ops = {
      "Cast",  "Const",  "ExpandDims", "Identity",     "ReadVariableOp", "Reshape",
      "Split", "SplitV", "Squeeze",    "StridedSlice", "Unpack"};
  return ops.contains(op);
}

// The pass "host_predicates" may have been here.
bool is_and(const GraphNode& node) {
  return node.op() == "LogicalAnd" || (node.op() == "_MetalHostLogical" && node.num_inputs() == 2 &&
                                       node.def().attr_string("function") == "and");
}

bool has_invariant_inputs(const WhileLoop& loop, const GraphNode& node) {
  const std::vector<Output> inputs = node.inputs();
  return std::ranges::all_of(inputs, [&](Output input) { return is_invariant(loop, input); });
}

// The shape that a constant of int32 tells; nothing if it is none.
std::optional<PartialShape> constant_shape(Output output) {
  const GraphNode& node = *source_of(output).node;
  if (node.op() != "Const") return {};
  const TensorProto value = node.def().attr_tensor("value");
  PartialShape shape{false, value.ints()};
  shape.unknown_rank = value.shape().dims.empty();
  if (shape.unknown_rank) shape.dims.clear();
  return shape;
}

// Whether two shapes can be the same; `known` then tells what either does.
bool agrees(const PartialShape& told, PartialShape* known) {
  if (told.unknown_rank) return true;
  if (known->unknown_rank) *known = told;
  if (told.dims.size() != known->dims.size()) return false;
  for (size_t i = 0; i < told.dims.size(); ++i) {
    if (told.dims[i] < 0) continue;
    int64_t& extent = known->dims[i];
    if (extent < 0) extent = told.dims[i];
    if (told.dims[i] != extent) return false;
  }
  return true;
}

// Runs through a loop and notes what it has understood; every node of a loop must be.
class Reader {
 public:
  Reader(WhileLoop loop, Context& context) : result_{.loop = std::move(loop)}, context_(context) {}

  std::variant<Recurrence, std::string> run() {
    if (!read_variables()) return "a variable is none of a recurrent loop";
    if (!read_condition(loop_.condition->input(0))) return "it may end otherwise than by counting";
    if (!read_cell()) return "a step is none of the known cells";
    if (!read_input()) return "the input of the cell is not one element of a list";
    if (!read_output()) return "the outputs are not written one by one";
    if (!read_kept()) return "it keeps for a gradient what is no value of the cell";
    if (const GraphNode* node = find_unknown()) {
      return "'" + node->name() + "' (" + node->op() + ") does something else";
    }
    return std::move(result_);
  }

 private:
  // ---- variables: counters, what never changes, and the rest, which are states and lists

  bool is_count(Output output) const {
    const LoopVariable* variable = variable_before(loop_, source_of(output));
    return variable && std::ranges::count(result_.counters, variable) > 0;
  }

  bool read_variables() {
    for (LoopVariable& variable : loop_.variables) {
      for (const GraphNode* node :
           {variable.enter, variable.merge, variable.choice, variable.next}) {
        known_.insert(node);
      }
      if (variable.exit) known_.insert(variable.exit);
      if (is_unchanged(variable)) continue;
      if (const GraphNode* increment = find_increment(variable)) {
        known_.insert(increment);
        result_.counters.push_back(&variable);
      } else if (GraphNode* push = push_of(variable)) {
        known_.insert(push);
        result_.kept.push_back({&variable, push->input(1)});
      } else if (variable.enter->def().attr_type("T", TF_FLOAT) == TF_VARIANT) {
        if (result_.list) return false;
        result_.list = &variable;
      } else {
        states_.push_back(&variable);
      }
    }
    for (const GraphNode* constant : loop_.constants) known_.insert(constant);
    return !result_.counters.empty() && !states_.empty();
  }

  static GraphNode* push_of(const LoopVariable& variable) {
    GraphNode& push = *variable.after().node;
    const bool pushes = push.op() == "TensorListPushBack" &&
                        source_of(push.input(0)) == variable.before() &&
                        variable.initial().node->op() == "EmptyTensorList";
    return pushes ? &push : nullptr;
  }

  // ---- condition: counters below limits

  bool read_condition(Output output) {
    output = source_of(output);
    const GraphNode& node = *output.node;
    known_.insert(&node);
    known_.insert(loop_.condition);
    if (is_and(node)) return read_condition(node.input(0)) && read_condition(node.input(1));
    if (node.op() != "Less") return false;
    const auto merged = [&](Output value) -> const LoopVariable* {
      const auto found =
          std::ranges::find(loop_.variables, source_of(value).node, &LoopVariable::merge);
      return found == loop_.variables.end() ? nullptr : &*found;
    };
    const LoopVariable *counter = merged(node.input(0)), *limit = merged(node.input(1));
    if (!counter || std::ranges::count(result_.counters, counter) == 0) return false;
    if (limit && !is_unchanged(*limit)) return false;
    if (!limit && !is_invariant(loop_, node.input(1))) return false;
    result_.limits.push_back(limit ? limit->before() : node.input(1));
    return true;
  }

  // ---- the step

  bool read_cell() {
    for (const LoopVariable* h : states_) {
      std::optional<Cell> cell = find_cell(source_of(h->after()), h->before(), context_);
      if (!cell) continue;
      const bool has_c = cell->c.node != nullptr;
      const LoopVariable* c = has_c ? variable_before(loop_, cell->c) : nullptr;
      if (has_c && (!c || source_of(c->after()) != cell->next_c)) continue;
      if (states_.size() != (has_c ? 2u : 1u) || c == h) continue;
      if (!has_state_shape(*h, *cell) || (c && !has_state_shape(*c, *cell))) continue;
      for (const Match::Member& member : cell->match.members) known_.insert(member.node);
      result_.cell = *std::move(cell);
      result_.h = h;
      result_.c = c;
      return invariant_operands();
    }
    return false;
  }

  // [batch, units]: only the batch can broadcast.
  bool has_state_shape(const LoopVariable& state, const Cell& cell) {
    const Output initial = state.initial();
    const auto info = context_.output_info(*initial.node, initial.port);
    const auto weights = context_.output_info(*cell.state_weights.node, cell.state_weights.port);
    return info && weights && !info->shape.unknown_rank && info->shape.dims.size() == 2 &&
           info->shape.dims[1] == weights->shape.dims[0];
  }

  bool invariant_operands() {
    std::vector<Output> operands = result_.cell.biases;
    operands.push_back(result_.cell.weights);
    operands.push_back(result_.cell.state_weights);
    return std::ranges::all_of(operands,
                               [&](Output operand) { return is_invariant(loop_, operand); });
  }

  // A list of the loop that one node of the graph around it makes.
  const GraphNode* maker_of(const LoopVariable* list, const char* op) const {
    if (!list) return nullptr;
    const Output made = list->initial();
    return made.node->op() == op && made.port == 0 ? made.node : nullptr;
  }

  bool read_input() {
    const GraphNode& item = *result_.cell.x.node;
    if (item.op() != "TensorListGetItem") return false;
    known_.insert(&item);
    const LoopVariable* list = variable_before(loop_, source_of(item.input(0)));
    const GraphNode* maker = maker_of(list, "TensorListFromTensor");
    if (!maker || !is_unchanged(*list) || !is_count(item.input(1))) return false;
    result_.x = maker->input(0);
    const auto info = context_.output_info(*result_.x.node, result_.x.port);
    if (!info || info->shape.unknown_rank || info->shape.dims.size() != 3) return false;
    const PartialShape element{false, {info->shape.dims.begin() + 1, info->shape.dims.end()}};
    // Shapes that the list is told: the tensor's own, as far as they say anything.
    for (const Output told : {maker->input(1), item.input(2)}) {
      const std::optional<PartialShape> shape = constant_shape(told);
      PartialShape merged = element;
      if (!shape || !agrees(*shape, &merged) || merged != element) return false;
    }
    return true;
  }

  // ---- the list of outputs

  bool read_output() {
    if (!result_.list) return true;
    const GraphNode& set = *result_.list->after().node;
    const GraphNode* maker = maker_of(result_.list, "TensorListReserve");
    if (set.op() != "TensorListSetItem" || !maker) return false;
    known_.insert(&set);
    const bool plain = source_of(set.input(0)) == result_.list->before() &&
                       source_of(set.input(2)) == source_of(result_.h->after()) &&
                       !set.def().attr_bool("resize_if_index_out_of_bounds", false);
    const std::optional<PartialShape> shape = constant_shape(maker->input(0));
    if (!plain || !shape) return false;
    result_.element_shape = *shape;
    result_.length = maker->input(1);
    const std::optional<int64_t> length = int_constant(result_.length);
    const bool all = is_count(set.input(1));
    if (!all && (int_constant(set.input(1)) != 0 || length != 1)) return false;
    result_.writes = all ? Recurrence::Keeps::kAll : Recurrence::Keeps::kLast;
    return !result_.list->exit || read_stacks(length.value_or(-1));
  }

  bool read_stacks(int64_t length) {
    for (const Use& use : result_.list->exit->data_uses()) {
      GraphNode& stack = *use.node;
      if (stack.op() == "ZerosLike" && !context_.preserved(stack)) {
        result_.zeros.push_back(&stack);
        continue;
      }
      if (stack.op() != "TensorListStack" || context_.preserved(stack) || stack.num_controls() ||
          !same_device(stack)) {
        return false;
      }
      const int64_t expected = stack.def().attr_int("num_elements", -1);
      const std::optional<PartialShape> shape = constant_shape(stack.input(1));
      if ((expected >= 0 && expected != length) || !shape) return false;
      if (!agrees(*shape, &result_.element_shape)) return false;
      result_.stacks.push_back(&stack);
      result_.keeps = result_.writes;
    }
    return true;
  }

  // ---- what gradients need

  bool read_kept() {
    ForwardValues values(result_, context_);
    const auto is_known = [&](const Recurrence::Kept& kept) {
      return bool(values(kept.value)) || is_invariant(loop_, kept.value);
    };
    if (!std::ranges::all_of(result_.kept, is_known)) return false;
    known_.insert(values.understood().begin(), values.understood().end());
    return true;
  }

  // ---- the rest

  bool same_device(const GraphNode& node) const {
    return node.device() == result_.cell.match.root->device();
  }

  // A node that computes something else, or that somebody else needs.
  const GraphNode* find_unknown() const {
    const GraphNode* root = result_.cell.match.root;
    if (!context_.on_device(*root)) return root;
    for (const GraphNode* node : loop_.nodes) {
      static const std::unordered_set<std::string_view> kNothing = {"Const", "Identity", "NoOp"};
      const bool does_nothing = kNothing.contains(node->op());
      const bool moves_out = can_move_out(node->op()) && has_invariant_inputs(loop_, *node);
      if (context_.preserved(*node)) return node;
      if (!does_nothing && !moves_out && !known_.contains(node)) return node;
      // What only hands on may be elsewhere: an initial state that comes from the host does so
      // there.
      if (result_.cell.match.contains(node) && !same_device(*node)) return node;
    }
    return nullptr;
  }

  Recurrence result_;
  WhileLoop& loop_ = result_.loop;
  Context& context_;
  std::vector<const LoopVariable*> states_;
  std::unordered_set<const GraphNode*> known_;
};

}  // namespace

const LoopVariable* variable_before(const WhileLoop& loop, Output output) {
  const auto found = std::ranges::find(loop.variables, output, &LoopVariable::before);
  return found == loop.variables.end() ? nullptr : &*found;
}

bool is_invariant(const WhileLoop& loop, Output output) {
  if (std::ranges::count(loop.constants, output.node) > 0) return true;
  if (const LoopVariable* variable = variable_before(loop, output)) {
    return source_of(variable->after()) == variable->before();
  }
  return can_move_out(output.node->op()) && has_invariant_inputs(loop, *output.node);
}

bool is_unchanged(const LoopVariable& variable) {
  return source_of(variable.after()) == variable.before();
}

const GraphNode* find_increment(const LoopVariable& variable) {
  const GraphNode& add = *variable.after().node;
  if (add.op() != "AddV2" && add.op() != "Add") return nullptr;
  for (size_t i = 0; i < 2; ++i) {
    if (source_of(add.input(i)) == variable.before() && int_constant(add.input(1 - i)) == 1 &&
        int_constant(variable.initial()) == 0) {
      return &add;
    }
  }
  return nullptr;
}

std::vector<GraphNode*> Recurrence::gradient_entries() const {
  std::vector<const LoopVariable*> read = counters;
  for (const Kept& each : kept) read.push_back(each.list);
  std::vector<GraphNode*> entries;
  for (const LoopVariable* variable : read) {
    if (!variable->exit) continue;
    for (const Use& use : variable->exit->data_uses()) entries.push_back(use.node);
  }
  for (const GraphNode* list : zeros) {
    for (const Use& use : list->data_uses()) entries.push_back(use.node);
  }
  return entries;
}

std::variant<Recurrence, std::string> find_recurrence(WhileLoop loop, Context& context) {
  return Reader(std::move(loop), context).run();
}

}  // namespace tfmetal
