// Definitions of the few ops that graph tests use, for programs that link no TensorFlow.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "grappler/graphdef/node_def.h"
#include "grappler/graphdef/wire.h"
#include "kernels/op_table.h"
#include "plugin/tf_api.h"

using namespace tfmetal;

inline constexpr char kGpu[] = "/job:localhost/replica:0/task:0/device:GPU:0";

// (name, type attribute) of inputs and outputs; "*" marks a list of T with its length's attribute.
struct Definition {
  std::vector<std::pair<std::string, std::string>> inputs, outputs;
};
inline const std::map<std::string, Definition> kDefinitions = {
    {"Relu", {{{"features", "T"}}, {{"activations", "T"}}}},
    {"AddV2", {{{"x", "T"}, {"y", "T"}}, {{"z", "T"}}}},
    {"Exp", {{{"x", "T"}}, {{"y", "T"}}}},
    {"MatMul", {{{"a", "T"}, {"b", "T"}}, {{"product", "T"}}}},
    {"Sum", {{{"input", "T"}, {"reduction_indices", "Tidx"}}, {{"output", "T"}}}},
    {"Unpack", {{{"value", "T"}}, {{"output", "*num"}}}},
};
// A node of float32 on the device.
inline NodeDef make(const std::string& name, const std::string& op,
                    std::vector<std::string> inputs = {}) {
  NodeDef node;
  node.name = name;
  node.op = op;
  node.device = kGpu;
  node.inputs = std::move(inputs);
  node.set_attr("T", AttrValue::of_type(TF_FLOAT));
  return node;
}

inline TF_Code last_code;

inline std::string serialized(const std::string& op, const Definition& definition) {
  const auto arg = [](const std::pair<std::string, std::string>& spec) {
    WireWriter out;
    out.bytes(1, spec.first);
    if (spec.second.starts_with('*'))
      out.bytes(4, "T").bytes(5, spec.second.substr(1));
    else
      out.bytes(4, spec.second);
    return out.take();
  };
  WireWriter out;
  out.bytes(1, op);
  for (const auto& spec : definition.inputs) out.bytes(2, arg(spec));
  for (const auto& spec : definition.outputs) out.bytes(3, arg(spec));
  return out.take();
}

inline void stand_in_for_tensorflow() {
  if (registered_rows().empty())
    for (const OpRow& row : op_table()) registered_rows().push_back({&row, row.types});
  tf.TF_NewStatus = +[]() -> TF_Status* { return nullptr; };
  tf.TF_DeleteStatus = +[](TF_Status*) {};
  tf.TF_GetCode = +[](const TF_Status*) { return last_code; };
  tf.TF_Message = +[](const TF_Status*) { return "no such op"; };
  tf.TF_NewGraph = +[]() -> TF_Graph* { return nullptr; };
  tf.TF_DeleteGraph = +[](TF_Graph*) {};
  tf.TF_NewBuffer = +[]() { return new TF_Buffer{}; };
  tf.TF_DeleteBuffer = +[](TF_Buffer* buffer) { delete buffer; };
  tf.TF_GraphGetOpDef = +[](TF_Graph*, const char* op, TF_Buffer* out, TF_Status*) {
    static auto* const bytes = new std::map<std::string, std::string>();
    const auto found = kDefinitions.find(op);
    last_code = found == kDefinitions.end() ? TF_NOT_FOUND : TF_OK;
    if (last_code != TF_OK) return;
    std::string& text = (*bytes)[op] = serialized(op, found->second);
    out->data = text.data();
    out->length = text.size();
  };
}
