// Elementwise arithmetic: MPSGraphArithmeticOps, methods with one and two operands.
// Results have the operands' type unless the operation is a test. Two operands must be of one type
// (abort) and broadcast like numpy. Float arithmetic flushes denormals and answers the canonical
// NaN (M); operations marked kBits pass both on. Float16 and bfloat16 compute in float32.
#include <cmath>

#include "plugin/host/mps_graph/kernels.h"
#include "plugin/host/mps_graph/math.h"

namespace host {
namespace {

template <class T>
constexpr bool is_float = std::is_same_v<T, float>;
template <class T>
constexpr bool is_complex_v = std::is_same_v<T, Complex>;
template <class T>
constexpr T sign_bit = T(T(1) << (sizeof(T) * 8 - 1));

struct Numeric : Op {
  static constexpr unsigned kTypes = kNumbers;
};
struct Copy : Op {
  static constexpr unsigned kTypes = kNumbers | kBool | kComplex;
  static constexpr bool kBits = true;
};
struct Test : Op {
  static constexpr bool kTest = true;
};

// ---- one operand -----------------------------------------------------------------------------

// Copy of all bits. The last operation of a target that would be a mere view. D U
HOST_METHOD(MPSGraph, "identityWithTensor:name:", [](Graph* self, id x, id) -> id {
  Tensor* result = add_unary<Identity>(self, "identity", x);
  result->node->is_copy = true;
  return result;
});

#define FLOAT_FUNCTION(Name, stem, expression)         \
  struct Name : Op {                                   \
    static float apply(float x) { return expression; } \
  };                                                   \
  HOST_UNARY(stem, Name)

FLOAT_FUNCTION(Exp, "exponent", math::exp(x));                              // D
FLOAT_FUNCTION(Exp2, "exponentBase2", std::exp2(x));                        // D
FLOAT_FUNCTION(Exp10, "exponentBase10", float(std::pow(10.0, double(x))));  // D
FLOAT_FUNCTION(Log, "logarithm", math::log(x));                // log(+-0) = -inf, negative: NaN. M
FLOAT_FUNCTION(Log2, "logarithmBase2", std::log2(x));          // D
FLOAT_FUNCTION(Log10, "logarithmBase10", std::log10(x));       // D
FLOAT_FUNCTION(SquareRoot, "squareRoot", __builtin_sqrtf(x));  // sqrt(-0) = -0, negative: NaN. M
// x^-1/2 under two names; the second exists from macOS 15. D
struct ReverseSquareRoot : Op {
  static float apply(float x) { return 1.0f / __builtin_sqrtf(x); }
};
HOST_UNARY("reverseSquareRoot", ReverseSquareRoot);
HOST_UNARY("reciprocalSquareRoot", ReverseSquareRoot);
FLOAT_FUNCTION(Reciprocal, "reciprocal", 1.0f / x);  // of +-0: +-inf. M
FLOAT_FUNCTION(Ceil, "ceil", __builtin_ceilf(x));    // D; integers have no kernel (U)
FLOAT_FUNCTION(Floor, "floor", __builtin_floorf(x));
FLOAT_FUNCTION(Truncate, "truncate", __builtin_truncf(x));
FLOAT_FUNCTION(Rint, "rint", __builtin_rintf(x));  // half to even. D
// Halves away from zero (U); a result of zero is +0. M
FLOAT_FUNCTION(Round, "round", std::round(x) + 0.0f);

// Flushed operands, but a tiny one of these is returned unchanged, sign of zero included. M
inline bool is_tiny(float x) { return (std::bit_cast<uint32_t>(x) & 0x7fffffff) < 0x00800000; }
#define ODD_FUNCTION(Name, stem, expression)                                   \
  struct Name : Op {                                                           \
    static float apply(float x) { return is_tiny(x) ? x : float(expression); } \
  };                                                                           \
  HOST_UNARY(stem, Name)
ODD_FUNCTION(Sin, "sin", std::sin(x));
ODD_FUNCTION(Sinh, "sinh", std::sinh(x));
ODD_FUNCTION(Asinh, "asinh", std::asinh(x));
ODD_FUNCTION(Atanh, "atanh", std::atanh(x));
FLOAT_FUNCTION(Cos, "cos", std::cos(x));
FLOAT_FUNCTION(Tan, "tan", std::tan(x));
FLOAT_FUNCTION(Cosh, "cosh", std::cosh(x));
FLOAT_FUNCTION(Acos, "acos", std::acos(x));
FLOAT_FUNCTION(Acosh, "acosh", std::acosh(x));
FLOAT_FUNCTION(Tanh, "tanh", math::tanh(x));  // tanh(-0) = +0. M
// Negative denormals come back, other tiny operands give +0. M
inline float only_negative_denormal(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>(bits > 0x80000000 ? bits : 0);
}
FLOAT_FUNCTION(Atan, "atan", is_tiny(x) ? only_negative_denormal(x) : std::atan(x));
FLOAT_FUNCTION(Erf, "erf", is_tiny(x) ? only_negative_denormal(x) : std::erf(x));
// A NaN operand keeps its bits, unlike everywhere else. M
struct Asin : Op {
  static float apply(float x) { return is_tiny(x) ? x : std::asin(x); }
};
void asin_kernel(const void* const* in, void* out, long n) {
  const float* x = static_cast<const float*>(in[0]);
  float* y = static_cast<float*>(out);
  for (long i = 0; i < n; ++i) y[i] = x[i] == x[i] ? canonical(Asin::apply(x[i])) : x[i];
}
id asin(Graph* self, id x, id) {
  Tensor* tensor = operand(x, "asin");
  require_floating(tensor, "asin");
  return self->elementwise("asin", {tensor}, tensor->type.dtype,
                           {&asin_kernel, {DataType::Float32}, DataType::Float32});
}
HOST_METHOD(MPSGraph, "asinWithTensor:name:", asin);

struct Square : Numeric {
  template <class T>
  static T apply(T x) {
    if constexpr (is_float<T>)
      return x * x;
    else
      return T(Wrapping<T>(x) * Wrapping<T>(x));
  }
};
HOST_UNARY("square", Square);

// -1, +0 or +1; -0 and NaN give +0 although the header promises -0. M
struct Sign : Numeric {
  template <class T>
  static T apply(T x) {
    return T(x > T(0)) - T(x < T(0));
  }
};
HOST_UNARY("sign", Sign);

// Three that look at the sign bit of floats, NaN included; integers by value. `signbit` answers 1
// or 0 in the operand's type. M
struct IntegerAbs : Op {
  static constexpr unsigned kTypes = kIntegers;
  template <class T>
  static T apply(T x) {
    return x < T(0) ? T(Wrapping<T>(0) - Wrapping<T>(x)) : x;
  }
};
struct FloatAbs : Copy {
  template <class T>
  static T apply(T bits) {
    return T(bits & T(~sign_bit<T>));
  }
};
struct IntegerNegative : Op {
  static constexpr unsigned kTypes = kIntegers;
  template <class T>
  static T apply(T x) {
    return T(Wrapping<T>(0) - Wrapping<T>(x));
  }
};
struct FloatNegative : Copy {
  template <class T>
  static T apply(T bits) {
    return T(bits ^ sign_bit<T>);
  }
};
struct IntegerSignbit : Op {
  static constexpr unsigned kTypes = kIntegers;
  template <class T>
  static T apply(T x) {
    return x < T(0);
  }
};
template <class T>
constexpr T one_of_bits = sizeof(T) == 4 ? T(0x3f800000) : T(0x3c00);
struct FloatSignbit : Copy {
  template <class T>
  static T apply(T bits) {
    return bits & sign_bit<T> ? one_of_bits<T> : T(0);
  }
};
struct BFloatSignbit : Copy {
  template <class T>
  static T apply(T bits) {
    return bits & sign_bit<T> ? T(0x3f80) : T(0);
  }
};
template <class ForFloats, class ForIntegers>
id float_or_integer(Graph* self, const char* method, id x) {
  const DataType type = operand(x, method)->type.dtype;
  return is_floating(type) ? add_unary<ForFloats>(self, method, x)
                           : add_unary<ForIntegers>(self, method, x);
}
HOST_METHOD(MPSGraph, "absoluteWithTensor:name:", [](Graph* self, id x, id) -> id {
  return float_or_integer<FloatAbs, IntegerAbs>(self, "absolute", x);
});
HOST_METHOD(MPSGraph, "negativeWithTensor:name:", [](Graph* self, id x, id) -> id {
  return float_or_integer<FloatNegative, IntegerNegative>(self, "negative", x);
});
HOST_METHOD(MPSGraph, "signbitWithTensor:name:", [](Graph* self, id x, id) -> id {
  if (operand(x, "signbit")->type.dtype == DataType::BFloat16) {
    return add_unary<BFloatSignbit>(self, "signbit", x);
  }
  return float_or_integer<FloatSignbit, IntegerSignbit>(self, "signbit", x);
});

// Logical negation: 1 where the operand is zero, in the operand's type (not Bool). M
struct Not : Op {
  static constexpr unsigned kTypes = kNumbers | kBool;
  template <class T>
  static T apply(T x) {
    return T(x == T(0));
  }
};
HOST_UNARY("not", Not);

// Tests of floats: result Bool. Integers have no kernel. M
inline uint32_t magnitude(float x) { return std::bit_cast<uint32_t>(x) & 0x7fffffff; }
struct IsNan : Test {
  static bool apply(float x) { return magnitude(x) > 0x7f800000; }
};
struct IsFinite : Test {
  static bool apply(float x) { return magnitude(x) < 0x7f800000; }
};
struct IsInfinite : Test {
  static bool apply(float x) { return magnitude(x) == 0x7f800000; }
};
HOST_UNARY("isNaN", IsNan);
HOST_UNARY("isFinite", IsFinite);
HOST_UNARY("isInfinite", IsInfinite);

struct BitwiseNot : Op {
  static constexpr unsigned kTypes = kIntegers;
  template <class T>
  static T apply(T x) {
    return T(~x);
  }
};
HOST_UNARY("bitwiseNOT", BitwiseNot);  // integers only. D

// ---- two operands ----------------------------------------------------------------------------

#define WRAPPING(Name, stem, op)                    \
  struct Name : Numeric {                           \
    template <class T>                              \
    static T apply(T a, T b) {                      \
      if constexpr (is_float<T>)                    \
        return a op b;                              \
      else                                          \
        return T(Wrapping<T>(a) op Wrapping<T>(b)); \
    }                                               \
  };                                                \
  HOST_BINARY(stem, Name)
WRAPPING(Addition, "addition", +);  // integers wrap
WRAPPING(Subtraction, "subtraction", -);
WRAPPING(Multiplication, "multiplication", *);

// Floats: IEEE. Integers truncate (? [T7]); what division by zero gives is open: all ones here, so
// that nobody takes it for a number.
template <class T>
T divide(T a, T b) {
  if (b == T(0)) return T(~T(0));
  if constexpr (std::is_signed_v<T>) {
    if (b == T(-1)) return T(Wrapping<T>(0) - Wrapping<T>(a));
  }
  return T(a / b);
}
struct Division : Numeric {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (is_float<T>)
      return a / b;
    else
      return divide(a, b);
  }
};
HOST_BINARY("division", Division);

// 0 where the divisor is 0, for any numerator; a NaN divisor gives NaN. M
struct DivisionNoNan : Op {
  static float apply(float a, float b) { return b == 0 ? 0.0f : a / b; }
};
HOST_BINARY("divisionNoNaN", DivisionNoNan);

// Remainder with the sign of the dividend (D U); exact for floats, denormals stay (M).
struct Modulo : Numeric {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (is_float<T>) {
      return is_tiny(a) && b != 0 ? a : std::fmod(a, b);
    } else {
      if (b == T(0)) return T(0);
      if constexpr (std::is_signed_v<T>) {
        if (b == T(-1)) return T(0);
      }
      return T(a % b);
    }
  }
};
HOST_BINARY("modulo", Modulo);

// a - floor(a / b) * b, every step rounded; 0 where b = 0. D M
struct FloorModulo : Numeric {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (is_float<T>) {
      return b == 0 ? 0.0f : a - __builtin_floorf(a / b) * b;
    } else {
      const T r = Modulo::apply(a, b);
      return r != T(0) && (r < T(0)) != (b < T(0)) ? T(r + b) : r;
    }
  }
};
HOST_BINARY("floorModulo", FloorModulo);

// Negative base with a fraction as exponent: NaN. Integers: repeated multiplication, a negative
// exponent gives 0 unless the base is 1 or -1 (? [T8]).
struct Power : Numeric {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (is_float<T>) {
      return std::pow(a, b);
    } else {
      using W = Wrapping<T>;
      if (b < T(0)) return a == T(1) ? T(1) : a == T(-1) ? (b % T(2) ? a : T(1)) : T(0);
      W result = 1, factor = W(a);
      for (W exponent = W(b); exponent; exponent >>= 1, factor *= factor) {
        if (exponent & 1) result *= factor;
      }
      return T(result);
    }
  }
};
HOST_BINARY("power", Power);

struct Atan2 : Op {
  static float apply(float a, float b) { return std::atan2(a, b); }
};
HOST_BINARY("atan2", Atan2);  // atan(primary / secondary) in the right quadrant. D

// Floats are compared as integers that are ordered in the same way, so that denormals survive.
inline int32_t ordered(float x) {
  const int32_t bits = std::bit_cast<int32_t>(x);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}
template <bool kLargest, class T>
T extreme(T a, T b) {
  if constexpr (is_float<T>) {
    return (kLargest ? ordered(a) > ordered(b) : ordered(a) < ordered(b)) ? a : b;
  } else {
    return (kLargest ? a > b : a < b) ? a : b;
  }
}
inline bool is_nan(float x) { return magnitude(x) > 0x7f800000; }

// A NaN operand loses (M): fmin and fmax.
template <bool kLargest>
struct Extreme : Op {
  static constexpr unsigned kTypes = kNumbers | kBool;
  template <class T>
  static T apply(T a, T b) {
    T best = extreme<kLargest>(a, b);
    if constexpr (is_float<T>) {
      best = is_nan(b) ? a : best;
      best = is_nan(a) ? b : best;
    }
    return best;
  }
};
HOST_BINARY("minimum", Extreme<false>);
HOST_BINARY("maximum", Extreme<true>);

// A NaN operand wins. Floats only: integers and Bool raise an exception (M).
template <bool kLargest>
struct ExtremeNan : Op {
  static float apply(float a, float b) {
    float best = extreme<kLargest>(a, b);
    best = is_nan(b) ? b : best;
    return is_nan(a) ? a : best;
  }
};
#define NAN_EXTREME(stem, largest)                                                        \
  HOST_METHOD(MPSGraph, stem "WithNaNPropagationWithPrimaryTensor:secondaryTensor:name:", \
              [](Graph* self, id a, id b, id) -> id {                                     \
                return add_binary<ExtremeNan<largest>>(self, "isNaN", a, b);              \
              })
NAN_EXTREME("minimum", false);
NAN_EXTREME("maximum", true);

// Comparisons answer Bool. M
#define COMPARISON(Name, stem, op)                       \
  struct Name : Test {                                   \
    static constexpr unsigned kTypes = kNumbers | kBool; \
    template <class T>                                   \
    static bool apply(T a, T b) {                        \
      return a op b;                                     \
    }                                                    \
  };                                                     \
  HOST_BINARY(stem, Name)
COMPARISON(Equal, "equal", ==);
COMPARISON(NotEqual, "notEqual", !=);
COMPARISON(Less, "lessThan", <);
COMPARISON(LessEqual, "lessThanOrEqualTo", <=);
COMPARISON(Greater, "greaterThan", >);
COMPARISON(GreaterEqual, "greaterThanOrEqualTo", >=);

// Non-zero is true (NaN too); the answer is 1 or 0 in the operands' type. M
#define LOGICAL(Name, stem, expression)                  \
  struct Name : Op {                                     \
    static constexpr unsigned kTypes = kNumbers | kBool; \
    template <class T>                                   \
    static T apply(T a, T b) {                           \
      const bool p = a != T(0), q = b != T(0);           \
      return T(expression);                              \
    }                                                    \
  };                                                     \
  HOST_BINARY(stem, Name)
LOGICAL(LogicalAnd, "logicalAND", p& q);
LOGICAL(LogicalOr, "logicalOR", p | q);
LOGICAL(LogicalNand, "logicalNAND", !(p & q));
LOGICAL(LogicalNor, "logicalNOR", !(p | q));
LOGICAL(LogicalXor, "logicalXOR", p != q);
LOGICAL(LogicalXnor, "logicalXNOR", p == q);

// Integers only (D): Bool fails an assertion (U). Shift counts are taken modulo the bit width, the
// right shift is arithmetic for signed types (U).
#define BITWISE(Name, stem, expression)                     \
  struct Name : Op {                                        \
    static constexpr unsigned kTypes = kIntegers;           \
    template <class T>                                      \
    static T apply(T a, T b) {                              \
      [[maybe_unused]] constexpr int width = sizeof(T) * 8; \
      return T(expression);                                 \
    }                                                       \
  };                                                        \
  HOST_BINARY(stem, Name)
BITWISE(BitwiseAnd, "bitwiseAND", a& b);
BITWISE(BitwiseOr, "bitwiseOR", a | b);
BITWISE(BitwiseXor, "bitwiseXOR", a ^ b);
BITWISE(LeftShift, "bitwiseLeftShift", Wrapping<T>(a) << (b & T(width - 1)));
BITWISE(RightShift, "bitwiseRightShift", a >> (b & T(width - 1)));

// ---- three operands --------------------------------------------------------------------------

template <class P, class T>
void select_elements(const void* const* in, void* out, long n) {
  isa::run(
      [](const P* __restrict predicate, const T* __restrict a, const T* __restrict b,
         T* __restrict y, long count) {
        for (long i = 0; i < count; ++i) {
          const T x = a[i], z = b[i];  // both are read, so that the loop vectorises
          y[i] = predicate[i] != P(0) ? x : z;
        }
      },
      static_cast<const P*>(in[0]), static_cast<const T*>(in[1]), static_cast<const T*>(in[2]),
      static_cast<T*>(out), n);
}

// predicate ? a : b, all three broadcast. A predicate of any type, non-zero (NaN too) chooses the
// first; a and b share a type and keep their bits. D M
id select(Graph* self, id predicate, id a, id b, id) {
  const char* method = "select";
  Tensor* p = operand(predicate, method);
  std::vector<Tensor*> data{operand(a, method), operand(b, method)};
  require_same_type(data, method);
  if (is_complex(p->type.dtype)) abort_inference(method, "complex predicate");
  const DataType type = data[0]->type.dtype, tested = compute_type(p->type.dtype);
  Elementwise operation{nullptr, {tested, type, type}, type};
  dispatch(tested, [&]<class P>(TypeOf<P>) {
    if constexpr (std::is_arithmetic_v<P>) {
      dispatch_bits(type, [&]<class T>(TypeOf<T>) { operation.kernel = &select_elements<P, T>; });
    }
  });
  return self->elementwise(method, {p, data[0], data[1]}, type, std::move(operation));
}
HOST_METHOD(MPSGraph,
            "selectWithPredicateTensor:truePredicateTensor:falsePredicateTensor:name:", select);

// min(max(x, low), high) with operands broadcast (D); NaN and low > high are open (? [T9]): here
// the composition of the plain methods.
HOST_METHOD(MPSGraph, "clampWithTensor:minValueTensor:maxValueTensor:name:",
            [](Graph* self, id x, id low, id high, id) -> id {
              id bounded = add_binary<Extreme<true>>(self, "clamp", x, low);
              return add_binary<Extreme<false>>(self, "clamp", bounded, high);
            });

// ---- conversion ------------------------------------------------------------------------------

template <class To>
To saturate(float x) {
  constexpr To kMost = std::numeric_limits<To>::max(), kLeast = std::numeric_limits<To>::min();
  if (!(x == x)) return To(0);
  if (x >= float(kMost)) return kMost;
  if (x <= float(kLeast)) return kLeast;
  return To(x);
}

template <class From, class To, bool kToBool>
void cast_elements(const void* const* in, void* out, long n) {
  isa::run(
      [](const From* __restrict x, To* __restrict y, long count) {
        for (long i = 0; i < count; ++i) {
          if constexpr (kToBool)
            y[i] = x[i] != From(0);
          else if constexpr (is_float<From> && !is_float<To>)
            y[i] = saturate<To>(x[i]);
          else
            y[i] = To(x[i]);
        }
      },
      static_cast<const From*>(in[0]), static_cast<To*>(out), n);
}

// Conversion of values. Float to integer truncates and saturates (U), NaN gives 0; anything to Bool
// tests for non-zero; integer to integer wraps (? [T17]).
id cast(Graph* self, id x, DataType to, id) {
  const char* method = "cast";
  Tensor* tensor = operand(x, method);
  const DataType type = tensor->type.dtype;
  if (type == to) return add_unary<Identity>(self, method, x);
  if (is_complex(type) || is_complex(to)) abort_inference(method, "complex is not supported");
  const DataType from_kernel = compute_type(type), to_kernel = compute_type(to);
  Elementwise operation{nullptr, {from_kernel}, to_kernel};
  dispatch(from_kernel, [&]<class From>(TypeOf<From>) {
    dispatch(to_kernel, [&]<class To>(TypeOf<To>) {
      if constexpr (std::is_arithmetic_v<From> && std::is_arithmetic_v<To>) {
        operation.kernel = &cast_elements<From, To, false>;
        if constexpr (std::is_same_v<To, uint8_t>) {
          if (to == DataType::Bool) operation.kernel = &cast_elements<From, To, true>;
        }
      }
    });
  });
  return self->elementwise(method, {tensor}, to, std::move(operation));
}
HOST_METHOD(MPSGraph, "castTensor:toType:name:", cast);

}  // namespace
}  // namespace host
