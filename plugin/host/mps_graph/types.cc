#include "plugin/host/mps_graph/types.h"

#include "plugin/host/mps_graph/isa.h"

namespace host {

namespace {

template <class T>
void widen_array(const void* in, float* out, long n) {
  isa::run(
      [](const T* __restrict x, float* __restrict y, long count) {
        for (long i = 0; i < count; ++i) y[i] = to_float(x[i]);
      },
      static_cast<const T*>(in), out, n);
}

template <class T>
void narrow_array(const float* in, void* out, long n) {
  isa::run(
      [](const float* __restrict x, T* __restrict y, long count) {
        for (long i = 0; i < count; ++i) from_float(x[i], y[i]);
      },
      in, static_cast<T*>(out), n);
}

}  // namespace

void widen(DataType from, const void* in, float* out, long n) {
  from == DataType::Float16 ? widen_array<Half>(in, out, n) : widen_array<BFloat>(in, out, n);
}

void narrow(DataType to, const float* in, void* out, long n) {
  to == DataType::Float16 ? narrow_array<Half>(in, out, n) : narrow_array<BFloat>(in, out, n);
}

const char* type_name(DataType type) {
  switch (type) {
    case DataType::Float32:
      return "f32";
    case DataType::Float16:
      return "f16";
    case DataType::BFloat16:
      return "bf16";
    case DataType::ComplexFloat32:
      return "complex<f32>";
    case DataType::Int8:
      return "si8";
    case DataType::Int16:
      return "si16";
    case DataType::Int32:
      return "si32";
    case DataType::Int64:
      return "si64";
    case DataType::UInt8:
      return "ui8";
    case DataType::UInt16:
      return "ui16";
    case DataType::UInt32:
      return "ui32";
    case DataType::UInt64:
      return "ui64";
    case DataType::Bool:
      return "i1";
    default:
      return "invalid";
  }
}

std::string describe(const Shape& shape, DataType type) {
  std::string text = "tensor<";
  for (long extent : shape) text += std::to_string(extent) + "x";
  return text + type_name(type) + ">";
}

}  // namespace host
