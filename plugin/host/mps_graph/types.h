// Element types of tensors on the host: 16-bit floats and their conversion, run-time dispatch.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "plugin/host/host.h"
#include "plugin/metal/mps.h"

namespace host {

using mps::DataType;
using mps::size_of;
using Shape = std::vector<long>;

struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};
struct Complex {
  float re, im;
};

inline constexpr uint32_t kCanonicalNan = 0x7fc00000;  // what GPU arithmetic answers

// Branch-free, so that loops over them vectorise; right with denormals flushed, too.
inline float to_float(float x) { return x; }
inline float to_float(BFloat x) { return std::bit_cast<float>(uint32_t(x.bits) << 16); }
inline float to_float(Half x) {
  constexpr uint32_t kExponent = 0x0f800000;  // the exponent field of a half, moved to float32
  const uint32_t magnitude = uint32_t(x.bits & 0x7fff) << 13;
  const uint32_t exponent = magnitude & kExponent;
  const uint32_t normal = magnitude + (112u << 23);
  // Denormal: let the hardware normalise 2^-14 * (1 + m) - 2^-14.
  const float denormal =
      std::bit_cast<float>(magnitude + (113u << 23)) - std::bit_cast<float>(113u << 23);
  uint32_t bits = exponent == kExponent ? normal + (112u << 23) : normal;
  bits = exponent == 0 ? std::bit_cast<uint32_t>(denormal) : bits;
  return std::bit_cast<float>(bits | uint32_t(x.bits & 0x8000) << 16);
}

// Rounds to nearest even; a NaN becomes the canonical one.
inline void from_float(float x, float& out) { out = x; }
inline void from_float(float x, BFloat& out) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  out.bits = uint16_t((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}
inline void from_float(float x, Half& out) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), magnitude = bits & 0x7fffffff;
  const uint32_t special = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
  // Denormal result: adding 0.5 leaves the rounded mantissa in the low bits.
  const uint32_t small =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (magnitude + 0xc8000fffu + (magnitude >> 13 & 1)) >> 13;
  uint32_t half = magnitude < 0x38800000 ? small : normal;
  half = magnitude >= 0x47800000 ? special : half;
  const uint32_t sign = magnitude > 0x7f800000 ? 0 : bits >> 16 & 0x8000;
  out.bits = uint16_t(half | sign);
}

template <class T>
struct TypeOf {
  using type = T;
};

// Calls f(TypeOf<T>()) for the C++ type of `type`. Bool is uint8_t holding 0 or 1.
template <class F>
decltype(auto) dispatch(DataType type, F&& f) {
  switch (type) {
    case DataType::Float32:
      return f(TypeOf<float>());
    case DataType::Float16:
      return f(TypeOf<Half>());
    case DataType::BFloat16:
      return f(TypeOf<BFloat>());
    case DataType::ComplexFloat32:
      return f(TypeOf<Complex>());
    case DataType::Int8:
      return f(TypeOf<int8_t>());
    case DataType::Int16:
      return f(TypeOf<int16_t>());
    case DataType::Int32:
      return f(TypeOf<int32_t>());
    case DataType::Int64:
      return f(TypeOf<int64_t>());
    case DataType::UInt8:
    case DataType::Bool:
      return f(TypeOf<uint8_t>());
    case DataType::UInt16:
      return f(TypeOf<uint16_t>());
    case DataType::UInt32:
      return f(TypeOf<uint32_t>());
    case DataType::UInt64:
      return f(TypeOf<uint64_t>());
    default:
      abort_like_apple("unsupported MPSDataType " + std::to_string(uint32_t(type)));
  }
}

// The same by element size only, for operations that move bits: uint8_t ... uint64_t.
template <class F>
decltype(auto) dispatch_bits(DataType type, F&& f) {
  switch (size_of(type)) {
    case 1:
      return f(TypeOf<uint8_t>());
    case 2:
      return f(TypeOf<uint16_t>());
    case 4:
      return f(TypeOf<uint32_t>());
    case 8:
      return f(TypeOf<uint64_t>());
    default:
      abort_like_apple("unsupported MPSDataType " + std::to_string(uint32_t(type)));
  }
}

inline bool is_float16(DataType t) { return t == DataType::Float16 || t == DataType::BFloat16; }
inline bool is_floating(DataType t) { return t == DataType::Float32 || is_float16(t); }
inline bool is_complex(DataType t) { return t == DataType::ComplexFloat32; }
inline bool is_integer(DataType t) {
  return !is_floating(t) && !is_complex(t) && t != DataType::Bool;
}
// Arithmetic on 16-bit floats is done in float32.
inline DataType compute_type(DataType t) { return is_float16(t) ? DataType::Float32 : t; }
// 16-bit floats to float32 and back, whole arrays.
void widen(DataType from, const void* in, float* out, long n);
void narrow(DataType to, const float* in, void* out, long n);

const char* type_name(DataType type);                     // "f16", "i32", ...
std::string describe(const Shape& shape, DataType type);  // "tensor<2x256xf16>"

inline long element_count(const Shape& shape) {
  long n = 1;
  for (long extent : shape) n *= extent;
  return n;
}
// Row-major distances in elements.
inline Shape strides_of(const Shape& shape) {
  Shape strides(shape.size());
  long step = 1;
  for (size_t i = shape.size(); i-- > 0; step *= shape[i]) strides[i] = step;
  return strides;
}
// Negative axes count from the end; -1 when out of range.
inline long resolve_axis(long axis, size_t rank) {
  const long r = long(rank);
  return axis >= -r && axis < r ? (axis + r) % r : -1;
}

}  // namespace host
