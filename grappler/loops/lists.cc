// What lists hold is held in a form that they can hold well on the device.
//
//   x -> TensorListPushBack -> ... -> TensorListPopBack -> x           becomes
//   x -> into -> TensorListPushBack -> ... -> TensorListPopBack -> back -> x
//
// * int32 that a loop keeps for its gradient: shapes and the numbers of steps, needed on the host
//   (Reshape, Sum, TensorListSetItem, BroadcastGradientArgs). A list on our device holds device
//   memory: each step would copy the numbers there, and its gradient wait for them to come back.
//   They travel as the shapes of tensors without elements (_MetalBoxNumbers, _MetalUnboxNumbers): a
//   shape is known without a look at memory.
// * bool: masks. TensorFlow takes them out of lists on the CPU only, where it fetches all elements
//   of the list, in each step. They travel as float16 (Cast).
//
// Fires when, of all that a list of such a type becomes,
// * only nodes of loops and branches, and those of kAccesses handle it, on our device;
// * numbers that go in are few and in host memory: shapes, sizes, counters;
// * no node's name is asked for.
#include <algorithm>
#include <unordered_set>

#include "grappler/analysis/topology.h"
#include "grappler/loops/loops.h"
#include "kernels/op_table.h"

namespace tfmetal {

namespace {

bool passes_on(const std::string& op) {
  static const std::unordered_set<std::string_view> ops = {"Enter", "Exit",          "Identity",
                                                           "Merge", "NextIteration", "Switch"};
  return ops.contains(op);
}

// Results of these are in host memory on any device, and are no more than a rank has.
bool tells_shape(const std::string& op) {
  static const std::unordered_set<std::string_view> ops = {
      "Rank", "Shape", "Size", "TensorListElementShape", "TensorListLength"};
  return ops.contains(op);
}

bool computes(const std::string& op) {
  static const std::unordered_set<std::string_view> ops = {
      "Add", "AddV2", "FloorDiv", "FloorMod", "Maximum", "Minimum", "Mul", "Neg", "Sub"};
  return ops.contains(op);
}

// Whether int32 numbers are in host memory: on the CPU; on our device what TensorFlow's own kernels
// compute, for they are for int32 what ours are not; and what control flow hands on of it.
bool in_host_memory(const GraphNode& node, const Context& context,
                    std::unordered_set<const GraphNode*>* seen) {
  if (!seen->insert(&node).second) return true;  // around a loop
  if (tells_shape(node.op()) || node.op() == "Const") return true;
  if (device_type_of(node.device()) == "CPU") return true;
  if (!passes_on(node.op())) {
    return context.on_device(node) && computes(node.op()) && !find_member_row(node.def());
  }
  const size_t count = is_merge(node) ? node.num_inputs() : 1;
  for (size_t i = 0; i < count; ++i) {
    if (!in_host_memory(*node.input(i).node, context, seen)) return false;
  }
  return true;
}

// What is kept instead of a type, and how it is made and unmade.
struct Form {
  TF_DataType of, kept;
  const char *into, *back;

  bool is_box() const { return of == TF_INT32; }
};
constexpr Form kForms[] = {{TF_INT32, TF_FLOAT, "_MetalBoxNumbers", "_MetalUnboxNumbers"},
                           {TF_BOOL, TF_HALF, "Cast", "Cast"}};

// The ops that handle lists: which input goes into the list, which output comes out of it.
struct Access {
  std::string_view op;
  int input, output;
  bool of_boxes;  // whether a list of boxes can be handled so, whose shapes are not those of items
};
constexpr Access kAccesses[] = {
    {"EmptyTensorList", -1, -1, true},      {"TensorListReserve", -1, -1, false},
    {"TensorListFromTensor", 0, -1, false}, {"TensorListPushBack", 1, -1, true},
    {"TensorListPopBack", -1, 1, true},     {"TensorListSetItem", 2, -1, false},
    {"TensorListGetItem", -1, 0, false},    {"TensorListStack", -1, 0, false},
    {"TensorListLength", -1, -1, false},    {"TensorListElementShape", -1, -1, false}};

const Access* find_access(const std::string& op) {
  const auto found = std::ranges::find(kAccesses, op, &Access::op);
  return found == std::end(kAccesses) ? nullptr : found;
}

bool gives_list(const GraphNode& node, int port) {
  static const std::unordered_set<std::string_view> ops = {
      "EmptyTensorList",   "TensorListFromTensor", "TensorListPushBack",
      "TensorListPopBack", "TensorListReserve",    "TensorListSetItem"};
  return passes_on(node.op()) || (ops.contains(node.op()) && port == 0);
}

// One list and all that becomes of it.
class List {
 public:
  List(GraphNode& source, const Form& form, Context& context)
      : source_(source), form_(form), context_(context) {}

  bool matches() {
    if (!accepts(source_)) return false;
    nodes_.push_back(&source_);
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (!follow(*nodes_[i])) return false;
    }
    const auto comes_out = [](GraphNode* node) { return find_access(node->op())->output >= 0; };
    return device_ && std::ranges::any_of(accesses_, comes_out) &&
           std::ranges::all_of(
               nodes_, [&](GraphNode* node) { return node == &source_ || comes_from_here(*node); });
  }

  void rewrite(GraphView& graph) {
    for (GraphNode* node : accesses_) {
      const Access& access = *find_access(node->op());
      node->set_device(*device_);
      if (node->def().find_attr("element_dtype")) {
        node->set_attr("element_dtype", AttrValue::of_type(form_.kept));
      }
      if (access.input >= 0) {
        const size_t index = size_t(access.input);
        GraphNode& kept = convert(graph, *node, node->input(index), form_.of, form_.kept);
        graph.set_input(*node, index, {&kept, 0});
      }
      if (access.output < 0) continue;
      const Output out = {node, access.output};
      const std::vector<Use> readers = node->uses(out.port);
      GraphNode& back = convert(graph, *node, out, form_.kept, form_.of);
      for (const Use& use : readers) graph.set_input(*use.node, size_t(use.index), {&back, 0});
    }
    if (form_.is_box()) forget_shapes(graph);
  }

 private:
  // TensorFlow places what it has no kernel for elsewhere.
  bool accepts(const GraphNode& node) {
    const bool here = context_.on_device(node) && (!device_ || node.device() == *device_);
    if (here) device_ = node.device();
    const bool elsewhere = form_.of == TF_BOOL && find_access(node.op());
    return (here || elsewhere) && !context_.preserved(node);
  }

  // Adds who handles the list that `node` gives on.
  bool follow(GraphNode& node) {
    if (find_access(node.op())) accesses_.push_back(&node);
    for (const Use& use : node.data_uses()) {
      const Output read = use.node->input(size_t(use.index));
      GraphNode& user = *use.node;
      if (!gives_list(node, read.port)) continue;
      if (node.op() == "Merge" && read.port == 1) return false;
      if (!accepts(user) || !handles_list(user, use.index)) return false;
      if (seen_.insert(&user).second) nodes_.push_back(&user);
    }
    return true;
  }

  bool handles_list(GraphNode& user, int index) {
    if (passes_on(user.op())) return user.op() == "Merge" || index == 0;
    const Access* access = find_access(user.op());
    if (!access || index != 0) return false;
    if (!form_.is_box()) return true;
    return access->of_boxes && (access->input < 0 ? is_constant(user.input(1))
                                                  : can_box(user.input(size_t(access->input))));
  }

  static bool is_constant(Output output) { return output.node->op() == "Const"; }

  bool can_box(Output numbers) {
    std::unordered_set<const GraphNode*> seen;
    return are_few(numbers) && in_host_memory(*numbers.node, context_, &seen);
  }

  bool are_few(Output numbers) {
    if (tells_shape(numbers.node->op())) return true;
    constexpr int64_t kMost = 16;
    const auto info = context_.output_info(*numbers.node, numbers.port);
    if (!info || info->shape.unknown_rank || info->shape.dims.size() > 1) return false;
    return info->shape.elements().value_or(kMost + 1) <= kMost;
  }

  bool comes_from_here(const GraphNode& node) const {
    const size_t count = node.op() == "Merge" ? node.num_inputs() : 1;
    for (size_t i = 0; i < count; ++i) {
      GraphNode* input = node.input(i).node;
      if (input != &source_ && !seen_.contains(input)) return false;
    }
    return true;
  }

  // Boxes have other shapes than what is in them.
  void forget_shapes(GraphView& graph) const {
    for (GraphNode* node : accesses_) {
      const bool is_source = node == &source_;
      if (!is_source && node->op() != "TensorListPopBack") continue;
      const size_t index = is_source ? 0 : 1;
      graph.set_input(*node, index, any_shape(graph, node->input(index)));
    }
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

  GraphNode& convert(GraphView& graph, const GraphNode& beside, Output input, TF_DataType from,
                     TF_DataType to) const {
    NodeDef def;
    def.name = graph.unique_name(beside.name() + "/kept");
    def.op = from == form_.of ? form_.into : form_.back;
    def.device = *device_;
    if (!form_.is_box()) {
      def.set_attr("SrcT", AttrValue::of_type(from));
      def.set_attr("DstT", AttrValue::of_type(to));
    }
    return graph.add(std::move(def), {input});
  }

  GraphNode& source_;
  const Form& form_;
  Context& context_;
  std::optional<std::string> device_;
  std::vector<GraphNode*> nodes_, accesses_;
  std::unordered_set<const GraphNode*> seen_;
};

bool begins_list(const GraphNode& node) {
  if (node.op() == "TensorListFromTensor" || node.op() == "TensorListReserve") return true;
  return node.op() == "EmptyTensorList" && node.input(0).node->op() == "Const";
}

}  // namespace

int convert_lists(GraphView& graph, Context& context) {
  int changes = 0;
  const size_t count = graph.size();  // nodes added meanwhile are of no interest
  for (size_t i = 0; i < count; ++i) {
    GraphNode& node = graph.node(i);
    if (node.removed() || !begins_list(node)) continue;
    const TF_DataType dtype = node.def().attr_type("element_dtype", TF_FLOAT);
    const auto form = std::ranges::find(kForms, dtype, &Form::of);
    if (form == std::end(kForms) || (form->is_box() && !find_access(node.op())->of_boxes)) continue;
    List list(node, *form, context);
    if (!list.matches()) continue;
    list.rewrite(graph);
    ++changes;
  }
  return changes;
}

}  // namespace tfmetal
