#include "grappler/remapper/pattern.h"

#include <algorithm>
#include <set>

#include "grappler/cluster/member.h"
#include "plugin/error.h"

namespace tfmetal {
namespace {

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const size_t bar = std::min(text.find('|'), text.size());
    out.emplace_back(text.substr(0, bar));
    text.remove_prefix(std::min(bar + 1, text.size()));
  }
  return out;
}

Tree make(Tree::Kind kind, std::vector<Tree> inputs) {
  Tree tree;
  tree.kind = kind;
  tree.inputs = std::move(inputs);
  return tree;
}

std::string joined(const std::vector<Tree>& trees, const char* separator) {
  std::string out;
  for (const Tree& tree : trees) {
    if (!out.empty()) out += separator;
    out += to_text(tree);
    if (tree.is_optional) out += "?";
  }
  return out;
}

std::string op_text(const Tree& tree) {
  std::string out;
  for (const std::string& name : tree.ops) out += (out.empty() ? "" : "/") + name;
  return tree.inputs.empty() ? out : out + "(" + joined(tree.inputs, ", ") + ")";
}

std::string unlabelled_text(const Tree& tree) {
  switch (tree.kind) {
    case Tree::Kind::kOp:
      return op_text(tree);
    case Tree::Kind::kSum:
      return "(" + joined(tree.inputs, " + ") + ")";
    case Tree::Kind::kProduct:
      return "(" + joined(tree.inputs, " * ") + ")";
    case Tree::Kind::kEither:
      return "[" + joined(tree.inputs, " or ") + "]";
    case Tree::Kind::kConstant:
      return tree.value ? concat(*tree.value) : "constant";
    case Tree::Kind::kAny:
      return "_";
  }
  return "";
}

// Of a sum or product, of which one operand may be all there is.
std::vector<std::string> operator_roots(const Tree& tree, std::set<std::string> ops) {
  const auto required = [](const Tree& operand) { return !operand.is_optional; };
  if (std::count_if(tree.inputs.begin(), tree.inputs.end(), required) == 1) {
    const auto only = std::find_if(tree.inputs.begin(), tree.inputs.end(), required);
    for (std::string& name : root_ops(*only)) ops.insert(std::move(name));
  }
  return {ops.begin(), ops.end()};
}

}  // namespace

Tree Tree::as(std::string name) const {
  Tree out = *this;
  out.label = std::move(name);
  return out;
}

Tree Tree::shared() const {
  Tree out = *this;
  out.fate = Fate::kShared;
  return out;
}

Tree Tree::described(std::string words) const {
  Tree out = *this;
  out.text = std::move(words);
  return out;
}

Tree Tree::with(std::string attr, AttrValue wanted) const {
  Tree out = *this;
  out.attrs.emplace_back(std::move(attr), std::move(wanted));
  return out;
}

Tree op(std::string_view ops, std::vector<Tree> inputs) {
  Tree tree = make(Tree::Kind::kOp, std::move(inputs));
  tree.ops = split(ops);
  return tree;
}

Tree op(std::string_view ops, Tree input) { return op(ops, std::vector{std::move(input)}); }

Tree any(std::string label) {
  Tree tree;
  tree.label = std::move(label);
  return tree;
}

Tree constant(std::optional<double> value) {
  Tree tree = make(Tree::Kind::kConstant, {});
  tree.value = value;
  return tree;
}

Tree sum(std::vector<Tree> terms) { return make(Tree::Kind::kSum, std::move(terms)); }
Tree product(std::vector<Tree> factors) { return make(Tree::Kind::kProduct, std::move(factors)); }
Tree either(std::vector<Tree> trees) { return make(Tree::Kind::kEither, std::move(trees)); }

Tree optional(Tree tree) {
  tree.is_optional = true;
  return tree;
}

Tree maybe(std::string_view ops, Tree input) {
  return either({op(ops, input), input}).described(concat(ops, "?(", to_text(input), ")"));
}

std::string to_text(const Tree& tree) {
  if (tree.kind == Tree::Kind::kAny && !tree.label.empty()) return tree.label;
  const std::string text = tree.text.empty() ? unlabelled_text(tree) : tree.text;
  return tree.label.empty() ? text : tree.label + ": " + text;
}

int size_of(const Tree& tree) {
  int sum = 0, largest = 0;
  for (const Tree& input : tree.inputs) {
    const int size = size_of(input);
    sum += size;
    largest = std::max(largest, size);
  }
  switch (tree.kind) {
    case Tree::Kind::kOp:
      return sum + 1;
    case Tree::Kind::kSum:
    case Tree::Kind::kProduct:
      return sum + int(tree.inputs.size()) - 1;
    case Tree::Kind::kEither:
      return largest;
    default:
      return 0;
  }
}

std::vector<std::string> root_ops(const Tree& tree) {
  switch (tree.kind) {
    case Tree::Kind::kOp:
      return tree.ops;
    case Tree::Kind::kSum:
      return operator_roots(tree, {"AddV2", "Add", "AddN"});
    case Tree::Kind::kProduct:
      return operator_roots(tree, {"Mul"});
    case Tree::Kind::kEither: {
      std::set<std::string> out;
      for (const Tree& input : tree.inputs)
        for (std::string& name : root_ops(input)) out.insert(std::move(name));
      return {out.begin(), out.end()};
    }
    default:
      return {};
  }
}

std::vector<GraphNode*> Match::nodes() const {
  std::vector<GraphNode*> out;
  for (const Member& member : members) out.push_back(member.node);
  return out;
}

int Match::work() const {
  return int(std::count_if(members.begin(), members.end(),
                           [](const Member& member) { return !is_free(member.node->def()); }));
}

bool Match::contains(const GraphNode* node) const {
  return std::any_of(members.begin(), members.end(),
                     [&](const Member& member) { return member.node == node; });
}

const Output* Match::find(std::string_view label) const {
  for (const auto& [name, output] : labels)
    if (name == label) return &output;
  return nullptr;
}

Output Match::at(std::string_view label) const {
  if (const Output* found = find(label)) return *found;
  throw_internal("A pattern has no '", label, "'");
}

}  // namespace tfmetal
