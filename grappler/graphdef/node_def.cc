#include "grappler/graphdef/node_def.h"

#include <algorithm>

#include "grappler/graphdef/wire.h"

namespace tfmetal {
namespace {

// Field numbers of tensorflow/core/framework/node_def.proto.
enum Field { kName = 1, kOp = 2, kInput = 3, kDevice = 4, kAttr = 5 };

}  // namespace

NodeDef NodeDef::parse(std::string_view bytes) {
  NodeDef node;
  for (WireReader r(bytes); r.next();) {
    const int field = r.type() == WireType::kBytes ? r.field() : 0;
    switch (field) {
      case kName:
        node.name = r.bytes();
        break;
      case kOp:
        node.op = r.bytes();
        break;
      case kInput:
        node.inputs.emplace_back(r.bytes());
        break;
      case kDevice:
        node.device = r.bytes();
        break;
      case kAttr:
        parse_attribute(r.bytes(), 1, node.attrs_);
        break;
      default:
        node.unknown_ += r.raw();
    }
  }
  return node;
}

std::string NodeDef::serialized() const {
  WireWriter out;
  if (!name.empty()) out.bytes(kName, name);
  if (!op.empty()) out.bytes(kOp, op);
  for (const std::string& input : inputs) out.bytes(kInput, input);
  if (!device.empty()) out.bytes(kDevice, device);
  for (const Attribute& attr : attrs_) out.bytes(kAttr, serialize_attribute(attr));
  out.raw(unknown_);
  return out.take();
}

const AttrValue* NodeDef::find_attr(std::string_view name) const {
  for (const Attribute& attr : attrs_)
    if (attr.first == name) return &attr.second;
  return nullptr;
}

const AttrValue& NodeDef::attr(std::string_view attr_name) const {
  if (const AttrValue* found = find_attr(attr_name)) return *found;
  throw_invalid_argument(op, " node '", name, "' has no attribute '", attr_name, "'");
}

void NodeDef::set_attr(std::string_view name, AttrValue value) {
  for (Attribute& attr : attrs_) {
    if (attr.first != name) continue;
    attr.second = std::move(value);
    return;
  }
  attrs_.emplace_back(name, std::move(value));
}

bool NodeDef::remove_attr(std::string_view name) {
  return std::erase_if(attrs_, [&](const Attribute& attr) { return attr.first == name; }) > 0;
}

template <class T>
T NodeDef::decoded(std::string_view attr_name, T (AttrValue::*decode)() const,
                   std::optional<T> missing) const {
  const AttrValue* found = find_attr(attr_name);
  if (!found && missing) return *std::move(missing);
  const AttrValue& value = found ? *found : attr(attr_name);
  try {
    return (value.*decode)();
  } catch (const Error& error) {
    throw Error(error.code,
                concat(op, " node '", name, "', attribute '", attr_name, "': ", error.what()));
  }
}

bool NodeDef::attr_bool(std::string_view name, std::optional<bool> missing) const {
  return decoded(name, &AttrValue::as_bool, missing);
}
int64_t NodeDef::attr_int(std::string_view name, std::optional<int64_t> missing) const {
  return decoded(name, &AttrValue::as_int, missing);
}
float NodeDef::attr_float(std::string_view name, std::optional<float> missing) const {
  return decoded(name, &AttrValue::as_float, missing);
}
std::string NodeDef::attr_string(std::string_view name, std::optional<std::string> missing) const {
  return decoded(name, &AttrValue::as_string, std::move(missing));
}
TF_DataType NodeDef::attr_type(std::string_view name, std::optional<TF_DataType> missing) const {
  return decoded(name, &AttrValue::as_type, missing);
}
PartialShape NodeDef::attr_shape(std::string_view name, std::optional<PartialShape> missing) const {
  return decoded(name, &AttrValue::as_shape, std::move(missing));
}
TensorProto NodeDef::attr_tensor(std::string_view name) const {
  return decoded(name, &AttrValue::as_tensor, {});
}
AttrFunc NodeDef::attr_func(std::string_view name) const {
  return decoded(name, &AttrValue::as_func, {});
}
std::vector<bool> NodeDef::attr_bools(std::string_view name,
                                      std::optional<List<bool>> missing) const {
  return decoded(name, &AttrValue::as_bools, std::move(missing));
}
std::vector<int64_t> NodeDef::attr_ints(std::string_view name,
                                        std::optional<List<int64_t>> missing) const {
  return decoded(name, &AttrValue::as_ints, std::move(missing));
}
std::vector<float> NodeDef::attr_floats(std::string_view name,
                                        std::optional<List<float>> missing) const {
  return decoded(name, &AttrValue::as_floats, std::move(missing));
}
std::vector<std::string> NodeDef::attr_strings(std::string_view name,
                                               std::optional<List<std::string>> missing) const {
  return decoded(name, &AttrValue::as_strings, std::move(missing));
}
std::vector<TF_DataType> NodeDef::attr_types(std::string_view name,
                                             std::optional<List<TF_DataType>> missing) const {
  return decoded(name, &AttrValue::as_types, std::move(missing));
}
std::vector<PartialShape> NodeDef::attr_shapes(std::string_view name,
                                               std::optional<List<PartialShape>> missing) const {
  return decoded(name, &AttrValue::as_shapes, std::move(missing));
}

std::string canonical_attributes(const NodeDef& node) {
  std::vector<const Attribute*> attrs;
  for (const Attribute& attr : node.attrs())
    if (!attr.first.starts_with('_')) attrs.push_back(&attr);
  std::sort(attrs.begin(), attrs.end(),
            [](const Attribute* a, const Attribute* b) { return a->first < b->first; });
  WireWriter out;
  for (const Attribute* attr : attrs) out.bytes(1, attr->first).bytes(2, canonical(attr->second));
  return out.take();
}

}  // namespace tfmetal
