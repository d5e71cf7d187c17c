#include "kernels/op_def.h"

#include <map>
#include <mutex>

#include "grappler/graphdef/wire.h"
#include "plugin/error.h"
#include "plugin/tf_api.h"

namespace tfmetal {

namespace {

// Field numbers of tensorflow/core/framework/op_def.proto.
constexpr int kOpName = 1, kOpInput = 2, kOpOutput = 3, kOpAttr = 4, kOpStateful = 17;
constexpr int kArgName = 1, kArgType = 3, kArgTypeAttr = 4, kArgNumberAttr = 5,
              kArgTypeListAttr = 6;
constexpr int kAttrName = 1, kAttrAllowedValues = 7;

ArgDef parse_arg(std::string_view bytes) {
  ArgDef arg;
  for (WireReader r(bytes); r.next();) {
    if (r.is(kArgName, WireType::kBytes)) arg.name = r.bytes();
    if (r.is(kArgType, WireType::kVarint)) arg.type = data_type(r.varint());
    if (r.is(kArgTypeAttr, WireType::kBytes)) arg.type_attr = r.bytes();
    if (r.is(kArgNumberAttr, WireType::kBytes)) arg.number_attr = r.bytes();
    if (r.is(kArgTypeListAttr, WireType::kBytes)) arg.type_list_attr = r.bytes();
  }
  return arg;
}

void parse_attr(std::string_view bytes, OpDef* def) {
  std::string name;
  AttrValue allowed;
  for (WireReader r(bytes); r.next();) {
    if (r.is(kAttrName, WireType::kBytes)) name = r.bytes();
    if (r.is(kAttrAllowedValues, WireType::kBytes)) allowed = AttrValue::parse(r.bytes());
  }
  if (allowed.kind() == AttrValue::Kind::kList &&
      allowed.element_kind() == AttrValue::Kind::kType) {
    def->allowed_types[name] = allowed.as_types();
  }
}

OpDef parse(std::string_view bytes) {
  OpDef def;
  for (WireReader r(bytes); r.next();) {
    if (r.is(kOpName, WireType::kBytes)) def.name = r.bytes();
    if (r.is(kOpInput, WireType::kBytes)) def.inputs.push_back(parse_arg(r.bytes()));
    if (r.is(kOpOutput, WireType::kBytes)) def.outputs.push_back(parse_arg(r.bytes()));
    if (r.is(kOpAttr, WireType::kBytes)) parse_attr(r.bytes(), &def);
    if (r.is(kOpStateful, WireType::kVarint)) def.stateful = r.varint() != 0;
  }
  return def;
}

std::vector<TF_DataType> types(const std::vector<ArgDef>& args, const NodeDef& node) {
  std::vector<TF_DataType> out;
  for (const ArgDef& arg : args) {
    if (!arg.type_list_attr.empty()) {
      const std::vector<TF_DataType> list = node.attr_types(arg.type_list_attr);
      out.insert(out.end(), list.begin(), list.end());
    } else {
      const TF_DataType type = arg.type_attr.empty() ? arg.type : node.attr_type(arg.type_attr);
      out.insert(out.end(), arg_length(arg, node), type);
    }
  }
  return out;
}

OpDef read_from_tensorflow(const std::string& op) {
  TF_Graph* graph = tf.TF_NewGraph();
  TF_Buffer* buffer = tf.TF_NewBuffer();
  Status status;
  tf.TF_GraphGetOpDef(graph, op.c_str(), buffer, status);
  OpDef def;
  if (status.ok()) {
    def = parse({static_cast<const char*>(buffer->data), buffer->length});
  }
  tf.TF_DeleteBuffer(buffer);
  tf.TF_DeleteGraph(graph);
  status.check();
  return def;
}

}  // namespace

const OpDef& op_def(const std::string& op) {
  static std::mutex mutex;
  static auto* const known = new std::map<std::string, OpDef>();
  std::lock_guard lock(mutex);
  auto it = known->find(op);
  if (it == known->end()) it = known->emplace(op, read_from_tensorflow(op)).first;
  return it->second;
}

size_t arg_length(const ArgDef& arg, const NodeDef& node) {
  if (!arg.number_attr.empty()) return static_cast<size_t>(node.attr_int(arg.number_attr));
  if (!arg.type_list_attr.empty()) return node.attr_types(arg.type_list_attr).size();
  return 1;
}

std::vector<std::string> input_names(const NodeDef& node) {
  std::vector<std::string> names;
  for (const ArgDef& arg : op_def(node.op).inputs) {
    names.insert(names.end(), arg_length(arg, node), arg.name);
  }
  return names;
}

size_t output_count(const NodeDef& node) {
  size_t count = 0;
  for (const ArgDef& arg : op_def(node.op).outputs) count += arg_length(arg, node);
  return count;
}

std::vector<TF_DataType> input_types(const NodeDef& node) {
  return types(op_def(node.op).inputs, node);
}

std::vector<TF_DataType> output_types(const NodeDef& node) {
  return types(op_def(node.op).outputs, node);
}

}  // namespace tfmetal
