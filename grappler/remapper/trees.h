// Parts that several patterns have in common.
#pragma once

#include "grappler/remapper/pattern.h"

namespace tfmetal {

// An activation function of `x`: one op, or one of the compositions of activation.cc.
Tree activation(const Tree& x);

// Batch normalization of `x` with given mean and variance, as Keras 3 and tf.nn write it or as one
// op; with another tensor ("other") added if TensorFlow has moved that inside.
Tree batch_norm(const Tree& x);

// What often follows a convolution or a product: bias, batch normalization, the sum with another
// tensor ("other"), an activation. Each may be missing.
Tree with_epilogue(const Tree& x);

// The tree with all its nodes readable from outside: a gradient reads what the forward pass made.
Tree all_shared(Tree tree);

// Ops of a kind.
inline constexpr char kConvolutions[] =
    "Conv2D|DepthwiseConv2dNative|Conv3D|Conv2DBackpropInput|Conv3DBackpropInputV2|"
    "DepthwiseConv2dNativeBackpropInput";
inline constexpr char kProducts[] = "MatMul|BatchMatMul|BatchMatMulV2|BatchMatMulV3|Einsum";
inline constexpr char kActivations[] =
    "Relu|Relu6|Elu|Selu|LeakyRelu|Tanh|Sigmoid|Softplus|Softsign|Exp";
inline constexpr char kActivationGradients[] =
    "ReluGrad|Relu6Grad|EluGrad|SeluGrad|LeakyReluGrad|TanhGrad|SigmoidGrad|SoftplusGrad|"
    "SoftsignGrad";
inline constexpr char kBatchNorms[] = "FusedBatchNorm|FusedBatchNormV2|FusedBatchNormV3";

// (name, what it stands for) in the texts of patterns.
std::vector<std::pair<std::string, std::string>> described_parts();

// The condition of with_epilogue: what is added to `into` does not make it larger.
extern const Condition kSumKeepsShape;

}  // namespace tfmetal
