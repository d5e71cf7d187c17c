// Shapes that a loop keeps for its gradient stay on the host.
//
//   body of the loop:      Shape -> TensorListPushBack(list, int32)
//   of its gradient:       TensorListPopBack -> list
//                                            -> int32 shape, which Reshape, Sum, Fill or
//                                               BroadcastGradientArgs read on the host
//
// TensorFlow does this where it does not know the batch size. A TensorList of our device holds
// device memory: each step would copy the shape there, and its gradient wait for it to come back.
// So shapes travel as tensors without elements, of that shape and a 0 behind it (_MetalBoxShape,
// _MetalUnboxShape): a shape is known without a look at memory.
//
// Fires when, of all that an EmptyTensorList of int32 on our device becomes,
// * only nodes of loops and branches, TensorListPushBack and TensorListPopBack handle the list;
// * all that is pushed are results of Shape;
// * no node's name is asked for.
#include <algorithm>
#include <unordered_set>

#include "grappler/loops/loops.h"

namespace tfmetal {

namespace {

bool passes_on(const std::string& op) {
  static const std::unordered_set<std::string_view> ops = {"Enter", "Exit",          "Identity",
                                                           "Merge", "NextIteration", "Switch"};
  return ops.contains(op);
}

// One list of int32 and all that becomes of it.
class Stack {
 public:
  Stack(GraphNode& source, const Context& context) : source_(source), context_(context) {}

  bool matches() {
    if (!accepts(source_)) return false;
    nodes_.push_back(&source_);
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (!follow(*nodes_[i])) return false;
    }
    return !pushes_.empty() && !pops_.empty() && std::ranges::all_of(nodes_, [&](GraphNode* node) {
      return node == &source_ || comes_from_here(*node);
    });
  }

  void rewrite(GraphView& graph) {
    source_.set_attr("element_dtype", AttrValue::of_type(TF_FLOAT));
    graph.set_input(source_, 0, any_shape(graph, source_.input(0)));
    for (GraphNode* push : pushes_) {
      GraphNode& box = add(graph, "_MetalBoxShape", *push, push->input(1));
      graph.set_input(*push, 1, {&box, 0});
      push->set_attr("element_dtype", AttrValue::of_type(TF_FLOAT));
    }
    for (GraphNode* pop : pops_) {
      graph.set_input(*pop, 1, any_shape(graph, pop->input(1)));
      pop->set_attr("element_dtype", AttrValue::of_type(TF_FLOAT));
      const std::vector<Use> readers = pop->uses(1);
      GraphNode& shape = add(graph, "_MetalUnboxShape", *pop, {pop, 1});
      for (const Use& use : readers) graph.set_input(*use.node, size_t(use.index), {&shape, 0});
    }
  }

 private:
  bool accepts(const GraphNode& node) const {
    return context_.on_device(node) && !context_.preserved(node);
  }

  // Adds who handles the list that `node` gives on.
  bool follow(GraphNode& node) {
    for (const Use& use : node.data_uses()) {
      const Output read = use.node->input(size_t(use.index));
      GraphNode& user = *use.node;
      if (node.op() == "TensorListPopBack" && read.port == 1) continue;
      if (node.op() == "Merge" && read.port == 1) return false;
      if (!accepts(user) || !handles_list(user, use.index)) return false;
      if (seen_.insert(&user).second) nodes_.push_back(&user);
    }
    return true;
  }

  bool handles_list(GraphNode& user, int index) {
    if (passes_on(user.op())) return user.op() == "Merge" || index == 0;
    const bool is_new = !seen_.contains(&user);
    if (user.op() == "TensorListPushBack" && index == 0) {
      const GraphNode& pushed = *user.input(1).node;
      if (is_new) pushes_.push_back(&user);
      return pushed.op() == "Shape" && context_.on_device(pushed);
    }
    if (user.op() == "TensorListPopBack" && index == 0 && user.input(1).node->op() == "Const") {
      if (is_new) pops_.push_back(&user);
      return true;
    }
    return false;
  }

  bool comes_from_here(const GraphNode& node) const {
    const size_t count = node.op() == "Merge" ? node.num_inputs() : 1;
    for (size_t i = 0; i < count; ++i) {
      GraphNode* input = node.input(i).node;
      if (input != &source_ && !seen_.contains(input)) return false;
    }
    return true;
  }

  // A constant that says nothing about the elements' shape, alive where `shape` is.
  static Output any_shape(GraphView& graph, Output shape) {
    NodeDef def;
    def.name = graph.unique_name(shape.node->name() + "/any");
    def.op = "Const";
    def.device = shape.node->device();
    const int32_t unknown = -1;
    def.set_attr("dtype", AttrValue::of_type(TF_INT32));
    def.set_attr("value", AttrValue::of_tensor(TensorProto::make(
                              TF_INT32, {}, {reinterpret_cast<const char*>(&unknown), 4})));
    return {&graph.add(std::move(def), {}, shape.node->controls()), 0};
  }

  static GraphNode& add(GraphView& graph, const char* op, const GraphNode& beside, Output input) {
    NodeDef def;
    def.name = graph.unique_name(beside.name() + "/shape");
    def.op = op;
    def.device = beside.device();
    return graph.add(std::move(def), {input});
  }

  GraphNode& source_;
  const Context& context_;
  std::vector<GraphNode*> nodes_, pushes_, pops_;
  std::unordered_set<const GraphNode*> seen_;
};

}  // namespace

int box_stacked_shapes(GraphView& graph, Context& context) {
  int changes = 0;
  const size_t count = graph.size();  // nodes added meanwhile are of no interest
  for (size_t i = 0; i < count; ++i) {
    GraphNode& node = graph.node(i);
    if (node.removed() || node.op() != "EmptyTensorList" ||
        node.def().attr_type("element_dtype", TF_FLOAT) != TF_INT32 ||
        node.input(0).node->op() != "Const") {
      continue;
    }
    Stack stack(node, context);
    if (!stack.matches()) continue;
    stack.rewrite(graph);
    ++changes;
  }
  return changes;
}

}  // namespace tfmetal
