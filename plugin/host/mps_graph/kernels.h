// Makes Kernels (graph.h) out of operations on single elements.
//
// An operation is a struct with a static `apply`. Its members say what it works on:
//   kTypes   which element types it is defined for (others abort)
//   kBits    it copies or tests bits instead of computing: applied to the unsigned integer of the
//            element's size, denormals and NaN payloads stay as they are
//   kTest    the result is Bool instead of the operands' type
#pragma once

#include "plugin/host/mps_graph/graph.h"
#include "plugin/host/mps_graph/isa.h"

namespace host {

enum TypeSet : unsigned { kFloats = 1, kIntegers = 2, kBool = 4, kComplex = 8 };
inline constexpr unsigned kNumbers = kFloats | kIntegers;

inline unsigned type_set(DataType type) {
  if (is_floating(type)) return kFloats;
  if (is_complex(type)) return kComplex;
  return type == DataType::Bool ? kBool : kIntegers;
}

struct Op {
  static constexpr unsigned kTypes = kFloats;
  static constexpr bool kBits = false;
  static constexpr bool kTest = false;
};

// Copy of all bits.
struct Identity : Op {
  static constexpr unsigned kTypes = kNumbers | kBool | kComplex;
  static constexpr bool kBits = true;
  template <class T>
  static T apply(T x) {
    return x;
  }
};

// The NaN that arithmetic on the GPU gives: sign and payload of operands are lost. M
inline float canonical(float x) { return x == x ? x : std::bit_cast<float>(kCanonicalNan); }
template <class T>
T canonical(T x) {
  return x;
}

// A type wide enough to calculate in without signed overflow: integers wrap.
template <class T>
using Wrapping = std::make_unsigned_t<decltype(T() + T())>;
template <class T>
T plus(T a, T b) {
  if constexpr (std::is_same_v<T, float>)
    return a + b;
  else
    return T(Wrapping<T>(a) + Wrapping<T>(b));
}
template <class T>
T times(T a, T b) {
  if constexpr (std::is_same_v<T, float>)
    return a * b;
  else
    return T(Wrapping<T>(a) * Wrapping<T>(b));
}
// What no element is beyond: where a search for the largest begins, or for the smallest.
template <bool kLargest, class T>
constexpr T worst() {
  using Limits = std::numeric_limits<T>;
  if constexpr (std::is_same_v<T, float>)
    return kLargest ? -Limits::infinity() : Limits::infinity();
  else
    return kLargest ? Limits::min() : Limits::max();
}

template <class O, class T, class R>
void unary_kernel(const void* const* in, void* out, long n) {
  const auto loop = [](const T* __restrict x, R* __restrict y, long count) {
    for (long i = 0; i < count; ++i) y[i] = canonical(static_cast<R>(O::apply(x[i])));
  };
  const auto bits = [](const T* __restrict x, R* __restrict y, long count) {
    for (long i = 0; i < count; ++i) y[i] = static_cast<R>(O::apply(x[i]));
  };
  const T* x = static_cast<const T*>(in[0]);
  R* y = static_cast<R*>(out);
  if constexpr (O::kBits) {
    isa::run(bits, x, y, n);
  } else if constexpr (std::is_same_v<T, float>) {
    isa::run(loop, x, y, n);
  } else {
    loop(x, y, n);
  }
}

template <class O, class T, class R>
void binary_kernel(const void* const* in, void* out, long n) {
  const auto loop = [](const T* __restrict a, const T* __restrict b, R* __restrict y, long count) {
    for (long i = 0; i < count; ++i) {
      const R r = static_cast<R>(O::apply(a[i], b[i]));
      if constexpr (O::kBits) {
        y[i] = r;
      } else {
        y[i] = canonical(r);
      }
    }
  };
  const T *a = static_cast<const T*>(in[0]), *b = static_cast<const T*>(in[1]);
  R* y = static_cast<R*>(out);
  if constexpr (std::is_same_v<T, float>) {
    isa::run(loop, a, b, y, n);
  } else {
    loop(a, b, y, n);
  }
}

// Calls f(TypeOf<T>()) with the type that O computes in for tensors of `type`; 16-bit floats are
// computed in float32. Without a kernel when O is not defined for `type`.
template <class O, class F>
Elementwise select_kernel(DataType type, F&& f) {
  Elementwise result;
  if (!(type_set(type) & O::kTypes)) return result;
  if constexpr (O::kBits) {
    dispatch_bits(type, [&]<class T>(TypeOf<T> t) { result = f(t, type); });
  } else {
    dispatch(compute_type(type), [&]<class T>(TypeOf<T> t) {
      constexpr bool float_only = O::kTypes == kFloats;
      constexpr bool no_float = !(O::kTypes & kFloats);
      if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat>) {
      } else if constexpr (std::is_same_v<T, Complex> && !(O::kTypes & kComplex)) {
      } else if constexpr (std::is_same_v<T, float> ? no_float
                                                    : float_only && !std::is_same_v<T, Complex>) {
      } else {
        result = f(t, compute_type(type));
      }
    });
  }
  if constexpr (O::kTest) result.output = DataType::Bool;
  return result;
}

template <class O>
Elementwise unary_operation(DataType type) {
  return select_kernel<O>(type, []<class T>(TypeOf<T>, DataType kernel_type) {
    using R = std::conditional_t<O::kTest, uint8_t, T>;
    return Elementwise{&unary_kernel<O, T, R>, {kernel_type}, kernel_type};
  });
}

template <class O>
Elementwise binary_operation(DataType type) {
  return select_kernel<O>(type, []<class T>(TypeOf<T>, DataType kernel_type) {
    using R = std::conditional_t<O::kTest, uint8_t, T>;
    return Elementwise{&binary_kernel<O, T, R>, {kernel_type, kernel_type}, kernel_type};
  });
}

// Adds the node; one without a kernel aborts when it is compiled.
template <class O>
Tensor* add_operation(Graph* graph, const char* method, std::vector<Tensor*> inputs,
                      Elementwise operation) {
  const DataType type = inputs[0]->type.dtype;
  const bool runs = operation.kernel;
  Tensor* result = graph->elementwise(method, std::move(inputs), O::kTest ? DataType::Bool : type,
                                      std::move(operation));
  if (!runs) result->node->compile_error = no_kernel(method, type);
  return result;
}

template <class O>
Tensor* add_unary(Graph* graph, const char* method, id x) {
  Tensor* tensor = operand(x, method);
  return add_operation<O>(graph, method, {tensor}, unary_operation<O>(tensor->type.dtype));
}

template <class O>
Tensor* add_binary(Graph* graph, const char* method, id a, id b) {
  std::vector<Tensor*> inputs{operand(a, method), operand(b, method)};
  require_same_type(inputs, method);
  return add_operation<O>(graph, method, inputs, binary_operation<O>(inputs[0]->type.dtype));
}

}  // namespace host

// Registers a method of the form <stem>WithTensor:name:, or the binary form.
#define HOST_UNARY(stem, O)                                                        \
  HOST_METHOD(MPSGraph, stem "WithTensor:name:", [](Graph* self, id x, id) -> id { \
    return add_unary<O>(self, stem, x);                                            \
  })
#define HOST_BINARY(stem, O)                                            \
  HOST_METHOD(MPSGraph, stem "WithPrimaryTensor:secondaryTensor:name:", \
              [](Graph* self, id a, id b, id) -> id { return add_binary<O>(self, stem, a, b); })
