#include "kernels/cluster/program.h"

#include <unordered_map>

#include "grappler/graphdef/graph_def.h"
#include "kernels/cluster/shape_arithmetic.h"
#include "kernels/op_def.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

class Parser {
 public:
  explicit Parser(const NodeDef& cluster) : cluster_(cluster) {
    program_.num_host = cluster.attr_types("Thost").size();
    program_.num_inputs = program_.num_host + cluster.attr_types("Targs").size();
    program_.num_values = static_cast<int>(program_.num_inputs);
    program_.results.assign(cluster.attr_types("Tresults").size(), -1);
  }

  Program parse() {
    for (NodeDef& node : GraphDef::parse(cluster_.attr_string("graph")).nodes) add(std::move(node));
    for (int value : program_.results) {
      if (value < 0) fail("a result is missing");
    }
    return std::move(program_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw_invalid_argument(cluster_.op, " '", cluster_.name, "': ", what);
  }

  size_t index_of(const NodeDef& node, size_t end) const {
    const int64_t index = node.attr_int("index");
    if (index < 0 || index >= static_cast<int64_t>(end)) {
      fail(concat(node.op, " ", index, " of ", end));
    }
    return static_cast<size_t>(index);
  }

  // "node" or "node:1"
  int value_of(const std::string& input) const {
    const size_t colon = input.rfind(':');
    const auto found = outputs_.find(input.substr(0, colon));
    const size_t port = colon == input.npos ? 0 : std::stoul(input.substr(colon + 1));
    if (found == outputs_.end() || port >= found->second.size()) fail("no input '" + input + "'");
    return found->second[port];
  }

  void add(NodeDef node) {
    if (node.op == "_Arg") {
      outputs_[node.name] = {static_cast<int>(index_of(node, program_.num_inputs))};
    } else if (node.op == "_Retval") {
      program_.results[index_of(node, program_.results.size())] = value_of(node.inputs.at(0));
    } else if (node.op == "Const") {
      const TensorProto tensor = node.attr_tensor("value");
      const int value = program_.num_values++;
      program_.constants[value] = {{tensor.dtype(), tensor.shape().dims}, tensor.data()};
      outputs_[node.name] = {value};
    } else {
      add_member(std::move(node));
    }
  }

  void add_member(NodeDef node) {
    Program::Member member;
    for (const std::string& input : node.inputs) member.inputs.push_back(value_of(input));
    for (size_t i = output_count(node); i > 0; --i) {
      member.outputs.push_back(program_.num_values++);
    }
    outputs_[node.name] = member.outputs;
    member.def = std::make_shared<const NodeDef>(std::move(node));
    if (!is_shape_arithmetic(*member.def)) {
      const OpRow* row = find_member_row(*member.def);  // null for what only fusions hold
      member.op = std::make_unique<const OpInstance>(member.def, row ? row : find_row(*member.def));
      if (member.op->row().run) fail(member.def->op + " cannot be a member");
    }
    program_.members.push_back(std::move(member));
  }

  const NodeDef& cluster_;
  Program program_;
  std::unordered_map<std::string, std::vector<int>> outputs_;  // values by node
};

}  // namespace

Program Program::parse(const NodeDef& cluster) { return Parser(cluster).parse(); }

}  // namespace tfmetal
