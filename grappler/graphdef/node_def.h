// NodeDef: one node of a graph, decoded. Parsing and serializing what TensorFlow serialized gives
// the same bytes, unknown fields included.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "grappler/graphdef/attr_value.h"

namespace tfmetal {

class NodeDef {
 public:
  // Throws InvalidArgument if malformed.
  static NodeDef parse(std::string_view bytes);
  std::string serialized() const;

  std::string name, op, device;
  std::vector<std::string> inputs;  // "node", "node:1" or, for control inputs, "^node"

  // Attributes, in the order in which they came.
  const std::vector<Attribute>& attrs() const { return attrs_; }
  bool has_attr(std::string_view name) const { return find_attr(name) != nullptr; }
  const AttrValue* find_attr(std::string_view name) const;
  // Throws InvalidArgument, naming node and attribute, when it is missing.
  const AttrValue& attr(std::string_view name) const;
  void set_attr(std::string_view name, AttrValue value);  // replaces or appends
  bool remove_attr(std::string_view name);

  // The attribute's value, decoded. Missing: the default if one is given, else InvalidArgument;
  // of another kind: InvalidArgument, naming node and attribute.
  bool attr_bool(std::string_view name, std::optional<bool> missing = {}) const;
  int64_t attr_int(std::string_view name, std::optional<int64_t> missing = {}) const;
  float attr_float(std::string_view name, std::optional<float> missing = {}) const;
  std::string attr_string(std::string_view name, std::optional<std::string> missing = {}) const;
  TF_DataType attr_type(std::string_view name, std::optional<TF_DataType> missing = {}) const;
  PartialShape attr_shape(std::string_view name, std::optional<PartialShape> missing = {}) const;
  TensorProto attr_tensor(std::string_view name) const;
  AttrFunc attr_func(std::string_view name) const;

  template <class T>
  using List = std::vector<T>;
  List<bool> attr_bools(std::string_view name, std::optional<List<bool>> missing = {}) const;
  List<int64_t> attr_ints(std::string_view name, std::optional<List<int64_t>> missing = {}) const;
  List<float> attr_floats(std::string_view name, std::optional<List<float>> missing = {}) const;
  List<std::string> attr_strings(std::string_view name,
                                 std::optional<List<std::string>> missing = {}) const;
  List<TF_DataType> attr_types(std::string_view name,
                               std::optional<List<TF_DataType>> missing = {}) const;
  List<PartialShape> attr_shapes(std::string_view name,
                                 std::optional<List<PartialShape>> missing = {}) const;

 private:
  template <class T>
  T decoded(std::string_view name, T (AttrValue::*decode)() const, std::optional<T> missing) const;

  std::vector<Attribute> attrs_;
  std::string unknown_;  // debug information, full type, and what later versions add
};

// All attributes but those whose name starts with '_', sorted by name: equal attributes give equal
// bytes in whatever order TensorFlow wrote them.
std::string canonical_attributes(const NodeDef& node);

}  // namespace tfmetal
