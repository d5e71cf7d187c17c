// GraphView: a graph whose edges are pointers, to be edited by passes.
//
// Names are written into inputs only when the graph is taken out again, so that renaming costs
// nothing and cannot break an edge. GraphNode pointers stay valid for the life of the view, removed
// nodes included. Lookups by name, adding and removing an edge take constant time.
// Edits that would make a broken graph throw FailedPrecondition and change nothing.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "grappler/graphdef/graph_def.h"

namespace tfmetal {

class GraphNode;

inline constexpr int kControlPort = -1;

// An output of a node; port kControlPort: that it has run.
struct Output {
  GraphNode* node = nullptr;
  int port = 0;
  friend bool operator==(const Output&, const Output&) = default;
};

// An input of a node: fanins()[index].
struct Use {
  GraphNode* node = nullptr;
  int index = 0;
  friend bool operator==(const Use&, const Use&) = default;
};

// Not called Node: that is what the kernels see of an op (kernels/node.h).
class GraphNode {
 public:
  const std::string& name() const { return def_.name; }
  const std::string& op() const { return def_.op; }
  const std::string& device() const { return def_.device; }
  // Attributes; inputs and the name are the view's business.
  const NodeDef& def() const { return def_; }
  void set_attr(std::string_view name, AttrValue value) { def_.set_attr(name, std::move(value)); }
  void set_device(std::string device) { def_.device = std::move(device); }
  bool removed() const { return removed_; }
  size_t index() const { return index_; }  // view.node(index()) is this node

  // Data inputs in order, then control inputs in no particular order.
  size_t num_inputs() const { return num_data_; }
  size_t num_controls() const { return fanins_.size() - num_data_; }
  Output input(size_t index) const;  // throws OutOfRange
  std::vector<Output> inputs() const;
  std::vector<GraphNode*> controls() const;

  // Who reads this node's outputs, in no particular order. A node that uses an output twice comes
  // twice. The list is a copy: the graph may be edited while walking it.
  std::vector<Use> uses(int port) const;
  std::vector<Use> data_uses() const;  // of all ports but control
  std::vector<GraphNode*> control_uses() const;
  size_t num_data_uses() const { return fanouts_.size() - num_control_uses_; }
  size_t num_control_uses() const { return num_control_uses_; }

 private:
  friend class GraphView;
  struct Fanin {
    Output source;
    size_t slot;  // where in the source's fanouts_ this edge is
  };

  NodeDef def_;  // def_.inputs is stale when rewritten_
  std::vector<Fanin> fanins_;
  std::vector<Use> fanouts_;
  size_t num_data_ = 0;
  size_t num_control_uses_ = 0;
  size_t index_ = 0;
  bool removed_ = false;
  bool rewritten_ = false;
};

class GraphView {
 public:
  // Throws InvalidArgument when a name comes twice, an input does not exist, or a data input
  // follows a control input.
  explicit GraphView(GraphDef graph);
  GraphView(GraphView&&) = default;
  GraphView& operator=(GraphView&&) = default;

  // All nodes, removed ones included; nodes are added at the end. Take size() anew while editing.
  size_t size() const { return nodes_.size(); }
  GraphNode& node(size_t index) const { return *nodes_[index]; }
  GraphNode* find(std::string_view name) const;  // nullptr when there is none

  // `name`, or if it is taken `name` with a number.
  std::string unique_name(std::string name) const;

  // Adds a node. The edges are those given; def.inputs must be empty.
  GraphNode& add(NodeDef def, const std::vector<Output>& inputs,
                 const std::vector<GraphNode*>& controls = {});
  // Gives the node another operation, attributes, device and data inputs. Its name, control
  // inputs and consumers stay.
  void redefine(GraphNode& node, NodeDef def, const std::vector<Output>& inputs);
  void rename(GraphNode& node, std::string name);

  void set_input(GraphNode& node, size_t index, Output source);
  // Does nothing if the edge exists; throws on an edge from a node to itself.
  void add_control(GraphNode& from, GraphNode& to);
  void remove_control(GraphNode& from, GraphNode& to);  // does nothing if there is no such edge

  // Makes every reader of `from` (a data output) read `to`, except `to.node` itself.
  void replace_uses(Output from, Output to);

  // Removes a node that no data input reads. What had to run before it still runs before
  // everything that waited for it: its control consumers wait for its inputs.
  void remove(GraphNode& node);

  // The graph as it is now, removed nodes left out.
  GraphDef graph() const;

 private:
  void check_alive(const GraphNode& node) const;
  void check_source(const GraphNode& reader, Output source) const;
  void connect(GraphNode& reader, Output source);  // appends to fanins_
  void detach(GraphNode& reader, size_t index);    // takes the edge out of the source's fanouts_
  void attach(GraphNode& reader, size_t index, Output source);
  void drop_fanin(GraphNode& reader, size_t index);  // the last of its sort takes its place
  void set_data_inputs(GraphNode& node, const std::vector<Output>& inputs);

  std::vector<std::unique_ptr<GraphNode>> nodes_;
  std::unordered_map<std::string_view, GraphNode*> by_name_;  // keys are the nodes' own names
  std::string rest_;
};

}  // namespace tfmetal
