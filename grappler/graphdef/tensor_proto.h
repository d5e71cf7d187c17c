// TensorShapeProto and TensorProto: constants and shapes inside graphs.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plugin/error.h"
#include "tensorflow/c/tf_datatype.h"

namespace tfmetal {

// A constant whose decoded values are larger is not looked into: a few bytes of a graph may
// describe ("all zeros") a tensor of any size.
inline constexpr size_t kMaxTensorBytes = size_t(256) << 20;

// The type with that number in types.proto; 0 (invalid) for one that this C API has no name for,
// such as a reference type, since an enum cannot hold it.
inline TF_DataType data_type(uint64_t number) {
  constexpr uint64_t kLargest = TF_UINT4;  // in the oldest headers supported
  return number <= kLargest ? TF_DataType(number) : TF_DataType(0);
}

struct PartialShape {
  bool unknown_rank = false;
  std::vector<int64_t> dims;  // -1: unknown

  bool fully_defined() const { return elements().has_value(); }
  // Nothing when unknown, or beyond int64.
  std::optional<int64_t> elements() const;

  static PartialShape parse(std::string_view bytes);
  std::string serialized() const;
  friend bool operator==(const PartialShape&, const PartialShape&) = default;
};

class TensorProto {
 public:
  TensorProto() = default;
  // Reads type and shape; values are decoded on demand. Throws InvalidArgument if malformed.
  static TensorProto parse(std::string_view bytes);
  // parse() without keeping anything.
  static void check(std::string_view bytes);
  // `content`: elements in row-major order, little-endian.
  static TensorProto make(TF_DataType dtype, const std::vector<int64_t>& dims,
                          std::string_view content);

  TF_DataType dtype() const { return dtype_; }
  const PartialShape& shape() const { return shape_; }
  const std::string& serialized() const { return bytes_; }

  // All elements, row-major, little-endian, as TensorFlow would decode them: missing values repeat
  // the last one given, or are zero. Throws InvalidArgument for a type without fixed size
  // (string, resource, variant), an unknown shape, or content that does not fit the shape;
  // ResourceExhausted above `max_bytes`.
  std::string data(size_t max_bytes = kMaxTensorBytes) const;

  // The elements converted. ints(): integer types and bool; doubles(): these and float, double,
  // half and bfloat16; strings(): DT_STRING. Other types throw InvalidArgument.
  std::vector<int64_t> ints() const;
  std::vector<double> doubles() const;
  std::vector<std::string> strings() const;

 private:
  std::string bytes_;
  TF_DataType dtype_ = TF_DataType(0);
  PartialShape shape_;
};

}  // namespace tfmetal
