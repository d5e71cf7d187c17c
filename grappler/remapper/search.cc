#include "grappler/remapper/search.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>

#include "plugin/error.h"

namespace tfmetal {
namespace {

bool is_commutative(std::string_view op) {
  static const auto* const ops = new std::set<std::string_view>{
      "Add", "AddN",    "AddV2",   "Equal",    "LogicalAnd",       "LogicalOr",
      "Mul", "Maximum", "Minimum", "NotEqual", "SquaredDifference"};
  return ops->contains(op);
}

bool is_operator(const Tree& tree, std::string_view op) {
  if (tree.kind == Tree::Kind::kProduct) return op == "Mul";
  return op == "AddV2" || op == "Add" || op == "AddN";
}

// The distance that rounding to the constant's own type explains.
double tolerance(TF_DataType dtype) {
  return dtype == TF_BFLOAT16 ? 4e-3 : dtype == TF_HALF ? 5e-4 : 1e-6;
}

bool is_float(TF_DataType dtype) {
  return dtype == TF_FLOAT || dtype == TF_HALF || dtype == TF_BFLOAT16 || dtype == TF_DOUBLE;
}

bool is_constant(const Tree& tree, const GraphNode& node) {
  if (node.op() != "Const") return false;
  const TensorProto tensor = node.def().attr_tensor("value");
  if (tensor.shape().elements() != 1) return false;
  if (!tree.value) return true;
  if (!is_float(tensor.dtype())) return false;
  const double value = tensor.doubles().at(0);
  return std::abs(value - *tree.value) <= tolerance(tensor.dtype()) * std::abs(*tree.value);
}

bool is_op(const Tree& tree, Output output) {
  const GraphNode& node = *output.node;
  if (output.port != 0 || node.num_inputs() < tree.inputs.size()) return false;
  if (std::find(tree.ops.begin(), tree.ops.end(), node.op()) == tree.ops.end()) return false;
  return std::all_of(tree.attrs.begin(), tree.attrs.end(), [&](const auto& wanted) {
    const AttrValue* value = node.def().find_attr(wanted.first);
    return value && *value == wanted.second;
  });
}

// All terms, then with fewer and fewer of the optional ones.
std::vector<std::vector<const Tree*>> choices(const std::vector<Tree>& terms) {
  std::vector<const Tree*> missable;
  for (const Tree& term : terms)
    if (term.is_optional) missable.push_back(&term);
  std::vector<std::vector<const Tree*>> out;
  for (unsigned mask = 0; mask < 1u << missable.size(); ++mask) {
    std::vector<const Tree*> chosen;
    for (const Tree& term : terms) {
      const auto at = std::find(missable.begin(), missable.end(), &term) - missable.begin();
      if (size_t(at) == missable.size() || !(mask >> at & 1)) chosen.push_back(&term);
    }
    out.push_back(std::move(chosen));
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  return out;
}

}  // namespace

bool Search::match(const Tree& tree, Output output, Continuation next) {
  if (tree.label.empty()) return match_kind(tree, output, next);
  if (const Output* known = match_.find(tree.label))
    return *known == output && match_kind(tree, output, next);
  match_.labels.emplace_back(tree.label, output);
  if (match_kind(tree, output, next)) return true;
  match_.labels.pop_back();
  return false;
}

bool Search::match_kind(const Tree& tree, Output output, Continuation next) {
  switch (tree.kind) {
    case Tree::Kind::kAny:
      return next();
    case Tree::Kind::kConstant:
      return is_constant(tree, *output.node) && next();
    case Tree::Kind::kOp:
      return match_op(tree, output, next);
    case Tree::Kind::kSum:
    case Tree::Kind::kProduct:
      return match_terms(tree, output, next);
    case Tree::Kind::kEither:
      return std::any_of(tree.inputs.begin(), tree.inputs.end(),
                         [&](const Tree& choice) { return match(choice, output, next); });
  }
  return false;
}

bool Search::with_member(GraphNode* node, Fate fate, Continuation next) {
  if (match_.contains(node)) return next();
  match_.members.push_back({node, fate});
  if (next()) return true;
  match_.members.pop_back();
  return false;
}

bool Search::match_op(const Tree& tree, Output output, Continuation next) {
  if (!is_op(tree, output)) return false;
  auto descend = [&] {
    std::vector<Output> inputs = output.node->inputs();
    if (match_inputs(tree, inputs, 0, next)) return true;
    if (tree.inputs.size() != 2 || inputs.size() != 2 || !is_commutative(output.node->op()))
      return false;
    std::swap(inputs[0], inputs[1]);
    return match_inputs(tree, inputs, 0, next);
  };
  return with_member(output.node, tree.fate, descend);
}

bool Search::match_inputs(const Tree& tree, const std::vector<Output>& inputs, size_t index,
                          Continuation next) {
  if (index == tree.inputs.size()) return next();
  auto others = [&] { return match_inputs(tree, inputs, index + 1, next); };
  return match(tree.inputs[index], inputs[index], others);
}

bool Search::match_terms(const Tree& tree, Output output, Continuation next) {
  for (const Terms& terms : choices(tree.inputs)) {
    if (terms.size() == 1) {
      if (match(*terms[0], output, next)) return true;
      continue;
    }
    if (output.port != 0 || !is_operator(tree, output.node->op())) continue;
    auto descend = [&] { return match_operands(tree, output.node->inputs(), terms, next); };
    if (with_member(output.node, tree.fate, descend)) return true;
  }
  return false;
}

bool Search::match_operands(const Tree& tree, std::vector<Output> operands, const Terms& terms,
                            Continuation next) {
  if (operands.size() > terms.size()) return false;
  if (operands.size() == terms.size()) return assign(terms, 0, operands, next);
  for (size_t i = 0; i < operands.size(); ++i) {
    GraphNode* node = operands[i].node;
    // What others read, and may not, would not be legal to take apart.
    const bool read_once = node->num_data_uses() == 1 || tree.fate == Fate::kShared;
    if (!is_operator(tree, node->op()) || operands[i].port != 0 || !read_once) continue;
    std::vector<Output> taken_apart = operands;
    taken_apart.erase(taken_apart.begin() + ptrdiff_t(i));
    for (const Output& input : node->inputs()) taken_apart.push_back(input);
    auto descend = [&] { return match_operands(tree, taken_apart, terms, next); };
    if (with_member(node, tree.fate, descend)) return true;
  }
  return false;
}

// Tries every order; the operands assigned so far are in front.
bool Search::assign(const Terms& terms, size_t index, std::vector<Output>& operands,
                    Continuation next) {
  if (index == terms.size()) return next();
  for (size_t i = index; i < operands.size(); ++i) {
    std::swap(operands[index], operands[i]);
    auto others = [&] { return assign(terms, index + 1, operands, next); };
    if (match(*terms[index], operands[index], others)) return true;
    std::swap(operands[index], operands[i]);
  }
  return false;
}

}  // namespace tfmetal
