#include "grappler/graphdef/wire.h"

#include <bit>
#include <cstring>

#include "plugin/error.h"

namespace tfmetal {
namespace {

static_assert(std::endian::native == std::endian::little, "fixed fields are copied as they are");

constexpr int kMaxVarintBytes = 10;

uint64_t take_varint(std::string_view& in) {
  uint64_t value = 0;
  for (int i = 0; i < kMaxVarintBytes; ++i) {
    if (size_t(i) >= in.size()) throw_invalid_argument("Protocol buffer ends inside a number");
    const uint8_t byte = in[i];
    value |= uint64_t(byte & 127) << (7 * i);
    if (byte < 128) {
      in.remove_prefix(i + 1);
      return value;
    }
  }
  throw_invalid_argument("Protocol buffer has a number of more than ", kMaxVarintBytes, " bytes");
}

std::string_view take_bytes(std::string_view& in, uint64_t size) {
  if (size > in.size())
    throw_invalid_argument("Protocol buffer field of ", size, " bytes, but ", in.size(),
                           " are left");
  const std::string_view out = in.substr(0, size);
  in.remove_prefix(size);
  return out;
}

template <class T>
T load(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

// Steps over the fields of an (obsolete) group up to its end tag.
void skip_group(std::string_view& in, int field) {
  std::vector<int> open{field};
  while (!open.empty()) {
    const uint64_t tag = take_varint(in);
    const int number = int(tag >> 3);
    switch (WireType(tag & 7)) {
      case WireType::kVarint:
        take_varint(in);
        break;
      case WireType::kFixed64:
        take_bytes(in, 8);
        break;
      case WireType::kBytes:
        take_bytes(in, take_varint(in));
        break;
      case WireType::kGroup:
        if (open.size() >= kMaxMessageDepth)
          throw_invalid_argument("Protocol buffer groups nest too deeply");
        open.push_back(number);
        break;
      case WireType::kEndGroup:
        if (open.back() != number) throw_invalid_argument("Protocol buffer group ends wrongly");
        open.pop_back();
        break;
      case WireType::kFixed32:
        take_bytes(in, 4);
        break;
      default:
        throw_invalid_argument("Protocol buffer field of unknown wire type ", tag & 7);
    }
  }
}

template <class T>
bool read_varints(const WireReader& r, int field, std::vector<T>& out) {
  if (r.is(field, WireType::kVarint)) {
    out.push_back(T(r.varint()));
    return true;
  }
  if (!r.is(field, WireType::kBytes)) return false;
  for (std::string_view rest = r.bytes(); !rest.empty();) out.push_back(T(take_varint(rest)));
  return true;
}

template <class T>
bool read_fixed(const WireReader& r, int field, WireType type, std::vector<T>& out) {
  const bool packed = r.is(field, WireType::kBytes);
  if (!packed && !r.is(field, type)) return false;
  const std::string_view bytes = r.bytes();
  if (bytes.size() % sizeof(T)) throw_invalid_argument("Protocol buffer has half a number");
  for (size_t i = 0; i < bytes.size(); i += sizeof(T)) out.push_back(load<T>(bytes.substr(i)));
  return true;
}

}  // namespace

bool WireReader::next() {
  if (rest_.empty()) return false;
  const std::string_view start = rest_;
  const uint64_t tag = take_varint(rest_);
  if (tag > UINT32_MAX || tag >> 3 == 0)
    throw_invalid_argument("Protocol buffer has an illegal tag ", tag);
  field_ = int(tag >> 3);
  type_ = WireType(tag & 7);
  bytes_ = {};
  value_ = 0;
  switch (type_) {
    case WireType::kVarint:
      value_ = take_varint(rest_);
      break;
    case WireType::kFixed64:
      bytes_ = take_bytes(rest_, 8);
      break;
    case WireType::kBytes:
      bytes_ = take_bytes(rest_, take_varint(rest_));
      break;
    case WireType::kGroup:
      skip_group(rest_, field_);
      break;
    case WireType::kFixed32:
      bytes_ = take_bytes(rest_, 4);
      break;
    default:
      throw_invalid_argument("Protocol buffer field ", field_, " of unknown wire type ", tag & 7);
  }
  raw_ = start.substr(0, start.size() - rest_.size());
  return true;
}

float WireReader::fixed_float() const { return load<float>(bytes_); }
double WireReader::fixed_double() const { return load<double>(bytes_); }

bool read_repeated(const WireReader& r, int field, std::vector<int64_t>& out) {
  return read_varints(r, field, out);
}
bool read_repeated(const WireReader& r, int field, std::vector<uint64_t>& out) {
  return read_varints(r, field, out);
}
bool read_repeated(const WireReader& r, int field, std::vector<float>& out) {
  return read_fixed(r, field, WireType::kFixed32, out);
}
bool read_repeated(const WireReader& r, int field, std::vector<double>& out) {
  return read_fixed(r, field, WireType::kFixed64, out);
}

void WireWriter::number(uint64_t value) {
  for (; value >= 128; value >>= 7) out_.push_back(char(value | 128));
  out_.push_back(char(value));
}

void WireWriter::tag(int field, WireType type) { number(uint64_t(field) << 3 | uint64_t(type)); }

WireWriter& WireWriter::varint(int field, uint64_t value) {
  tag(field, WireType::kVarint);
  number(value);
  return *this;
}

WireWriter& WireWriter::fixed32(int field, float value) {
  tag(field, WireType::kFixed32);
  out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  return *this;
}

WireWriter& WireWriter::fixed64(int field, double value) {
  tag(field, WireType::kFixed64);
  out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  return *this;
}

WireWriter& WireWriter::bytes(int field, std::string_view value) {
  tag(field, WireType::kBytes);
  number(value.size());
  out_.append(value);
  return *this;
}

WireWriter& WireWriter::raw(std::string_view fields) {
  out_.append(fields);
  return *this;
}

WireWriter& WireWriter::packed(int field, const std::vector<int64_t>& values) {
  if (values.empty()) return *this;
  WireWriter payload;
  for (const int64_t value : values) payload.number(uint64_t(value));
  return bytes(field, payload.str());
}

WireWriter& WireWriter::packed(int field, const std::vector<float>& values) {
  if (values.empty()) return *this;
  return bytes(field,
               {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
}

}  // namespace tfmetal
