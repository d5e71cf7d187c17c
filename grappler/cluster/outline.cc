#include "grappler/cluster/outline.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "grappler/cluster/member.h"
#include "kernels/cluster/shape_arithmetic.h"
#include "kernels/op_def.h"
#include "kernels/op_table.h"
#include "plugin/error.h"

namespace tfmetal {
namespace {

// Where a value comes from: output `port` of node `inner` of the cluster's graph, or, when that is
// negative, from `outside`.
struct Source {
  int inner = -1;
  int port = 0;
  Output outside = {};
};

// A node of the cluster's graph.
struct Inner {
  NodeDef def;
  std::vector<Source> inputs;
  std::vector<TF_DataType> types;  // of the inputs
  std::vector<bool> host;
};

struct Result {
  GraphNode* member;
  int port;
  TF_DataType type;
  Source source;
  std::vector<Use> readers;  // outside
};

struct Preserved {
  std::string name, device;
  std::vector<Output> outputs;
  std::vector<TF_DataType> types;
};

NodeDef make_node(std::string name, const char* op) {
  NodeDef def;
  def.name = std::move(name);
  def.op = op;
  return def;
}

std::vector<TF_DataType> types_of_outputs(const NodeDef& def) {
  return def.op == kClusterOp ? def.attr_types("Tresults") : output_types(def);
}

// Sources before their readers, otherwise in the order given.
std::vector<GraphNode*> sorted(const std::vector<GraphNode*>& members) {
  std::unordered_map<const GraphNode*, size_t> waiting_for;
  for (GraphNode* node : members) waiting_for.emplace(node, 0);
  const auto count = [&](GraphNode* source, GraphNode* reader) {
    if (waiting_for.contains(source)) ++waiting_for[reader];
  };
  std::vector<GraphNode*> order;
  for (GraphNode* node : members) {
    for (const Output& source : node->inputs()) count(source.node, node);
    for (GraphNode* source : node->controls()) count(source, node);
    if (!waiting_for[node]) order.push_back(node);
  }
  for (size_t i = 0; i < order.size(); ++i) {
    const auto arrived = [&](GraphNode* reader) {
      const auto found = waiting_for.find(reader);
      if (found != waiting_for.end() && --found->second == 0) order.push_back(reader);
    };
    for (const Use& use : order[i]->data_uses()) arrived(use.node);
    for (GraphNode* reader : order[i]->control_uses()) arrived(reader);
  }
  if (order.size() != members.size() || waiting_for.size() != members.size())
    throw_failed_precondition("Nodes to be outlined repeat, or lie on a cycle");
  return order;
}

// Collects all that the cluster needs without touching the graph, then rewrites it.
class Outline {
 public:
  Outline(GraphView& view, const std::vector<GraphNode*>& members, Context& context)
      : view_(view), members_(sorted(members)), context_(context) {
    if (members_.empty()) throw_failed_precondition("No nodes to be outlined");
    is_member_.insert(members_.begin(), members_.end());
    for (GraphNode* member : members_) {
      add_member(*member);
      for (GraphNode* source : member->controls()) add_control(source);
      for (GraphNode* reader : member->control_uses())
        if (!is_member_.contains(reader)) control_readers_.emplace_back(member, reader);
      find_results(*member);
    }
    if (std::none_of(results_.begin(), results_.end(),
                     [](const Result& result) { return result.source.inner >= 0; }))
      throw_failed_precondition("Nothing reads what is computed by the nodes to be outlined");
    choose_name();
  }

  GraphNode& replace(std::string_view pattern) {
    NodeDef def = cluster_def(pattern);
    GraphNode& cluster = view_.add(std::move(def), args_, controls_);
    rewire(cluster);
    for (auto it = members_.rbegin(); it != members_.rend(); ++it) view_.remove(**it);
    for (GraphNode* constant : constants_)
      if (!constant->num_data_uses() && !constant->num_control_uses() &&
          !context_.preserved(*constant))
        view_.remove(*constant);
    if (!name_.empty()) view_.rename(cluster, name_);
    for (const Preserved& node : preserved_) add_identity(node);
    return cluster;
  }

 private:
  Source resolve(Output output) {
    if (const auto it = inner_of_.find(output.node); it != inner_of_.end())
      return {it->second, output.port, {}};
    if (const auto it = passed_on_.find({output.node, output.port}); it != passed_on_.end())
      return it->second;
    if (!is_inlined(*output.node)) return {-1, 0, output};
    constants_.push_back(output.node);
    for (GraphNode* source : output.node->controls()) add_control(source);
    return {add_inner(*output.node, {}), output.port, {}};
  }

  // The node, under a name of its own, without what concerns only the graph that it came from.
  int add_inner(const GraphNode& node, const std::vector<Output>& inputs) {
    Inner inner;
    for (const Output& input : inputs) inner.inputs.push_back(resolve(input));
    inner.def = make_node(unique_name(node.name()), node.op().c_str());
    for (const Attribute& attr : node.def().attrs())
      if (!attr.first.starts_with('_')) inner.def.set_attr(attr.first, attr.second);
    if (!inputs.empty()) {
      inner.types = input_types(node.def());
      inner.host = host_inputs(node.def());
      if (inner.types.size() != inputs.size())
        throw_invalid_argument("Node '", node.name(), "' has ", inputs.size(), " inputs, not ",
                               inner.types.size());
    }
    inners_.push_back(std::move(inner));
    return inner_of_[&node] = int(inners_.size()) - 1;
  }

  void add_member(GraphNode& member) {
    if (member.op() == kClusterOp)
      add_nested(member);
    else
      add_inner(member, member.inputs());
  }

  // A cluster's nodes become nodes of the new one.
  void add_nested(GraphNode& member) {
    nested_.emplace_back(GraphDef::parse(member.def().attr_string("graph")));
    const GraphView& graph = nested_.back();
    for (size_t i = 0; i < graph.size(); ++i) {
      GraphNode& node = graph.node(i);
      if (node.op() == "_Arg")
        passed_on_[{&node, 0}] = resolve(member.input(size_t(node.def().attr_int("index"))));
      else if (node.op() == "_Retval")
        passed_on_[{&member, int(node.def().attr_int("index"))}] = resolve(node.input(0));
      else
        add_inner(node, node.inputs());
    }
  }

  void add_control(GraphNode* source) {
    if (!is_member_.contains(source) && is_control_.insert(source).second)
      controls_.push_back(source);
  }

  void find_results(GraphNode& member) {
    const std::vector<TF_DataType> types = types_of_outputs(member.def());
    std::map<int, std::vector<Use>> readers;
    for (const Use& use : member.data_uses())
      if (!is_member_.contains(use.node))
        readers[use.node->input(size_t(use.index)).port].push_back(use);
    const bool preserved = context_.preserved(member);
    if (preserved) preserved_.push_back({member.name(), member.device(), {}, types});
    for (int port = 0; port < int(types.size()); ++port) {
      if (!preserved && !readers.contains(port)) continue;
      results_.push_back(
          {&member, port, types[size_t(port)], resolve({&member, port}), readers[port]});
    }
  }

  // The cluster may be called like the one node whose name must live, or like its last member, when
  // output 0 is all there is under that name.
  void choose_name() {
    if (preserved_.size() > 1) return;
    const GraphNode* head =
        preserved_.empty() ? members_.back() : view_.find(preserved_.front().name);
    const auto result = std::find_if(results_.begin(), results_.end(),
                                     [&](const Result& r) { return r.member == head; });
    if (result == results_.end() || types_of_outputs(head->def()).size() != 1 ||
        result->source.inner < 0)
      return;
    name_ = head->name();
    preserved_.clear();
    std::rotate(results_.begin(), result, result + 1);
  }

  NodeDef cluster_def(std::string_view pattern) {
    GraphDef body;
    const std::vector<std::string> args = add_args(body);
    for (Inner& inner : inners_) {
      for (size_t i = 0; i < inner.inputs.size(); ++i)
        inner.def.inputs.push_back(input_name(inner.inputs[i], args, inner.host[i]));
      body.nodes.push_back(inner.def);
    }
    std::vector<TF_DataType> types;
    for (const Result& result : results_) {
      if (result.source.inner < 0) continue;
      NodeDef node = make_node(unique_name(concat("result_", types.size())), "_Retval");
      node.inputs.push_back(input_name(result.source, args, false));
      node.set_attr("T", AttrValue::of_type(result.type));
      node.set_attr("index", AttrValue::of_int(int64_t(types.size())));
      types.push_back(result.type);
      body.nodes.push_back(std::move(node));
    }
    const std::string name = concat(members_.back()->name(), "/", pattern);
    NodeDef def = make_node(view_.unique_name(name), kClusterOp);
    def.device = members_.front()->device();
    const auto device_types = arg_types_.begin() + ptrdiff_t(num_host_);
    def.set_attr("Thost", AttrValue::of_types({arg_types_.begin(), device_types}));
    def.set_attr("Targs", AttrValue::of_types({device_types, arg_types_.end()}));
    def.set_attr("Tresults", AttrValue::of_types(types));
    def.set_attr("graph", AttrValue::of_string(body.serialized()));
    def.set_attr("pattern", AttrValue::of_string(pattern));
    return def;
  }

  // Numbers what comes from outside, host inputs first, and returns the names of the _Arg nodes.
  std::vector<std::string> add_args(GraphDef& body) {
    for (const bool host : {true, false}) {
      for (const Inner& inner : inners_) {
        for (size_t i = 0; i < inner.inputs.size(); ++i) {
          const Source& source = inner.inputs[i];
          if (source.inner >= 0 || inner.host[i] != host) continue;
          const auto key = std::make_tuple(source.outside.node, source.outside.port, host);
          if (!arg_of_.emplace(key, args_.size()).second) continue;
          args_.push_back(source.outside);
          arg_types_.push_back(inner.types[i]);
        }
      }
      if (host) num_host_ = args_.size();
    }
    std::vector<std::string> names;
    for (size_t i = 0; i < args_.size(); ++i) {
      NodeDef& node = body.nodes.emplace_back(make_node(unique_name(concat("arg_", i)), "_Arg"));
      node.set_attr("T", AttrValue::of_type(arg_types_[i]));
      node.set_attr("index", AttrValue::of_int(int64_t(i)));
      names.push_back(node.name);
    }
    return names;
  }

  std::string input_name(const Source& source, const std::vector<std::string>& args, bool host) {
    if (source.inner < 0) return args[arg_of_.at({source.outside.node, source.outside.port, host})];
    const std::string& name = inners_[size_t(source.inner)].def.name;
    return source.port ? concat(name, ":", source.port) : name;
  }

  void rewire(GraphNode& cluster) {
    int next = 0;
    for (const Result& result : results_) {
      const Output value =
          result.source.inner < 0 ? result.source.outside : Output{&cluster, next++};
      for (const Use& use : result.readers) view_.set_input(*use.node, size_t(use.index), value);
      for (Preserved& node : preserved_)
        if (node.name == result.member->name()) node.outputs.push_back(value);
    }
    for (const auto& [member, reader] : control_readers_) {
      view_.remove_control(*member, *reader);
      view_.add_control(cluster, *reader);
    }
  }

  void add_identity(const Preserved& node) {
    const bool single = node.types.size() == 1;
    NodeDef def = make_node(node.name, single ? "Identity" : "IdentityN");
    def.device = node.device;
    def.set_attr("T", single ? AttrValue::of_type(node.types[0]) : AttrValue::of_types(node.types));
    view_.add(std::move(def), node.outputs);
  }

  std::string unique_name(const std::string& name) {
    std::string out = name;
    for (int i = 1; !names_.insert(out).second; ++i) out = concat(name, "_", i);
    return out;
  }

  GraphView& view_;
  const std::vector<GraphNode*> members_;
  Context& context_;
  std::unordered_set<const GraphNode*> is_member_, is_control_;

  std::vector<Inner> inners_;
  std::unordered_map<const GraphNode*, int> inner_of_;
  std::map<std::pair<const GraphNode*, int>, Source> passed_on_;  // of nested clusters
  std::vector<GraphView> nested_;
  std::unordered_set<std::string> names_;

  std::vector<GraphNode*> controls_, constants_;
  std::vector<std::pair<GraphNode*, GraphNode*>> control_readers_;
  std::vector<Result> results_;
  std::vector<Preserved> preserved_;
  std::string name_;

  std::map<std::tuple<GraphNode*, int, bool>, size_t> arg_of_;
  std::vector<Output> args_;
  std::vector<TF_DataType> arg_types_;
  size_t num_host_ = 0;
};

}  // namespace

bool is_inlined(const GraphNode& node) {
  if (node.op() != "Const") return false;
  const TensorProto value = node.def().attr_tensor("value");
  if (value.dtype() == TF_STRING || value.dtype() == TF_RESOURCE || value.dtype() == TF_VARIANT)
    return false;
  const std::optional<int64_t> elements = value.shape().elements();
  return elements && size_t(*elements) <= kMaxInlineBytes && value.data().size() <= kMaxInlineBytes;
}

std::vector<bool> host_inputs(const NodeDef& node) {
  if (is_shape_arithmetic(node))
    return std::vector<bool>(input_names(node).size(), !asks_for_shape(node));
  const OpRow* row = can_be_inner(node) ? find_row(node) : find_member_row(node);
  if (!row) throw_not_found("No cluster can run ", node.op, " node '", node.name, "'");
  std::vector<bool> out;
  for (const std::string& name : input_names(node))
    out.push_back(std::any_of(row->host.begin(), row->host.end(),
                              [&](const HostInput& host) { return host.name == name; }));
  return out;
}

GraphNode& outline(GraphView& view, const std::vector<GraphNode*>& members, Context& context,
                   std::string_view pattern) {
  return Outline(view, members, context).replace(pattern);
}

}  // namespace tfmetal
