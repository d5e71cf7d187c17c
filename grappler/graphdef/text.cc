// Graphs as text (graph_def.h).
#include <algorithm>
#include <functional>
#include <sstream>

#include "grappler/graphdef/graph_def.h"

namespace tfmetal {
namespace {

using Kind = AttrValue::Kind;

constexpr size_t kShownElements = 16;  // of a constant
constexpr size_t kShownText = 80;      // bytes of a string

std::string quoted(std::string_view text) {
  std::ostringstream out;
  out << '"';
  for (const char c : text.substr(0, kShownText)) {
    if (c == '"' || c == '\\')
      out << '\\' << c;
    else if (c >= ' ' && c < 127)
      out << c;
    else
      out << "\\x" << "0123456789abcdef"[uint8_t(c) >> 4] << "0123456789abcdef"[c & 15];
  }
  out << (text.size() > kShownText ? "\"..." : "\"");
  return out.str();
}

template <class List, class Show>
std::string joined(const List& list, Show show, const char* open, const char* close) {
  std::ostringstream out;
  out << open;
  const char* comma = "";
  for (const auto& item : list) {
    out << comma << show(item);
    comma = ", ";
  }
  out << close;
  return out.str();
}

const auto as_is = [](const auto& value) { return value; };

std::string shape_text(const PartialShape& shape) {
  return shape.unknown_rank ? "[?]" : joined(shape.dims, as_is, "[", "]");
}

std::string tensor_text(const TensorProto& tensor) {
  const std::string head = type_name(tensor.dtype()) + shape_text(tensor.shape());
  const std::optional<int64_t> elements = tensor.shape().elements();
  if (!elements || size_t(*elements) > kShownElements) return head;
  try {
    if (tensor.dtype() == TF_STRING) return head + joined(tensor.strings(), quoted, "{", "}");
    return head + joined(tensor.doubles(), as_is, "{", "}");
  } catch (const Error&) {  // a type without a textual form
    return head;
  }
}

std::string attributes_text(std::vector<Attribute> attrs) {
  std::sort(attrs.begin(), attrs.end(),
            [](const Attribute& a, const Attribute& b) { return a.first < b.first; });
  return joined(
      attrs, [](const Attribute& attr) { return attr.first + "=" + to_text(attr.second); }, "{",
      "}");
}

std::string func_text(const AttrFunc& func) { return func.name + attributes_text(func.attrs); }

std::string list_text(const AttrValue& value) {
  switch (value.element_kind()) {
    case Kind::kString:
      return joined(value.as_strings(), quoted, "[", "]");
    case Kind::kInt:
      return joined(value.as_ints(), as_is, "[", "]");
    case Kind::kFloat:
      return joined(value.as_floats(), as_is, "[", "]");
    case Kind::kBool:
      return joined(value.as_bools(), [](bool b) { return b ? "true" : "false"; }, "[", "]");
    case Kind::kType:
      return joined(value.as_types(), type_name, "[", "]");
    case Kind::kShape:
      return joined(value.as_shapes(), shape_text, "[", "]");
    case Kind::kTensor:
      return joined(value.as_tensors(), tensor_text, "[", "]");
    case Kind::kFunc:
      return joined(value.as_funcs(), func_text, "[", "]");
    default:
      return "[]";
  }
}

}  // namespace

std::string type_name(TF_DataType dtype) {
  // By the numbers of tensorflow/core/framework/types.proto.
  static constexpr const char* kNames[] = {
      nullptr,    "float",     "double",  "int32",       "uint8",        "int16",  "int8",
      "string",   "complex64", "int64",   "bool",        "qint8",        "quint8", "qint32",
      "bfloat16", "qint16",    "quint16", "uint16",      "complex128",   "half",   "resource",
      "variant",  "uint32",    "uint64",  "float8_e5m2", "float8_e4m3fn"};
  const size_t index = size_t(dtype);
  if (index < std::size(kNames) && kNames[index]) return kNames[index];
  return concat("type ", int(dtype));
}

std::string to_text(const AttrValue& value) {
  switch (value.kind()) {
    case Kind::kString:
      return quoted(value.as_string());
    case Kind::kInt:
      return concat(value.as_int());
    case Kind::kFloat:
      return concat(value.as_float());
    case Kind::kBool:
      return value.as_bool() ? "true" : "false";
    case Kind::kType:
      return type_name(value.as_type());
    case Kind::kShape:
      return shape_text(value.as_shape());
    case Kind::kTensor:
      return tensor_text(value.as_tensor());
    case Kind::kPlaceholder:
      return "$" + value.as_placeholder();
    case Kind::kFunc:
      return func_text(value.as_func());
    case Kind::kList:
      return list_text(value);
    default:
      return "none";
  }
}

std::string to_text(const NodeDef& node) {
  const std::string device = node.device.empty() ? "" : " @" + node.device;
  return node.name + " = " + node.op + joined(node.inputs, as_is, "(", ")") + device + " " +
         attributes_text(node.attrs());
}

std::string to_text(const GraphDef& graph) {
  std::string out;
  for (const NodeDef& node : graph.nodes) out += to_text(node) + "\n";
  return out;
}

}  // namespace tfmetal
