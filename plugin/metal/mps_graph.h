// MPSGraph: graphs, their compilation and their encoding.
// https://developer.apple.com/documentation/metalperformanceshadersgraph
// What each method means, edge cases included, is written down where the host implements it
// (plugin/host/mps_graph). Tensors belong to their graph and live as long as it does.
#pragma once

#include "plugin/metal/mps.h"
#include "plugin/metal/mps_convolution.h"

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

enum class PaddingMode : NSInteger {
  Constant = 0,
  Reflect = 1,
  Symmetric = 2,
  ClampToEdge = 3,
  Zero = 4,
};
enum class ScatterMode : NSInteger {
  Add = 0,
  Sub = 1,
  Mul = 2,
  Div = 3,
  Min = 4,
  Max = 5,
  Set = 6,
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
  MPSG_UNARY(ceil, "ceil")
  MPSG_UNARY(floor, "floor")
  MPSG_UNARY(rint, "rint")
  MPSG_UNARY(sin, "sin")
  MPSG_UNARY(cos, "cos")
  MPSG_UNARY(tanh, "tanh")
  MPSG_UNARY(erf, "erf")
  MPSG_UNARY(sigmoid, "sigmoid")
  MPSG_UNARY(logical_not, "not")
  MPSG_UNARY(exp2, "exponentBase2")
  MPSG_UNARY(exp10, "exponentBase10")
  MPSG_UNARY(log2, "logarithmBase2")
  MPSG_UNARY(log10, "logarithmBase10")
  MPSG_UNARY(reciprocal_square_root, "reciprocalSquareRoot")  // macOS 15: another name of rsqrt
  MPSG_UNARY(signbit, "signbit")
  MPSG_UNARY(round, "round")  // half away from zero
  MPSG_UNARY(truncate, "truncate")
  MPSG_UNARY(tan, "tan")
  MPSG_UNARY(sinh, "sinh")
  MPSG_UNARY(cosh, "cosh")
  MPSG_UNARY(asin, "asin")
  MPSG_UNARY(acos, "acos")
  MPSG_UNARY(atan, "atan")
  MPSG_UNARY(asinh, "asinh")
  MPSG_UNARY(acosh, "acosh")
  MPSG_UNARY(atanh, "atanh")
  MPSG_UNARY(relu, "reLU")
  MPSG_UNARY(bitwise_not, "bitwiseNOT")
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
  MPSG_BINARY(modulo, "modulo")
  MPSG_BINARY(atan2, "atan2")
  MPSG_BINARY(minimum, "minimum")  // a NaN operand loses
  MPSG_BINARY(maximum, "maximum")
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
  MPSG_BINARY(logical_nand, "logicalNAND")
  MPSG_BINARY(logical_nor, "logicalNOR")
  MPSG_BINARY(logical_xor, "logicalXOR")
  MPSG_BINARY(logical_xnor, "logicalXNOR")
  MPSG_BINARY(bitwise_and, "bitwiseAND")
  MPSG_BINARY(bitwise_or, "bitwiseOR")
  MPSG_BINARY(bitwise_xor, "bitwiseXOR")
  MPSG_BINARY(bitwise_left_shift, "bitwiseLeftShift")
  MPSG_BINARY(bitwise_right_shift, "bitwiseRightShift")
  MPSG_BINARY(matmul, "matrixMultiplication")
#undef MPSG_UNARY
#undef MPSG_BINARY

  // predicate ? a : b, all three broadcast.
  Tensor select(Tensor predicate, Tensor a, Tensor b) const {
    return send<Tensor>(
        raw(), OBJC_SEL("selectWithPredicateTensor:truePredicateTensor:falsePredicateTensor:name:"),
        predicate, a, b, String());
  }
  // min(max(x, low), high), all three broadcast.
  Tensor clamp(Tensor x, Tensor low, Tensor high) const {
    return send<Tensor>(raw(), OBJC_SEL("clampWithTensor:minValueTensor:maxValueTensor:name:"), x,
                        low, high, String());
  }
  // Both gradients take the input of the forward operation.
  Tensor relu_gradient(Tensor gradient, Tensor x) const {
    return send<Tensor>(raw(), OBJC_SEL("reLUGradientWithIncomingGradient:sourceTensor:name:"),
                        gradient, x, String());
  }
  Tensor sigmoid_gradient(Tensor gradient, Tensor x) const {
    return send<Tensor>(raw(), OBJC_SEL("sigmoidGradientWithIncomingGradient:sourceTensor:name:"),
                        gradient, x, String());
  }
  Tensor leaky_relu(Tensor x, double alpha) const {
    return send<Tensor>(raw(), OBJC_SEL("leakyReLUWithTensor:alpha:name:"), x, alpha, String());
  }
  Tensor softmax(Tensor x, NSInteger axis) const {
    return send<Tensor>(raw(), OBJC_SEL("softMaxWithTensor:axis:name:"), x, axis, String());
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
  MPSG_REDUCE(max, "reductionMaximumWithTensor:axes:name:")  // NaN is skipped
  MPSG_REDUCE(min, "reductionMinimumWithTensor:axes:name:")
  MPSG_REDUCE(mean, "meanOfTensor:axes:name:")
  MPSG_REDUCE(reduce_and, "reductionAndWithTensor:axes:name:")  // last four axes only
  MPSG_REDUCE(reduce_or, "reductionOrWithTensor:axes:name:")
  MPSG_REDUCE(variance, "varianceOfTensor:axes:name:")  // of the population
#undef MPSG_REDUCE
  // Int32; -1 where all elements are NaN.
  Tensor arg_max(Tensor x, NSInteger axis) const {
    return send<Tensor>(raw(), OBJC_SEL("reductionArgMaximumWithTensor:axis:name:"), x, axis,
                        String());
  }
  Tensor arg_min(Tensor x, NSInteger axis) const {
    return send<Tensor>(raw(), OBJC_SEL("reductionArgMinimumWithTensor:axis:name:"), x, axis,
                        String());
  }
  // Scans along one of the last four axes.
#define MPSG_SCAN(method, stem)                                                                   \
  Tensor method(Tensor x, NSInteger axis, bool exclusive, bool reverse) const {                   \
    return send<Tensor>(raw(), OBJC_SEL(stem "WithTensor:axis:exclusive:reverse:name:"), x, axis, \
                        exclusive, reverse, String());                                            \
  }
  MPSG_SCAN(cumulative_sum, "cumulativeSum")
  MPSG_SCAN(cumulative_product, "cumulativeProduct")
  MPSG_SCAN(cumulative_max, "cumulativeMaximum")
  MPSG_SCAN(cumulative_min, "cumulativeMinimum")
#undef MPSG_SCAN

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
  // A copy of `data` with the region replaced by `update`, which has the region's shape. macOS 15.
  Tensor slice_update(Tensor data, Tensor update, Array starts, Array ends, Array strides) const {
    return send<Tensor>(raw(),
                        OBJC_SEL("sliceUpdateDataTensor:updateTensor:starts:ends:strides:name:"),
                        data, update, starts, ends, strides, String());
  }
  // `left` and `right`: elements to add on each axis.
  Tensor pad(Tensor x, PaddingMode mode, Array left, Array right, double value) const {
    return send<Tensor>(
        raw(), OBJC_SEL("padTensor:withPaddingMode:leftPadding:rightPadding:constantValue:name:"),
        x, mode, left, right, value, String());
  }
  // An empty list of axes means all of them.
  Tensor reverse(Tensor x, Array axes) const {
    return send<Tensor>(raw(), OBJC_SEL("reverseTensor:axes:name:"), x, axes, String());
  }
  // An array of tensors.
  Array split(Tensor x, Array sizes, NSInteger axis) const {
    return send<Array>(raw(), OBJC_SEL("splitTensor:splitSizes:axis:name:"), x, sizes, axis,
                       String());
  }
  Tensor squeeze(Tensor x, Array axes) const {
    return send<Tensor>(raw(), OBJC_SEL("squeezeTensor:axes:name:"), x, axes, String());
  }
  // `axes` are positions in the result.
  Tensor expand_dims(Tensor x, Array axes) const {
    return send<Tensor>(raw(), OBJC_SEL("expandDimsOfTensor:axes:name:"), x, axes, String());
  }
  // The bits under another type; the last extent scales. Rank 0 is not accepted. macOS 13.2.
  Tensor reinterpret_cast_to(Tensor x, DataType to) const {
    return send<Tensor>(raw(), OBJC_SEL("reinterpretCastTensor:toType:name:"), x, to, String());
  }
  // TensorFlow's GatherV2 and GatherNd. 32 and 64-bit integers lose bits above 2^24, and an index
  // out of range is undefined: check before.
  Tensor gather(Tensor x, Tensor indices, NSUInteger axis, NSUInteger batch_dimensions) const {
    return send<Tensor>(
        raw(), OBJC_SEL("gatherWithUpdatesTensor:indicesTensor:axis:batchDimensions:name:"), x,
        indices, axis, batch_dimensions, String());
  }
  Tensor gather_nd(Tensor x, Tensor indices, NSUInteger batch_dimensions) const {
    return send<Tensor>(raw(),
                        OBJC_SEL("gatherNDWithUpdatesTensor:indicesTensor:batchDimensions:name:"),
                        x, indices, batch_dimensions, String());
  }
  // numpy's take_along_axis; an index out of range gives 0.
  Tensor gather_along(Tensor x, Tensor indices, NSInteger axis) const {
    return send<Tensor>(raw(), OBJC_SEL("gatherAlongAxis:withUpdatesTensor:indicesTensor:name:"),
                        axis, x, indices, String());
  }
  // `data` combined with `updates` at the tuples in the last axis of `indices`.
  Tensor scatter_nd(Tensor data, Tensor updates, Tensor indices, NSUInteger batch_dimensions,
                    ScatterMode mode) const {
    return send<Tensor>(
        raw(),
        OBJC_SEL("scatterNDWithDataTensor:updatesTensor:indicesTensor:batchDimensions:mode:name:"),
        data, updates, indices, batch_dimensions, mode, String());
  }
  Tensor one_hot(Tensor indices, NSUInteger depth, NSUInteger axis, DataType type, double on,
                 double off) const {
    return send<Tensor>(
        raw(), OBJC_SEL("oneHotWithIndicesTensor:depth:axis:dataType:onValue:offValue:name:"),
        indices, depth, axis, type, on, off, String());
  }
  // Keeps a band of the last two axes; negative: the whole triangle.
  Tensor band_part(Tensor x, NSInteger lower, NSInteger upper) const {
    return send<Tensor>(raw(), OBJC_SEL("bandPartWithTensor:numLower:numUpper:name:"), x, lower,
                        upper, String());
  }
  // (x - mean) / sqrt(variance + epsilon) * gamma + beta; statistics have extent 1 on reduced axes.
  Tensor normalize(Tensor x, Tensor mean, Tensor variance, Tensor gamma, Tensor beta,
                   float epsilon) const {
    return send<Tensor>(
        raw(),
        OBJC_SEL("normalizationWithTensor:meanTensor:varianceTensor:gammaTensor:betaTensor:"
                 "epsilon:name:"),
        x, mean, variance, gamma, beta, epsilon, String());
  }
  // The gradient for gamma, and the one for x when the statistics are those of x.
  Tensor normalize_gamma_gradient(Tensor dy, Tensor x, Tensor mean, Tensor variance, Array axes,
                                  float epsilon) const {
    return send<Tensor>(
        raw(),
        OBJC_SEL("normalizationGammaGradientWithIncomingGradientTensor:sourceTensor:meanTensor:"
                 "varianceTensor:reductionAxes:epsilon:name:"),
        dy, x, mean, variance, axes, epsilon, String());
  }
  Tensor normalize_gradient(Tensor dy, Tensor x, Tensor mean, Tensor variance, Tensor gamma,
                            Tensor gamma_gradient, Tensor beta_gradient, Array axes,
                            float epsilon) const {
    return send<Tensor>(
        raw(),
        OBJC_SEL("normalizationGradientWithIncomingGradientTensor:sourceTensor:meanTensor:"
                 "varianceTensor:gammaTensor:gammaGradientTensor:betaGradientTensor:"
                 "reductionAxes:epsilon:name:"),
        dy, x, mean, variance, gamma, gamma_gradient, beta_gradient, axes, epsilon, String());
  }
  // The gradients take the shape of what they are the gradient for and the forward's descriptor.
#define MPSG_CONVOLUTION(method, Descriptor, stem, role)                                         \
  Tensor method(Tensor x, Tensor weights, Descriptor how) const {                                \
    return send<Tensor>(raw(), OBJC_SEL(stem "WithSourceTensor:weightsTensor:descriptor:name:"), \
                        x, weights, how, String());                                              \
  }                                                                                              \
  Tensor method##_data_gradient(Tensor dy, Tensor weights, Array shape, Descriptor how) const {  \
    return send<Tensor>(                                                                         \
        raw(),                                                                                   \
        OBJC_SEL(stem "DataGradientWithIncomingGradientTensor:weightsTensor:outputShape:" role   \
                      ":name:"),                                                                 \
        dy, weights, shape, how, String());                                                      \
  }                                                                                              \
  Tensor method##_weights_gradient(Tensor dy, Tensor x, Array shape, Descriptor how) const {     \
    return send<Tensor>(                                                                         \
        raw(),                                                                                   \
        OBJC_SEL(stem "WeightsGradientWithIncomingGradientTensor:sourceTensor:outputShape:" role \
                      ":name:"),                                                                 \
        dy, x, shape, how, String());                                                            \
  }
  MPSG_CONVOLUTION(convolution, Convolution2D, "convolution2D", "forwardConvolutionDescriptor")
  MPSG_CONVOLUTION(convolution, Convolution3D, "convolution3D", "forwardConvolutionDescriptor")
  // Gradients are right for a channel multiplier of 1 only.
  MPSG_CONVOLUTION(depthwise, Depthwise2D, "depthwiseConvolution2D", "descriptor")
#undef MPSG_CONVOLUTION
  // softmax(scale * q . k^T + mask) . v of [batch, heads, rows, features]. No mask: a null tensor.
  // macOS 15.
  Tensor attention(Tensor q, Tensor k, Tensor v, Tensor mask, float scale) const {
    return send<Tensor>(raw(),
                        OBJC_SEL("scaledDotProductAttentionWithQueryTensor:keyTensor:valueTensor:"
                                 "maskTensor:scale:name:"),
                        q, k, v, mask, scale, String());
  }
  // Int32 indices along `axis` (of extent shape[axis]).
  Tensor coordinate(NSInteger axis, Array shape) const {
    return send<Tensor>(raw(), OBJC_SEL("coordinateAlongAxis:withShape:name:"), axis, shape,
                        String());
  }
};

}  // namespace mpsg
