#include "grappler/fallbacks.h"

#include <algorithm>
#include <mutex>
#include <unordered_set>

#include "grappler/pass.h"
#include "plugin/device/stats.h"
#include "plugin/runtime_op.h"

namespace tfmetal {
namespace {

constexpr std::string_view kCpu = "CPU";

// On the CPU by nature, or because their neighbours are; none computes with floats.
const std::unordered_set<std::string_view>& plumbing() {
  static const std::unordered_set<std::string_view> ops = {
      // constants, arguments, results
      "Const", "HostConst", "ImmutableConst", "FakeParam", "Placeholder", "PlaceholderV2",
      "PlaceholderWithDefault", "_Arg", "_Retval", "_DeviceArg", "_DeviceRetval",
      // variables and iterators
      "VarHandleOp", "ReadVariableOp", "AssignVariableOp", "VariableV2", "Assign",
      "IteratorGetNext", "IteratorGetNextSync",
      // aliases and questions about shapes
      "Identity", "IdentityN", "StopGradient", "PreventGradient", "EnsureShape", "Reshape",
      "ExpandDims", "Squeeze", "Shape", "ShapeN", "Size", "Rank", "NoOp",
      // control flow
      "Switch", "_SwitchN", "RefSwitch", "Merge", "RefMerge", "Enter", "RefEnter", "Exit",
      "RefExit", "NextIteration", "RefNextIteration", "LoopCond",
      // text for people
      "AsString", "Print", "PrintV2", "Assert", "WriteScalarSummary", "WriteHistogramSummary",
      "ScalarSummary", "HistogramSummary"};
  return ops;
}

bool is_counted_type(TF_DataType dtype) {
  return dtype == TF_FLOAT || dtype == TF_HALF || dtype == TF_BFLOAT16 || dtype == TF_COMPLEX64;
}

bool has_float_result(const NodeDef& node) {
  for (const char* name : {"DstT", "dtype", "T"}) {
    const AttrValue* value = node.find_attr(name);
    if (value && value->kind() == AttrValue::Kind::kType) return is_counted_type(value->as_type());
  }
  return false;
}

struct Totals {
  std::mutex mutex;
  std::map<std::string, int64_t> ops;
};
Totals& totals() {
  static Totals all;
  return all;
}

}  // namespace

std::map<std::string, int64_t> find_fallbacks(const GraphDef& graph, std::string_view device_type) {
  const auto on_device = [&](const NodeDef& n) { return device_type_of(n.device) == device_type; };
  std::map<std::string, int64_t> found;
  if (std::none_of(graph.nodes.begin(), graph.nodes.end(), on_device)) return found;
  for (const NodeDef& node : graph.nodes)
    if (device_type_of(node.device) == kCpu && !plumbing().contains(node.op) &&
        has_float_result(node))
      ++found[node.op];
  return found;
}

std::map<std::string, int64_t> fallback_ops() {
  const std::lock_guard lock(totals().mutex);
  return totals().ops;
}

void count_fallbacks(const std::map<std::string, int64_t>& found) {
  const std::lock_guard lock(totals().mutex);
  for (const auto& [op, count] : found) {
    totals().ops[op] += count;
    stats().fallbacks += count;
  }
}

void reset_fallbacks() {
  const std::lock_guard lock(totals().mutex);
  totals().ops.clear();
}

namespace {

const RuntimeCall kFallbacks("fallbacks",
                             "float ops that optimized graphs run on the CPU, with counts",
                             [](const json::Value&) {
                               json::Object ops;
                               for (const auto& [op, count] : fallback_ops()) {
                                 ops.emplace_back(op, count);
                               }
                               return json::Value(ops);
                             });

}  // namespace

}  // namespace tfmetal
