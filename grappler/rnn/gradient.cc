#include "grappler/rnn/gradient.h"

#include <algorithm>

namespace tfmetal {

namespace {

using Kind = Value::Kind;
using P = Polynomial;

P at(StepValue value) { return P::variable(value); }
P minus_square(const P& x) { return P::number(1) - x * x; }
P slope_of_sigmoid(const P& x) { return x * (P::number(1) - x); }

// What the gradient of a cell is, given that of its states.
struct CellGradient {
  std::vector<P> input_gates, state_gates;  // of the two products
  P dh, dc;                                 // of the states before
};

CellGradient lstm_gradient(const P& dh) {
  const P dc = at(kDC) + dh * at(kOut) * minus_square(at(kSquashed));
  const std::vector<P> gates = {
      dc * at(kNew) * slope_of_sigmoid(at(kIn)), dc * at(kC) * slope_of_sigmoid(at(kForget)),
      dc * at(kIn) * minus_square(at(kNew)), dh * at(kSquashed) * slope_of_sigmoid(at(kOut))};
  return {gates, gates, at(kThrough), dc * at(kForget)};
}

CellGradient gru_gradient(const P& dh) {
  const P dn = dh * (P::number(1) - at(kUpdate)) * minus_square(at(kProposed));
  const P dz = dh * (at(kH) - at(kProposed)) * slope_of_sigmoid(at(kUpdate));
  const P dr = dn * at(kStatePart) * slope_of_sigmoid(at(kReset));
  return {{dz, dr, dn}, {dz, dr, dn * at(kReset)}, at(kThrough) + dh * at(kUpdate), {}};
}

CellGradient simple_gradient(const P& dh, bool is_tanh) {
  const P gate = dh * (is_tanh ? minus_square(at(kNextH)) : at(kSlope));
  return {{gate}, {gate}, at(kThrough), {}};
}

CellGradient gradient_of(const Cell& cell, const P& dh) {
  const std::string mode = cell.mode;
  if (mode == "lstm") return lstm_gradient(dh);
  return mode == "gru" ? gru_gradient(dh) : simple_gradient(dh, mode == "rnn_tanh");
}

// What comes into a loop and stays as it is, outside of it; nothing for all else.
std::optional<Output> enters(const WhileLoop& loop, Output inside) {
  inside = source_of(inside);
  if (std::ranges::count(loop.constants, inside.node) > 0) return source_of(inside.node->input(0));
  const LoopVariable* variable = variable_before(loop, inside);
  if (!variable || !is_unchanged(*variable)) return {};
  return source_of(variable->initial());
}

// What it was before a loop that left it as it was.
Output before(const WhileLoop& loop, Output behind) {
  const auto variable = std::ranges::find(loop.variables, behind.node, &LoopVariable::exit);
  const bool passed = variable != loop.variables.end() && is_unchanged(*variable);
  return passed ? source_of(variable->initial()) : behind;
}

// The values in the body of a gradient.
class GradientValues : public Values {
 public:
  // `popped`: what gives back what was kept, and that. `doutput`: what reads the gradient of the
  // step's output, null if nothing does.
  GradientValues(RecurrenceGradient* gradient, const Recurrence& recurrence,
                 const std::map<const GraphNode*, Output>& popped, const GraphNode* doutput,
                 Context& context)
      : Values(gradient->loop, units_of(recurrence.cell, context), context),
        gradient_(*gradient),
        recurrence_(recurrence),
        forward_(recurrence, context),
        popped_(popped),
        doutput_(doutput) {
    if (gradient->doutputs.node) dy_ = at(kDOutput);
    cell_ = gradient_of(recurrence.cell, at(kDH) + dy_);
  }

  const CellGradient& cell() const { return cell_; }

 private:
  Value known(Output output) override {
    if (output == source_of(gradient_.dh->before())) return Value::of(at(kDH));
    if (gradient_.dc && output == source_of(gradient_.dc->before())) return Value::of(at(kDC));
    if (output.node == doutput_) return Value::of(dy_);
    const auto popped = popped_.find(output.node);
    if (popped != popped_.end()) return output.port == 1 ? forward_(popped->second) : Value();
    if (auto outside = enters(loop_, output)) {
      outside = before(recurrence_.loop, *outside);
      if (outside == enters(recurrence_.loop, recurrence_.cell.weights)) return {Kind::kWeights};
      if (outside == enters(recurrence_.loop, recurrence_.cell.state_weights)) {
        return {Kind::kStateWeights};
      }
    }
    return {};
  }

  Value multiply(const GraphNode& matmul) override {
    const Value left = (*this)(matmul.input(0)), right = (*this)(matmul.input(1));
    const bool transposes_left = matmul.def().attr_bool("transpose_a", false);
    const bool transposes_right = matmul.def().attr_bool("transpose_b", false);
    if (!transposes_left && transposes_right && left.is(Kind::kParts)) {
      if (right.is(Kind::kWeights) && left.parts == cell_.input_gates) {
        return {Kind::kInputGradient};
      }
      const bool through = right.is(Kind::kStateWeights) && left.parts == cell_.state_gates;
      return through ? Value::of(at(kThrough)) : Value();
    }
    if (!transposes_left || transposes_right || !right.is(Kind::kParts)) return {};
    if (left.is(Kind::kInput) && right.parts == cell_.input_gates) {
      return share(matmul, RecurrenceGradient::kWeights);
    }
    const bool of_state = left.is(Kind::kParts) && left.parts == std::vector{at(kH)} &&
                          right.parts == cell_.state_gates;
    return of_state ? share(matmul, RecurrenceGradient::kStateWeights) : Value();
  }

  Value sum_rows(const GraphNode& node, const Value& value) override {
    const size_t biases = recurrence_.cell.biases.size();
    if (biases > 0 && value.parts == cell_.input_gates) {
      return share(node, RecurrenceGradient::kBias);
    }
    const bool of_state = biases > 1 && value.parts == cell_.state_gates;
    return of_state ? share(node, RecurrenceGradient::kStateBias) : Value();
  }

  Value share(const GraphNode& node, RecurrenceGradient::Share which) {
    gradient_.shares[&node] = which;
    return {Kind::kShare};
  }

  RecurrenceGradient& gradient_;
  const Recurrence& recurrence_;
  ForwardValues forward_;
  const std::map<const GraphNode*, Output>& popped_;
  const GraphNode* doutput_;
  P dy_;
  CellGradient cell_;
};

// Runs through the loop and notes what it has understood; every node must be.
class Reader {
 public:
  Reader(WhileLoop loop, const Recurrence& recurrence, Context& context)
      : result_{.loop = std::move(loop)}, recurrence_(recurrence), context_(context) {}

  std::variant<RecurrenceGradient, std::string> run() {
    if (!read_variables()) return "a variable is none of its gradient";
    if (!read_condition()) return "its gradient may end otherwise than after as many steps";
    if (!read_doutputs()) return "the gradients of the outputs are not read one by one";
    if (!read_states()) return "a step of its gradient is not that of the cell";
    if (!has_types()) return "the gradients of its weights have other types";
    if (!read_dx()) return "the gradients of the input are not written one by one";
    if (const GraphNode* node = find_unknown()) {
      return "'" + node->name() + "' (" + node->op() + ") in its gradient does something else";
    }
    return std::move(result_);
  }

 private:
  // ---- variables

  bool read_variables() {
    for (const LoopVariable& variable : loop_.variables) {
      for (const GraphNode* node :
           {variable.enter, variable.merge, variable.choice, variable.next}) {
        known_.insert(node);
      }
      if (variable.exit) known_.insert(variable.exit);
      if (is_unchanged(variable) ? is_read(variable) : !read_variable(variable)) return false;
    }
    for (const GraphNode* constant : loop_.constants) known_.insert(constant);
    return counter_ && states_.size() == (recurrence_.c ? 2u : 1u);
  }

  // Whether somebody reads what it is behind the loop.
  static bool is_read(const LoopVariable& variable) {
    return variable.exit && variable.exit->num_data_uses();
  }

  bool read_variable(const LoopVariable& variable) {
    const GraphNode& after = *variable.after().node;
    if (const GraphNode* increment = find_increment(variable)) {
      known_.insert(increment);
      counter_ = &variable;
      return !is_read(variable);
    }
    if (after.op() == "TensorListPopBack") return !is_read(variable) && read_pop(variable, after);
    const bool is_list = variable.enter->def().attr_type("T", TF_FLOAT) == TF_VARIANT;
    if (is_list && after.op() == "TensorListSetItem") {
      if (doutputs_ || is_read(variable)) return false;
      doutputs_ = &variable;
    } else if (is_list) {
      if (dx_) return false;
      dx_ = &variable;
    } else if (adds_to(after, variable.before())) {
      result_.sums.push_back(&variable);
    } else {
      states_.push_back(&variable);
    }
    return true;
  }

  bool read_pop(const LoopVariable& variable, const GraphNode& pop) {
    for (const Recurrence::Kept& kept : recurrence_.kept) {
      const bool is_this = kept.list->exit && variable.initial() == Output{kept.list->exit, 0} &&
                           variable.after().port == 0 &&
                           source_of(pop.input(0)) == variable.before();
      if (!is_this) continue;
      known_.insert(&pop);
      popped_[&pop] = kept.value;
      return true;
    }
    return false;
  }

  // Whether `node` is a sum of which `term` is one term.
  static bool adds_to(const GraphNode& node, Output term) {
    if (node.op() != "AddN" && node.op() != "AddV2" && node.op() != "Add") return false;
    const std::vector<Output> inputs = node.inputs();
    return std::ranges::count(inputs, term, source_of) == 1;
  }

  // ---- condition: as many steps as there were

  bool read_condition() {
    known_.insert(loop_.condition);
    const GraphNode& less = *source_of(loop_.condition->input(0)).node;
    known_.insert(&less);
    if (less.op() != "Less" || source_of(less.input(0)).node != counter_->merge) return false;
    const Output limit = source_of(less.input(1));
    const auto variable = std::ranges::find(loop_.variables, limit.node, &LoopVariable::merge);
    const auto steps = variable != loop_.variables.end() ? enters(loop_, variable->before())
                                                         : enters(loop_, limit);
    return steps && std::ranges::any_of(recurrence_.counters, [&](const LoopVariable* counter) {
             return counter->exit && *steps == Output{counter->exit, 0};
           });
  }

  // ---- the gradients of the outputs

  bool read_doutputs() {
    if (!doutputs_) return true;
    const GraphNode& set = *doutputs_->after().node;
    const GraphNode& maker = *doutputs_->initial().node;
    if (maker.op() == "TensorListFromTensor") result_.doutputs = maker.input(0);
    if (!recurrence_.list || (!result_.doutputs.node && maker.op() != "ZerosLike")) return false;
    zeros_ = set.input(2);
    index_ = set.input(1);
    known_.insert(&set);
    if (source_of(set.input(0)) != doutputs_->before()) return false;
    for (const Use& use : users_of(doutputs_->before())) {
      if (use.node == &set) continue;
      const bool gets = use.node->op() == "TensorListGetItem" && use.index == 0 && !doutput_ &&
                        source_of(use.node->input(1)) == source_of(index_);
      if (!gets) return false;
      doutput_ = use.node;
      known_.insert(doutput_);
    }
    return doutput_ != nullptr;
  }

  // Who reads it, Identity nodes being none.
  static std::vector<Use> users_of(Output output) {
    std::vector<Use> users;
    for (const Use& use : output.node->uses(output.port)) {
      if (use.node->op() != "Identity") {
        users.push_back(use);
        continue;
      }
      const std::vector<Use> more = users_of({use.node, 0});
      users.insert(users.end(), more.begin(), more.end());
    }
    return users;
  }

  // ---- states and sums

  bool read_states() {
    // One tensor for both is not told apart.
    const Output weights = recurrence_.cell.weights, state_weights = recurrence_.cell.state_weights;
    const auto outside = enters(recurrence_.loop, weights);
    if (weights == state_weights ||
        (outside && outside == enters(recurrence_.loop, state_weights))) {
      return false;
    }
    std::ranges::sort(states_);
    do {
      result_.dh = states_[0];
      result_.dc = recurrence_.c ? states_[1] : nullptr;
      result_.shares.clear();
      GradientValues values(&result_, recurrence_, popped_, doutput_, context_);
      if (is_gradient(values)) return true;
    } while (std::ranges::next_permutation(states_).found);
    return false;
  }

  bool is_gradient(GradientValues& values) {
    const auto is = [&](Output output, const P& expected) {
      const Value value = values(output);
      return value.is(Kind::kParts) && value.parts == std::vector{expected};
    };
    if (!is(result_.dh->after(), values.cell().dh)) return false;
    if (result_.dc && !is(result_.dc->after(), values.cell().dc)) return false;
    if (!std::ranges::all_of(result_.sums, [&](const LoopVariable* sum) {
          return is_sum_of_shares(*sum, values);
        })) {
      return false;
    }
    if (doutputs_ && !reads_each(values)) return false;
    if (dx_ && !read_dx_item(values)) return false;
    known_.insert(values.understood().begin(), values.understood().end());
    for (GraphNode* node : values.understood()) {
      const bool is_share = values({node, 0}).is(Kind::kShare);
      if (is_share && !result_.shares.contains(node)) result_.linear.insert(node);
    }
    return true;
  }

  bool is_sum_of_shares(const LoopVariable& sum, GradientValues& values) {
    const GraphNode& add = *sum.after().node;
    known_.insert(&add);
    return std::ranges::all_of(add.inputs(), [&](Output input) {
      return source_of(input) == sum.before() || values(input).is(Kind::kShare);
    });
  }

  // Those of all sums are one, float or the cell's; what is linear casts to it once.
  bool has_types() const {
    const TF_DataType dtype = recurrence_.cell.match.root->def().attr_type("T");
    if (result_.sums.empty()) return true;
    const auto type_of = [](const LoopVariable* sum) { return sum->enter->def().attr_type("T"); };
    const TF_DataType sums = type_of(result_.sums[0]);
    const bool casts = std::ranges::all_of(result_.linear, [&](const GraphNode* node) {
      return node->op() != "Cast" || (dtype != sums && node->def().attr_type("DstT") == sums);
    });
    return casts && (sums == dtype || sums == TF_FLOAT) &&
           std::ranges::all_of(result_.sums, [&](auto* sum) { return type_of(sum) == sums; });
  }

  bool is_item(Output index, GradientValues& values) const { return values(index).is(Kind::kStep); }

  // What was read becomes zeros, and shapes are told.
  bool reads_each(GradientValues& values) {
    const bool all = recurrence_.writes == Recurrence::Keeps::kAll;
    const bool index = all ? is_item(index_, values) : int_constant(index_) == 0;
    return index && becomes_zeros(values) && bool(values(doutput_->input(2)));
  }

  bool becomes_zeros(GradientValues& values) {
    const GraphNode& zeros = *source_of(zeros_).node;
    known_.insert(&zeros);
    if (zeros.op() == "ZerosLike") return bool(values(zeros.input(0)));
    if (zeros.op() == "Fill") return is_zeros(zeros_) && bool(values(zeros.input(0)));
    return is_zeros(zeros_);
  }

  // ---- the gradients of the input: dx = AddN(dx, list with the item of the step)

  bool read_dx_item(GradientValues& values) {
    const GraphNode& add = *dx_->after().node;
    if (add.op() != "AddN" || add.num_inputs() != 2) return false;
    for (size_t i = 0; i < 2; ++i) {
      if (source_of(add.input(i)) != dx_->before()) continue;
      const GraphNode& set = *source_of(add.input(1 - i)).node;
      if (set.op() != "TensorListSetItem") return false;
      const GraphNode& made = *source_of(set.input(0)).node;
      const bool is_new =
          made.op() == "TensorListReserve" && values(made.input(0)) && values(made.input(1));
      known_.insert({&add, &set, &made});
      return is_new && is_item(set.input(1), values) &&
             values(set.input(2)).is(Kind::kInputGradient);
    }
    return false;
  }

  bool read_dx() {
    if (!dx_) return true;
    const std::string& maker = dx_->initial().node->op();
    if (maker != "ZerosLike" && maker != "TensorListReserve") return false;
    if (!dx_->exit) return true;
    const auto x = context_.output_info(*recurrence_.x.node, recurrence_.x.port);
    for (const Use& use : dx_->exit->data_uses()) {
      GraphNode& stack = *use.node;
      if (stack.op() != "TensorListStack" || context_.preserved(stack) || stack.num_controls()) {
        return false;
      }
      const int64_t expected = stack.def().attr_int("num_elements", -1);
      if (expected >= 0 && (!x || x->shape.dims[0] != expected)) return false;
      result_.dx_stacks.push_back(&stack);
    }
    return true;
  }

  // ---- the rest

  // A node that computes something else, or that somebody else needs.
  const GraphNode* find_unknown() const {
    static const std::unordered_set<std::string_view> kNothing = {"Const", "Identity", "NoOp"};
    for (const GraphNode* node : loop_.nodes) {
      if (context_.preserved(*node)) return node;
      if (!kNothing.contains(node->op()) && !known_.contains(node)) return node;
      if (computes_floats(*node) && node->device() != recurrence_.cell.match.root->device()) {
        return node;
      }
    }
    return nullptr;
  }

  // Shapes and lists may be handled elsewhere.
  static bool computes_floats(const GraphNode& node) {
    static const std::unordered_set<std::string_view> ops = {"MatMul",   "Mul",      "SigmoidGrad",
                                                             "TanhGrad", "ReluGrad", "BiasAddGrad"};
    return ops.contains(node.op());
  }

  RecurrenceGradient result_;
  WhileLoop& loop_ = result_.loop;
  const Recurrence& recurrence_;
  Context& context_;
  const LoopVariable *counter_ = nullptr, *doutputs_ = nullptr, *dx_ = nullptr;
  std::vector<const LoopVariable*> states_;
  std::map<const GraphNode*, Output> popped_;  // by TensorListPopBack
  const GraphNode* doutput_ = nullptr;
  Output index_ = {}, zeros_ = {};
  std::unordered_set<const GraphNode*> known_;
};

}  // namespace

bool is_zeros(Output output) {
  const GraphNode& node = *source_of(output).node;
  if (node.op() == "ZerosLike") return true;
  if (node.op() == "Fill") return is_zeros(node.input(1));
  if (node.op() != "Const") return false;
  const TensorProto value = node.def().attr_tensor("value");
  constexpr int64_t kMostElements = 1 << 16;  // larger ones are not looked into
  if (value.shape().elements().value_or(kMostElements) >= kMostElements) return false;
  const std::vector<double> numbers = value.doubles();
  return std::ranges::all_of(numbers, [](double x) { return x == 0; });
}

GraphNode* condition_of(const GraphNode& enter) {
  if (enter.op() != "Enter") return nullptr;
  for (const Use& merge : enter.data_uses()) {
    if (merge.node->op() != "Merge") continue;
    for (const Use& choice : merge.node->uses(0)) {
      if (choice.node->op() != "Switch") continue;
      GraphNode* condition = choice.node->input(1).node;
      return condition->op() == "LoopCond" ? condition : nullptr;
    }
  }
  return nullptr;
}

std::variant<RecurrenceGradient, std::string> find_gradient(WhileLoop loop,
                                                            const Recurrence& recurrence,
                                                            Context& context) {
  return Reader(std::move(loop), recurrence, context).run();
}

}  // namespace tfmetal
