// MPSGraph: graphs, their compilation and their encoding.
// https://developer.apple.com/documentation/metalperformanceshadersgraph
// What each method means, edge cases included, is written down where the host implements it
// (plugin/host/mps_graph). Tensors belong to their graph and live as long as it does.
#pragma once

#include "plugin/metal/mps.h"

namespace mpsg {

using mps::DataType;
using ns::Array;
using ns::Object;
using ns::Ref;
using ns::send;
using ns::String;

struct Tensor : Object {
  using Object::Object;
  Array shape() const { return send<Array>(raw(), OBJC_SEL("shape")); }
  DataType data_type() const { return send<DataType>(raw(), OBJC_SEL("dataType")); }
};

struct ShapedType : Object {
  using Object::Object;
  static Ref<ShapedType> make(Array shape, DataType type) {
    return Ref(send<ShapedType>(send<id>(objc_getClass("MPSGraphShapedType"), OBJC_SEL("alloc")),
                                OBJC_SEL("initWithShape:dataType:"), shape, type));
  }
};

struct TensorData : Object {
  using Object::Object;
  // The whole of `buffer` from offset 0, rows packed.
  static Ref<TensorData> make(mtl::Buffer buffer, Array shape, DataType type) {
    return Ref(send<TensorData>(send<id>(objc_getClass("MPSGraphTensorData"), OBJC_SEL("alloc")),
                                OBJC_SEL("initWithMTLBuffer:shape:dataType:"), buffer, shape,
                                type));
  }
  static Ref<TensorData> make(mps::NDArray array) {
    return Ref(send<TensorData>(send<id>(objc_getClass("MPSGraphTensorData"), OBJC_SEL("alloc")),
                                OBJC_SEL("initWithMPSNDArray:"), array));
  }
};

enum class Optimization : uint64_t { Level0 = 0, Level1 = 1 };

struct CompilationDescriptor : Object {
  using Object::Object;
  static Ref<CompilationDescriptor> make() {
    return Ref(send<CompilationDescriptor>(objc_getClass("MPSGraphCompilationDescriptor"),
                                           OBJC_SEL("new")));
  }
  void set_optimization_level(Optimization level) const {
    send<void>(raw(), OBJC_SEL("setOptimizationLevel:"), level);
  }
  void set_wait_for_completion(bool on) const {
    send<void>(raw(), OBJC_SEL("setWaitForCompilationCompletion:"), on);
  }
};

// A compiled graph. feed_tensors() and target_tensors() define the order of inputs and results,
// which need not be the order in which they were given.
struct Executable : Object {
  using Object::Object;
  Array feed_tensors() const { return send<Array>(raw(), OBJC_SEL("feedTensors")); }
  Array target_tensors() const { return send<Array>(raw(), OBJC_SEL("targetTensors")); }
  // `inputs` and `results` are arrays of TensorData. Does not commit the last part.
  void encode(mps::CommandBuffer to, Array inputs, Array results) const {
    send<Array>(raw(),
                OBJC_SEL("encodeToCommandBuffer:inputsArray:resultsArray:executionDescriptor:"), to,
                inputs, results, Object());
  }
};

struct Graph : Object {
  using Object::Object;
  static Ref<Graph> make() { return Ref(send<Graph>(objc_getClass("MPSGraph"), OBJC_SEL("new"))); }

  // Retained by the caller. `feeds` maps placeholders to ShapedType.
  Ref<Executable> compile(ns::Dictionary feeds, Array targets, CompilationDescriptor how) const {
    return Ref<Executable>::retain(send<Executable>(
        raw(),
        OBJC_SEL("compileWithDevice:feeds:targetTensors:targetOperations:compilationDescriptor:"),
        Object(), feeds, targets, Array(), how));
  }

  Tensor placeholder(Array shape, DataType type) const {
    return send<Tensor>(raw(), OBJC_SEL("placeholderWithShape:dataType:name:"), shape, type,
                        String());
  }
  Tensor constant(double value, DataType type) const {
    return send<Tensor>(raw(), OBJC_SEL("constantWithScalar:dataType:"), value, type);
  }
  Tensor constant(double value, Array shape, DataType type) const {
    return send<Tensor>(raw(), OBJC_SEL("constantWithScalar:shape:dataType:"), value, shape, type);
  }
  Tensor constant(ns::Data data, Array shape, DataType type) const {
    return send<Tensor>(raw(), OBJC_SEL("constantWithData:shape:dataType:"), data, shape, type);
  }

  // One line per method of the two largest families.
#define MPSG_UNARY(method, stem)                                                \
  Tensor method(Tensor x) const {                                               \
    return send<Tensor>(raw(), OBJC_SEL(stem "WithTensor:name:"), x, String()); \
  }
#define MPSG_BINARY(method, stem)                                                              \
  Tensor method(Tensor a, Tensor b) const {                                                    \
    return send<Tensor>(raw(), OBJC_SEL(stem "WithPrimaryTensor:secondaryTensor:name:"), a, b, \
                        String());                                                             \
  }
  MPSG_UNARY(identity, "identity")
  MPSG_UNARY(exp, "exponent")
  MPSG_UNARY(log, "logarithm")
  MPSG_UNARY(square, "square")
  MPSG_UNARY(sqrt, "squareRoot")
  MPSG_UNARY(rsqrt, "reverseSquareRoot")
  MPSG_UNARY(reciprocal, "reciprocal")
  MPSG_UNARY(abs, "absolute")
  MPSG_UNARY(negative, "negative")
  MPSG_UNARY(sign, "sign")
  MPSG_UNARY(signbit, "signbit")
  MPSG_UNARY(ceil, "ceil")
  MPSG_UNARY(floor, "floor")
  MPSG_UNARY(rint, "rint")
  MPSG_UNARY(sin, "sin")
  MPSG_UNARY(cos, "cos")
  MPSG_UNARY(tanh, "tanh")
  MPSG_UNARY(erf, "erf")
  MPSG_UNARY(sigmoid, "sigmoid")
  MPSG_UNARY(logical_not, "not")
  MPSG_UNARY(is_nan, "isNaN")
  MPSG_UNARY(is_finite, "isFinite")
  MPSG_UNARY(is_infinite, "isInfinite")
  MPSG_BINARY(add, "addition")
  MPSG_BINARY(sub, "subtraction")
  MPSG_BINARY(mul, "multiplication")
  MPSG_BINARY(div, "division")
  MPSG_BINARY(div_no_nan, "divisionNoNaN")
  MPSG_BINARY(pow, "power")
  MPSG_BINARY(floor_mod, "floorModulo")
  MPSG_BINARY(minimum_nan, "minimumWithNaNPropagation")
  MPSG_BINARY(maximum_nan, "maximumWithNaNPropagation")
  MPSG_BINARY(equal, "equal")
  MPSG_BINARY(not_equal, "notEqual")
  MPSG_BINARY(less, "lessThan")
  MPSG_BINARY(less_equal, "lessThanOrEqualTo")
  MPSG_BINARY(greater, "greaterThan")
  MPSG_BINARY(greater_equal, "greaterThanOrEqualTo")
  MPSG_BINARY(logical_and, "logicalAND")
  MPSG_BINARY(logical_or, "logicalOR")
  MPSG_BINARY(matmul, "matrixMultiplication")
#undef MPSG_UNARY
#undef MPSG_BINARY

  // predicate ? a : b, all three broadcast.
  Tensor select(Tensor predicate, Tensor a, Tensor b) const {
    return send<Tensor>(
        raw(), OBJC_SEL("selectWithPredicateTensor:truePredicateTensor:falsePredicateTensor:name:"),
        predicate, a, b, String());
  }
  Tensor cast(Tensor x, DataType to) const {
    return send<Tensor>(raw(), OBJC_SEL("castTensor:toType:name:"), x, to, String());
  }

  // Reductions keep every reduced axis with extent 1.
#define MPSG_REDUCE(method, selector)                                  \
  Tensor method(Tensor x, Array axes) const {                          \
    return send<Tensor>(raw(), OBJC_SEL(selector), x, axes, String()); \
  }
  MPSG_REDUCE(sum, "reductionSumWithTensor:axes:name:")
  MPSG_REDUCE(product, "reductionProductWithTensor:axes:name:")
  MPSG_REDUCE(max_nan, "reductionMaximumPropagateNaNWithTensor:axes:name:")
  MPSG_REDUCE(min_nan, "reductionMinimumPropagateNaNWithTensor:axes:name:")
  MPSG_REDUCE(mean, "meanOfTensor:axes:name:")
  MPSG_REDUCE(reduce_and, "reductionAndWithTensor:axes:name:")
  MPSG_REDUCE(reduce_or, "reductionOrWithTensor:axes:name:")
#undef MPSG_REDUCE

  Tensor reshape(Tensor x, Array shape) const {
    return send<Tensor>(raw(), OBJC_SEL("reshapeTensor:withShape:name:"), x, shape, String());
  }
  Tensor transpose(Tensor x, Array permutation) const {
    return send<Tensor>(raw(), OBJC_SEL("transposeTensor:permutation:name:"), x, permutation,
                        String());
  }
  Tensor broadcast(Tensor x, Array shape) const {
    return send<Tensor>(raw(), OBJC_SEL("broadcastTensor:toShape:name:"), x, shape, String());
  }
  Tensor arg_max(Tensor x, NSInteger axis) const {
    return send<Tensor>(raw(), OBJC_SEL("reductionArgMaximumWithTensor:axis:name:"), x, axis,
                        String());
  }
  Tensor arg_min(Tensor x, NSInteger axis) const {
    return send<Tensor>(raw(), OBJC_SEL("reductionArgMinimumWithTensor:axis:name:"), x, axis,
                        String());
  }
  Tensor tile(Tensor x, Array multiples) const {
    return send<Tensor>(raw(), OBJC_SEL("tileTensor:withMultiplier:name:"), x, multiples, String());
  }
  Tensor concat(Array tensors, NSInteger axis) const {
    return send<Tensor>(raw(), OBJC_SEL("concatTensors:dimension:name:"), tensors, axis, String());
  }
  Tensor stack(Array tensors, NSInteger axis) const {
    return send<Tensor>(raw(), OBJC_SEL("stackTensors:axis:name:"), tensors, axis, String());
  }
  Tensor slice(Tensor x, Array starts, Array ends, Array strides) const {
    return send<Tensor>(raw(), OBJC_SEL("sliceTensor:starts:ends:strides:name:"), x, starts, ends,
                        strides, String());
  }
  // Int32 indices along `axis` (of extent shape[axis]).
  Tensor coordinate(NSInteger axis, Array shape) const {
    return send<Tensor>(raw(), OBJC_SEL("coordinateAlongAxis:withShape:name:"), axis, shape,
                        String());
  }
};

}  // namespace mpsg
