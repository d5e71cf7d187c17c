// <metal_stdlib> as far as the shaders use it, declarations only, for tools/check_shaders.py.
//
// MSL_ADDRESS_SPACES: device, constant and threadgroup are types' qualifiers, as they are to
// Apple's compiler. Without it they are nothing, so that the language's older standards apply.
#pragma once

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef _Float16 half;
typedef __bf16 bfloat;
typedef __SIZE_TYPE__ size_t;
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;
typedef uchar uint8_t;
typedef ushort uint16_t;
typedef uint uint32_t;
typedef ulong uint64_t;
#define MSL_VECTORS(T)                                \
  typedef T T##2 __attribute__((ext_vector_type(2))); \
  typedef T T##3 __attribute__((ext_vector_type(3))); \
  typedef T T##4 __attribute__((ext_vector_type(4)));
MSL_VECTORS(float)
MSL_VECTORS(half)
MSL_VECTORS(int)
MSL_VECTORS(uint)
MSL_VECTORS(ushort)
#undef MSL_VECTORS

#define NAN __builtin_nanf("")
#define INFINITY __builtin_inff()

namespace metal {

#define MSL_FUNCTION1(name) \
  float name(float);        \
  half name(half);          \
  bfloat name(bfloat);
#define MSL_FUNCTION2(name) \
  float name(float, float); \
  half name(half, half);    \
  bfloat name(bfloat, bfloat);
#define MSL_PRECISE(M, M2) \
  M(acos)                  \
  M(acosh)                 \
  M(asin)                  \
  M(asinh)                 \
  M(atan)                  \
  M(atanh)                 \
  M(ceil)                  \
  M(cos)                   \
  M(cosh)                  \
  M(cospi)                 \
  M(exp)                   \
  M(exp2)                  \
  M(exp10)                 \
  M(fabs)                  \
  M(floor)                 \
  M(fract)                 \
  M(log)                   \
  M(log2)                  \
  M(log10)                 \
  M(rint)                  \
  M(round)                 \
  M(rsqrt)                 \
  M(sin)                   \
  M(sinh)                  \
  M(sinpi)                 \
  M(sqrt)                  \
  M(tan)                   \
  M(tanh)                  \
  M(trunc)                 \
  M2(atan2)                \
  M2(copysign)             \
  M2(fdim)                 \
  M2(fmax)                 \
  M2(fmin)                 \
  M2(fmod)                 \
  M2(nextafter)            \
  M2(pow)                  \
  M2(powr)
MSL_PRECISE(MSL_FUNCTION1, MSL_FUNCTION2)
MSL_FUNCTION1(sign)
MSL_FUNCTION1(saturate)
MSL_FUNCTION2(step)
namespace precise {
MSL_PRECISE(MSL_FUNCTION1, MSL_FUNCTION2)
}
#undef MSL_FUNCTION1
#undef MSL_FUNCTION2
#undef MSL_PRECISE

template <class T>
bool isnan(T);
template <class T>
bool isinf(T);
template <class T>
bool isfinite(T);
template <class T>
bool isnormal(T);
template <class T>
bool signbit(T);
template <class A, class B>
auto min(A a, B b) -> decltype(true ? a : b);
template <class A, class B>
auto max(A a, B b) -> decltype(true ? a : b);
template <class A, class B, class C>
auto clamp(A a, B b, C c) -> decltype(true   ? a
                                      : true ? b
                                             : c);
template <class T>
T abs(T);
template <class T>
T mix(T, T, T);
template <class T>
T select(T, T, bool);
float fma(float, float, float);
float ldexp(float, int);
int ilogb(float);
float frexp(float, int&);
float modf(float, float&);
float sincos(float, float&);

template <class T>
T popcount(T);
template <class T>
T clz(T);
template <class T>
T ctz(T);
template <class T>
T rotate(T, T);
template <class T>
T mulhi(T, T);
template <class T>
T reverse_bits(T);
template <class T>
T addsat(T, T);
template <class T>
T subsat(T, T);
template <class To, class From>
To as_type(From);

enum class mem_flags { mem_none, mem_device, mem_threadgroup };
mem_flags operator|(mem_flags, mem_flags);
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);

}  // namespace metal

// A vector's constructor is a function call in Metal, in C++ a list.
#define float2(...) (float2{__VA_ARGS__})
#define float3(...) (float3{__VA_ARGS__})
#define float4(...) (float4{__VA_ARGS__})
#define uint2(...) (uint2{__VA_ARGS__})
#define uint3(...) (uint3{__VA_ARGS__})

#define kernel
#define thread
#ifdef MSL_ADDRESS_SPACES
#define device __attribute__((address_space(1)))
#define constant const __attribute__((address_space(2)))
#define threadgroup __attribute__((address_space(3)))
// Metal copies structs from and to every address space; C++ has to be told.
#define MSL_COPIES(S)                     \
  S() = default;                          \
  S(const S&) = default;                  \
  S(device const S&);                     \
  S(constant S&);                         \
  S(threadgroup const S&);                \
  S& operator=(this S& self, S);          \
  void operator=(this device S& self, S); \
  void operator=(this threadgroup S& self, S);
#else
#define device
#define constant const
#define threadgroup
#define MSL_COPIES(S)
#endif
