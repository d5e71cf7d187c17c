#include "grappler/variables/accesses.h"

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "grappler/analysis/topology.h"
#include "kernels/op_def.h"

namespace tfmetal {
namespace {

constexpr TF_DataType kNoType = TF_DataType(0);

bool is_one_of(const std::string& op, const std::unordered_set<std::string_view>& ops) {
  return ops.contains(op);
}

// Gives a handle on, under output 0 (Switch: 0 or 1).
bool passes_on(const std::string& op) {
  return is_one_of(op, {"Identity", "Switch", "Enter", "Merge", "NextIteration", "Exit"});
}

bool only_asks(const std::string& op) {
  return is_one_of(
      op, {"ResourceGather", "ResourceGatherNd", "VariableShape", "VarIsInitializedOp", "_Retval"});
}

AccessKind kind_of(const std::string& op) {
  if (op == "ReadVariableOp") return AccessKind::kRead;
  if (op == "AssignVariableOp") return AccessKind::kAssign;
  if (op == "AssignAddVariableOp" || op == "AssignSubVariableOp") return AccessKind::kUpdate;
  return AccessKind::kOther;
}

// Calls a function, which may hold handles of its own, or Python.
bool calls_elsewhere(const NodeDef& def) {
  if (is_one_of(def.op, {"PyFunc", "EagerPyFunc"})) return true;
  if (def.op.starts_with("Stateless")) return false;
  return std::ranges::any_of(def.attrs(), [](const Attribute& attr) {
    return attr.second.kind() == AttrValue::Kind::kFunc;
  });
}

bool is_handle_source(const GraphNode& node) {
  if (node.op() == "VarHandleOp") return true;
  return (node.op() == "_Arg" || node.op() == "Placeholder") &&
         node.def().attr_type(node.op() == "_Arg" ? "T" : "dtype", kNoType) == TF_RESOURCE;
}

// Equal for nodes that stand for one variable.
std::string identity_of(const GraphNode& node) {
  // The shared name of variables without one.
  constexpr std::string_view kAnonymous = "cd2c89b7-88b7-44c8-ad83-06c2a9158347";
  const std::string shared = node.def().attr_string("shared_name", "");
  if (node.op() != "VarHandleOp" || shared == kAnonymous) return "node " + node.name();
  return concat("shared ", node.def().attr_string("container", ""), "/",
                shared.empty() ? node.name() : shared);
}

// Follows handles from where they come into the graph to who uses them.
class Finder {
 public:
  Finder(const GraphView& view, const std::vector<GraphNode*>& order)
      : order_(order), position_(view.size()) {
    for (size_t i = 0; i < order.size(); ++i) position_[order[i]->index()] = i;
  }

  std::vector<Variable> find() {
    for (GraphNode* node : order_)
      if (is_handle_source(*node)) {
        variable_ = numbers_.emplace(identity_of(*node), int(numbers_.size())).first->second;
        found_.resize(numbers_.size());
        seen_.clear();
        follow({node, 0}, true);
      }
    std::vector<GraphNode*> anywhere;
    for (GraphNode* node : order_)
      if (calls_elsewhere(node->def()) || writes_unknown(*node)) anywhere.push_back(node);
    std::vector<Variable> variables;
    for (size_t i = 0; i < found_.size(); ++i)
      if (!found_[i].empty()) variables.push_back({accesses(found_[i], anywhere)});
    return variables;
  }

 private:
  // `exact`: the handle is that of this variable and no other.
  void follow(Output handle, bool exact) {
    for (const Use& use : handle.node->uses(handle.port)) {
      GraphNode& user = *use.node;
      const std::string& op = user.op();
      if (passes_on(op)) {
        if (!seen_.insert(&user).second) continue;
        const bool keeps = op != "Enter" || user.def().attr_bool("is_constant", false);
        follow({&user, 0}, exact && keeps && op != "Merge");
        if (op == "Switch") follow({&user, 1}, exact);
      } else if (!only_asks(op)) {
        add(user, exact);
      }
    }
  }

  void add(GraphNode& user, bool exact) {
    known_.insert(&user);
    AccessKind kind = kind_of(user.op());
    if (kind == AccessKind::kRead && !exact) return;
    if (!exact) kind = AccessKind::kOther;
    const auto [it, is_new] = found_[size_t(variable_)].emplace(&user, kind);
    if (!is_new && it->second != kind) it->second = AccessKind::kOther;
  }

  std::vector<Access> accesses(const std::unordered_map<GraphNode*, AccessKind>& found,
                               const std::vector<GraphNode*>& anywhere) const {
    std::vector<Access> out;
    for (const auto& [node, kind] : found) out.push_back({node, kind});
    for (GraphNode* node : anywhere)
      if (!found.contains(node)) out.push_back({node, AccessKind::kOther});
    std::ranges::sort(out, {}, [&](const Access& a) { return position_[a.node->index()]; });
    return out;
  }

  // Through a handle that came from no known source.
  bool writes_unknown(const GraphNode& node) const {
    const AccessKind kind = kind_of(node.op());
    return !known_.contains(&node) &&
           (kind == AccessKind::kAssign || kind == AccessKind::kUpdate ||
            node.op().starts_with("Resource")) &&
           !only_asks(node.op());
  }

  const std::vector<GraphNode*>& order_;
  std::vector<size_t> position_;        // by node, in the order
  std::map<std::string, int> numbers_;  // of variables
  int variable_ = 0;
  std::vector<std::unordered_map<GraphNode*, AccessKind>> found_;
  std::unordered_set<const GraphNode*> seen_, known_;
};

}  // namespace

std::vector<Variable> find_variables(const GraphView& view, const std::vector<GraphNode*>& order) {
  return Finder(view, order).find();
}

bool is_pure(const GraphNode& node) {
  try {
    if (op_def(node.op()).stateful) return false;
    const auto handles = [](const std::vector<TF_DataType>& types) {
      return std::ranges::count(types, TF_RESOURCE) + std::ranges::count(types, TF_VARIANT);
    };
    return !handles(input_types(node.def())) && !handles(output_types(node.def()));
  } catch (const Error&) {  // the name of a function, or a node that lacks attributes
    return false;
  }
}

}  // namespace tfmetal
