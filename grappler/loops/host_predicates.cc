// Conditions of loops and branches are computed where they are asked.
//
//      int32   int32   int32   int32          TensorFlow compares int32 on the host, but
//         \    /          \    /              LogicalAnd has one kernel, on the device: each
//          Less           Less                iteration would copy two booleans there, and wait
//             \           /                   for one to come back.
//              LogicalAnd
//                  |
//              LoopCond, or the predicate of a Switch
//
// Fires when
// * the op is LogicalAnd, LogicalOr or LogicalNot on our device, and a scalar;
// * all inputs are in host memory: results of TensorFlow's own kernels for int32 comparisons, or of
//   a node that this pass has changed;
// * a LoopCond, a Switch predicate or a node that this pass can change reads it.
#include <algorithm>
#include <unordered_map>

#include "grappler/loops/loops.h"
#include "kernels/op_table.h"

namespace tfmetal {

namespace {

constexpr const char* kHostLogical = "_MetalHostLogical";

const char* function_of(const GraphNode& node) {
  static const std::unordered_map<std::string_view, const char*> functions = {
      {"LogicalAnd", "and"}, {"LogicalOr", "or"}, {"LogicalNot", "not"}};
  const auto found = functions.find(node.op());
  return found == functions.end() ? nullptr : found->second;
}

bool compares(const GraphNode& node) {
  static constexpr std::string_view kOps[] = {"Equal", "Greater",   "GreaterEqual",
                                              "Less",  "LessEqual", "NotEqual"};
  return std::ranges::count(kOps, node.op()) > 0;
}

bool in_host_memory(const GraphNode& node, Context& context) {
  if (!context.on_device(node)) return false;
  if (node.op() == kHostLogical) return true;
  // On our device, but by no kernel of ours: by TensorFlow's for int32, in host memory.
  return compares(node) && node.def().attr_type("T", TF_FLOAT) == TF_INT32 &&
         !find_member_row(node.def());
}

bool read_by_host(const GraphNode& node) {
  const auto reads = [](const Use& use) {
    const std::string& op = use.node->op();
    return op == "LoopCond" || (op == "Switch" && use.index == 1) || op == kHostLogical ||
           function_of(*use.node);
  };
  const std::vector<Use> uses = node.data_uses();
  return std::ranges::any_of(uses, reads);
}

bool is_scalar(const GraphNode& node, Context& context) {
  const auto info = context.output_info(node, 0);
  return info && !info->shape.unknown_rank && info->shape.dims.empty();
}

bool rewrite(GraphView& graph, GraphNode& node, Context& context) {
  const char* function = function_of(node);
  if (!function || !context.on_device(node) || !read_by_host(node)) return false;
  const std::vector<Output> inputs = node.inputs();
  for (const Output& input : inputs) {
    if (input.port != 0 || !in_host_memory(*input.node, context)) return false;
    if (input.node->op() != kHostLogical && !is_scalar(*input.node, context)) return false;
  }
  NodeDef def;
  def.op = kHostLogical;
  def.device = node.device();
  def.set_attr("N", AttrValue::of_int(int64_t(inputs.size())));
  def.set_attr("function", AttrValue::of_string(function));
  graph.redefine(node, std::move(def), inputs);
  return true;
}

}  // namespace

int compute_predicates_on_host(GraphView& graph, Context& context) {
  int changes = 0;
  // A node may come before its inputs: again, until nothing more is found.
  for (int found = 1; found > 0; changes += found) {
    found = 0;
    for (size_t i = 0; i < graph.size(); ++i) {
      GraphNode& node = graph.node(i);
      found += !node.removed() && rewrite(graph, node, context);
    }
  }
  return changes;
}

}  // namespace tfmetal
