// AttrValue: the value of one attribute of a node.
//
// The value is kept as the bytes it came in and decoded when asked: an untouched attribute goes
// out as it came in, whatever a newer TensorFlow put into it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grappler/graphdef/tensor_proto.h"
#include "tensorflow/c/tf_datatype.h"

namespace tfmetal {

struct AttrFunc;

class AttrValue {
 public:
  // The field numbers of tensorflow/core/framework/attr_value.proto; kNone: empty, or a kind that
  // is not known here.
  enum class Kind {
    kNone = 0,
    kList = 1,
    kString = 2,
    kInt = 3,
    kFloat = 4,
    kBool = 5,
    kType = 6,
    kShape = 7,
    kTensor = 8,
    kPlaceholder = 9,
    kFunc = 10,
  };

  AttrValue() = default;
  // Checks all of the message but the values of tensors. Throws InvalidArgument if malformed.
  // `depth`: of messages around it.
  static AttrValue parse(std::string_view bytes, int depth = 0);

  static AttrValue of_string(std::string_view value);
  static AttrValue of_int(int64_t value);
  static AttrValue of_float(float value);
  static AttrValue of_bool(bool value);
  static AttrValue of_type(TF_DataType value);
  static AttrValue of_shape(const PartialShape& value);
  static AttrValue of_tensor(const TensorProto& value);
  static AttrValue of_func(const AttrFunc& value);
  static AttrValue of_ints(const std::vector<int64_t>& values);
  static AttrValue of_floats(const std::vector<float>& values);
  static AttrValue of_types(const std::vector<TF_DataType>& values);
  static AttrValue of_strings(const std::vector<std::string>& values);
  static AttrValue of_shapes(const std::vector<PartialShape>& values);

  Kind kind() const { return kind_; }
  // A serialized tensorflow.AttrValue, as TF_SetAttrValueProto takes it.
  const std::string& serialized() const { return bytes_; }

  // Throw InvalidArgument when the value is of another kind. An empty list is a list of any kind;
  // lists of another element kind throw.
  std::string as_string() const;
  int64_t as_int() const;
  float as_float() const;
  bool as_bool() const;
  TF_DataType as_type() const;
  PartialShape as_shape() const;
  TensorProto as_tensor() const;
  AttrFunc as_func() const;
  std::string as_placeholder() const;
  std::vector<std::string> as_strings() const;
  std::vector<int64_t> as_ints() const;
  std::vector<float> as_floats() const;
  std::vector<bool> as_bools() const;
  std::vector<TF_DataType> as_types() const;
  std::vector<PartialShape> as_shapes() const;
  std::vector<TensorProto> as_tensors() const;
  std::vector<AttrFunc> as_funcs() const;

  // The kind of a list's elements; kNone when the list is empty.
  Kind element_kind() const;

  friend bool operator==(const AttrValue&, const AttrValue&) = default;

 private:
  std::string payload(Kind kind) const;            // of a length-delimited kind
  uint64_t number(Kind kind) const;                // of a varint kind
  std::vector<std::string> list(Kind kind) const;  // elements of a length-delimited kind
  std::vector<int64_t> numbers(Kind kind) const;   // elements of a varint kind
  void expect(Kind kind) const;
  void expect_list(Kind kind) const;

  std::string bytes_;
  Kind kind_ = Kind::kNone;
};

// For messages: "a bool", "a list".
const char* kind_name(AttrValue::Kind kind);

using Attribute = std::pair<std::string, AttrValue>;

// NameAttrList: a function and the attributes to instantiate it with, in the order they came.
struct AttrFunc {
  std::string name;
  std::vector<Attribute> attrs;

  static AttrFunc parse(std::string_view bytes, int depth = 0);
  std::string serialized() const;
};

// Map entries (key 1, value 2) of a map<string, AttrValue>, shared by NodeDef and NameAttrList.
// A key that comes twice keeps the last value, in the first one's place.
void parse_attribute(std::string_view entry, int depth, std::vector<Attribute>& into);
std::string serialize_attribute(const Attribute& attribute);

// The same bytes for equal values: attributes of functions sorted by name.
std::string canonical(const AttrValue& value);

}  // namespace tfmetal
