// Protocol buffer wire format, read and written by hand: the plugin links no protobuf.
//
// Source of the format: https://protobuf.dev/programming-guides/encoding. Readers take untrusted
// bytes: whatever is malformed throws InvalidArgument, nothing outside the given range is read,
// and what TensorFlow's own parser accepts is accepted.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tfmetal {

// Nested messages allowed, as in protobuf's own parsers; bounds recursion on hostile input.
inline constexpr int kMaxMessageDepth = 100;

enum class WireType {
  kVarint = 0,
  kFixed64 = 1,
  kBytes = 2,
  kGroup = 3,
  kEndGroup = 4,
  kFixed32 = 5
};

// Walks the fields of one message:
//   for (WireReader r(bytes); r.next();)
//     if (r.is(1, WireType::kBytes)) name = r.bytes();
// A field whose number or wire type the caller does not know is to be kept as raw().
class WireReader {
 public:
  explicit WireReader(std::string_view message) : rest_(message) {}

  bool next();

  int field() const { return field_; }
  WireType type() const { return type_; }
  bool is(int field, WireType type) const { return field_ == field && type_ == type; }

  // The value of the current field; the caller has checked its type with is().
  uint64_t varint() const { return value_; }
  std::string_view bytes() const { return bytes_; }
  float fixed_float() const;
  double fixed_double() const;
  // The field with its tag, as it came.
  std::string_view raw() const { return raw_; }

 private:
  std::string_view rest_, raw_, bytes_;
  uint64_t value_ = 0;
  int field_ = 0;
  WireType type_ = WireType::kVarint;
};

// Appends a repeated numeric field, packed or not; false when `r` is not at that field.
bool read_repeated(const WireReader& r, int field, std::vector<int64_t>& out);
bool read_repeated(const WireReader& r, int field, std::vector<uint64_t>& out);
bool read_repeated(const WireReader& r, int field, std::vector<float>& out);
bool read_repeated(const WireReader& r, int field, std::vector<double>& out);

class WireWriter {
 public:
  WireWriter& varint(int field, uint64_t value);
  WireWriter& fixed32(int field, float value);
  WireWriter& fixed64(int field, double value);
  WireWriter& bytes(int field, std::string_view value);  // strings and nested messages
  WireWriter& raw(std::string_view fields);              // what WireReader::raw() returned
  // Packed, as proto3 writes repeated numbers; nothing when empty.
  WireWriter& packed(int field, const std::vector<int64_t>& values);
  WireWriter& packed(int field, const std::vector<float>& values);

  const std::string& str() const { return out_; }
  std::string take() { return std::move(out_); }
  void reserve(size_t size) { out_.reserve(size); }

 private:
  void tag(int field, WireType type);
  void number(uint64_t value);
  std::string out_;
};

}  // namespace tfmetal
