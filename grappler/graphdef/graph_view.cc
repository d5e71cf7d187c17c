#include "grappler/graphdef/graph_view.h"

#include <charconv>

#include "plugin/error.h"

namespace tfmetal {
namespace {

// "node", "node:1" or "^node" taken apart.
struct InputName {
  std::string_view node;
  int port = 0;
};

InputName parse_input(std::string_view text) {
  if (text.starts_with('^')) return {text.substr(1), kControlPort};
  const size_t colon = text.rfind(':');
  if (colon == text.npos) return {text, 0};
  InputName out{text.substr(0, colon), 0};
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data() + colon + 1, end, out.port);
  if (error != std::errc() || at != end || out.port < 0) return {text, 0};
  return out;
}

std::string input_name(Output source) {
  if (source.port == kControlPort) return "^" + source.node->name();
  return source.port ? concat(source.node->name(), ":", source.port) : source.node->name();
}

}  // namespace

Output GraphNode::input(size_t index) const {
  if (index >= num_data_)
    throw_out_of_range("Node '", name(), "' has ", num_data_, " inputs, not input ", index);
  return fanins_[index].source;
}

std::vector<Output> GraphNode::inputs() const {
  std::vector<Output> out;
  for (size_t i = 0; i < num_data_; ++i) out.push_back(fanins_[i].source);
  return out;
}

std::vector<GraphNode*> GraphNode::controls() const {
  std::vector<GraphNode*> out;
  for (size_t i = num_data_; i < fanins_.size(); ++i) out.push_back(fanins_[i].source.node);
  return out;
}

std::vector<Use> GraphNode::uses(int port) const {
  std::vector<Use> out;
  for (const Use& use : fanouts_)
    if (use.node->fanins_[use.index].source.port == port) out.push_back(use);
  return out;
}

std::vector<Use> GraphNode::data_uses() const {
  std::vector<Use> out;
  for (const Use& use : fanouts_)
    if (size_t(use.index) < use.node->num_data_) out.push_back(use);
  return out;
}

std::vector<GraphNode*> GraphNode::control_uses() const {
  std::vector<GraphNode*> out;
  for (const Use& use : uses(kControlPort)) out.push_back(use.node);
  return out;
}

GraphView::GraphView(GraphDef graph) : rest_(std::move(graph.rest)) {
  nodes_.reserve(graph.nodes.size());
  by_name_.reserve(graph.nodes.size());
  for (NodeDef& def : graph.nodes) {
    GraphNode& node = *nodes_.emplace_back(std::make_unique<GraphNode>());
    node.def_ = std::move(def);
    node.index_ = nodes_.size() - 1;
    if (!by_name_.emplace(node.name(), &node).second)
      throw_invalid_argument("Graph has two nodes named '", node.name(), "'");
  }
  for (const auto& node : nodes_) {
    for (const std::string& text : node->def_.inputs) {
      const InputName input = parse_input(text);
      GraphNode* source = find(input.node);
      if (!source)
        throw_invalid_argument("Node '", node->name(), "' reads '", text, "', which is not there");
      if (input.port != kControlPort && node->num_controls())
        throw_invalid_argument("Node '", node->name(), "' has a data input after a control input");
      connect(*node, {source, input.port});
    }
  }
}

GraphNode* GraphView::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

std::string GraphView::unique_name(std::string name) const {
  if (!find(name)) return name;
  for (int i = 1;; ++i)
    if (std::string numbered = concat(name, "_", i); !find(numbered)) return numbered;
}

void GraphView::check_alive(const GraphNode& node) const {
  if (node.removed_) throw_failed_precondition("Node '", node.name(), "' has been removed");
}

void GraphView::check_source(const GraphNode& reader, Output source) const {
  if (!source.node || source.port < 0)
    throw_failed_precondition("Node '", reader.name(), "' would read no data output");
  if (source.node == &reader)
    throw_failed_precondition("Node '", reader.name(), "' would read itself");
  check_alive(*source.node);
}

void GraphView::attach(GraphNode& reader, size_t index, Output source) {
  reader.fanins_[index] = {source, source.node->fanouts_.size()};
  source.node->fanouts_.push_back({&reader, int(index)});
  source.node->num_control_uses_ += source.port == kControlPort;
}

void GraphView::detach(GraphNode& reader, size_t index) {
  const GraphNode::Fanin edge = reader.fanins_[index];
  GraphNode& source = *edge.source.node;
  const Use moved = source.fanouts_.back();
  source.fanouts_[edge.slot] = moved;
  moved.node->fanins_[moved.index].slot = edge.slot;
  source.fanouts_.pop_back();
  source.num_control_uses_ -= edge.source.port == kControlPort;
}

void GraphView::connect(GraphNode& reader, Output source) {
  reader.fanins_.emplace_back();
  reader.num_data_ += source.port != kControlPort;
  attach(reader, reader.fanins_.size() - 1, source);
}

void GraphView::drop_fanin(GraphNode& reader, size_t index) {
  detach(reader, index);
  const size_t last = reader.fanins_.size() - 1;
  if (index != last) {
    reader.fanins_[index] = reader.fanins_[last];
    const GraphNode::Fanin& moved = reader.fanins_[index];
    moved.source.node->fanouts_[moved.slot].index = int(index);
  }
  reader.fanins_.pop_back();
}

void GraphView::set_data_inputs(GraphNode& node, const std::vector<Output>& inputs) {
  const std::vector<GraphNode*> controls = node.controls();
  for (size_t i = 0; i < node.fanins_.size(); ++i) detach(node, i);
  node.fanins_.clear();
  node.num_data_ = 0;
  for (const Output& source : inputs) connect(node, source);
  for (GraphNode* source : controls) connect(node, {source, kControlPort});
  node.rewritten_ = true;
}

GraphNode& GraphView::add(NodeDef def, const std::vector<Output>& inputs,
                          const std::vector<GraphNode*>& controls) {
  if (!def.inputs.empty() || def.name.empty() || find(def.name))
    throw_failed_precondition("Node '", def.name,
                              "' cannot be added: its name is taken or empty, "
                              "or its inputs are given by name");
  auto node = std::make_unique<GraphNode>();
  node->def_ = std::move(def);
  node->index_ = nodes_.size();
  for (const Output& source : inputs) check_source(*node, source);
  for (GraphNode* source : controls) check_alive(*source);
  nodes_.push_back(std::move(node));
  GraphNode& added = *nodes_.back();
  by_name_.emplace(added.name(), &added);
  set_data_inputs(added, inputs);
  for (GraphNode* source : controls) add_control(*source, added);
  return added;
}

void GraphView::redefine(GraphNode& node, NodeDef def, const std::vector<Output>& inputs) {
  check_alive(node);
  if (!def.inputs.empty())
    throw_failed_precondition("Node '", node.name(), "': inputs are given by name");
  for (const Output& source : inputs) check_source(node, source);
  // Moving into the name would invalidate the key in by_name_.
  def.name = node.name();
  by_name_.erase(node.name());
  node.def_ = std::move(def);
  by_name_.emplace(node.name(), &node);
  set_data_inputs(node, inputs);
}

void GraphView::rename(GraphNode& node, std::string name) {
  check_alive(node);
  if (name == node.name()) return;
  if (name.empty() || find(name))
    throw_failed_precondition("Node '", node.name(), "' cannot be renamed to '", name, "'");
  by_name_.erase(node.name());
  node.def_.name = std::move(name);
  by_name_.emplace(node.name(), &node);
  for (const Use& use : node.fanouts_) use.node->rewritten_ = true;
}

void GraphView::set_input(GraphNode& node, size_t index, Output source) {
  check_alive(node);
  check_source(node, source);
  node.input(index);  // throws when there is none
  detach(node, index);
  attach(node, index, source);
  node.rewritten_ = true;
}

void GraphView::add_control(GraphNode& from, GraphNode& to) {
  check_alive(from);
  check_alive(to);
  if (&from == &to) throw_failed_precondition("Node '", to.name(), "' would wait for itself");
  // Look on the side with fewer edges.
  if (to.num_controls() <= from.fanouts_.size()) {
    for (size_t i = to.num_data_; i < to.fanins_.size(); ++i)
      if (to.fanins_[i].source.node == &from) return;
  } else {
    for (const Use& use : from.fanouts_)
      if (use.node == &to && size_t(use.index) >= to.num_data_) return;
  }
  connect(to, {&from, kControlPort});
  to.rewritten_ = true;
}

void GraphView::remove_control(GraphNode& from, GraphNode& to) {
  for (size_t i = to.fanins_.size(); i-- > to.num_data_;) {
    if (to.fanins_[i].source.node != &from) continue;
    drop_fanin(to, i);
    to.rewritten_ = true;
  }
}

void GraphView::replace_uses(Output from, Output to) {
  if (from.port < 0 || to.port < 0 || !to.node)
    throw_failed_precondition("Only data outputs replace each other");
  check_alive(*from.node);
  check_alive(*to.node);
  if (from == to) return;
  for (const Use& use : from.node->uses(from.port))
    if (use.node != to.node) set_input(*use.node, size_t(use.index), to);
}

void GraphView::remove(GraphNode& node) {
  check_alive(node);
  if (node.num_data_uses())
    throw_failed_precondition("Node '", node.name(), "' cannot be removed: ", node.num_data_uses(),
                              " inputs read it");
  for (GraphNode* waiting : node.control_uses()) {
    remove_control(node, *waiting);
    for (const GraphNode::Fanin& fanin : node.fanins_)
      if (fanin.source.node != waiting) add_control(*fanin.source.node, *waiting);
  }
  for (size_t i = 0; i < node.fanins_.size(); ++i) detach(node, i);
  node.fanins_.clear();
  node.num_data_ = 0;
  by_name_.erase(node.name());
  node.removed_ = true;
}

GraphDef GraphView::graph() const {
  GraphDef out;
  out.rest = rest_;
  for (const auto& node : nodes_) {
    if (node->removed_) continue;
    NodeDef& def = out.nodes.emplace_back(node->def_);
    if (!node->rewritten_) continue;
    def.inputs.clear();
    for (const GraphNode::Fanin& fanin : node->fanins_)
      def.inputs.push_back(input_name(fanin.source));
  }
  return out;
}

}  // namespace tfmetal
