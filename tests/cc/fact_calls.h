// Makes the calls that facts are about: one function for each form of a selector.
#pragma once

#include "tests/cc/facts.h"

namespace facts {

// Call sites live forever: the runtime remembers which it has checked.
inline const objc::Selector& call_site(const std::string& selector) {
  static std::map<std::string, objc::Selector> sites;
  return sites.try_emplace(selector, selector.c_str()).first->second;
}

// A row with its operands fed: what the callers below need.
struct Call {
  const Fact& fact;
  Runner& runner;
  std::vector<mpsg::Tensor> inputs;

  id graph() const { return runner.graph().raw(); }
  long integer(const std::string& name) const { return std::stol(fact.attributes.at(name)); }
  bool boolean(const std::string& name) const { return fact.attributes.at(name) == "true"; }
  std::vector<long> list(const std::string& name) const {
    std::vector<long> values;
    const std::string& text = fact.attributes.at(name);
    for (const std::string& item : split(text.substr(1, text.size() - 2), ',')) {
      if (!item.empty()) values.push_back(std::stol(item));
    }
    return values;
  }
  ns::Array array(const std::string& name) const {
    return fact.attributes.at(name) == "nil" ? ns::Array() : ns::Array::numbers(list(name));
  }
  mpsg::Tensor constant(const std::string& name) const {
    const std::vector<long> values = list(name);
    return runner.constant(raw_value(DataType::Int32, {long(values.size())},
                                     std::vector<int32_t>(values.begin(), values.end())));
  }
  double number(const std::string& name) const { return std::stod(fact.attributes.at(name)); }
  DataType type(const std::string& name) const { return type_named(fact.attributes.at(name)); }
  ns::Array tensors() const {
    std::vector<id> items;
    for (const mpsg::Tensor& tensor : inputs) items.push_back(tensor.raw());
    return ns::Array::make(items);
  }
  template <class... A>
  std::vector<mpsg::Tensor> one(const A&... arguments) const {
    return {ns::send<mpsg::Tensor>(graph(), call_site(fact.selector), arguments..., ns::String())};
  }
  template <class... A>
  std::vector<mpsg::Tensor> many(const A&... arguments) const {
    const auto array =
        ns::send<ns::Array>(graph(), call_site(fact.selector), arguments..., ns::String());
    std::vector<mpsg::Tensor> result;
    for (NSUInteger i = 0; i < array.count(); ++i) result.emplace_back(array[i]);
    return result;
  }
};
using Caller = std::vector<mpsg::Tensor> (*)(const Call&);

inline std::vector<mpsg::Tensor> unary(const Call& c) { return c.one(c.inputs[0]); }
inline std::vector<mpsg::Tensor> binary(const Call& c) { return c.one(c.inputs[0], c.inputs[1]); }
inline std::vector<mpsg::Tensor> with_axis(const Call& c) {
  return c.one(c.inputs[0], NSInteger(c.integer("axis")));
}
inline std::vector<mpsg::Tensor> with_axes(const Call& c) {
  return c.one(c.inputs[0], c.array("axes"));
}
inline std::vector<mpsg::Tensor> with_shape(const Call& c) {
  return c.one(c.inputs[0], c.array("shape"));
}
inline std::vector<mpsg::Tensor> scan(const Call& c) {
  return c.one(c.inputs[0], NSInteger(c.integer("axis")), c.boolean("exclusive"),
               c.boolean("reverse"));
}
inline uint32_t mask(const Call& c, const char* name) { return uint32_t(c.integer(name)); }
inline NSInteger padding_mode(const Call& c) {
  const std::map<std::string, NSInteger> modes = {{"Constant", 0},  {"Reflect", 1},
                                                  {"Symmetric", 2}, {"ClampToEdge", 3},
                                                  {"Zero", 4},      {"Periodic", 5}};
  return modes.at(c.fact.attributes.at("paddingMode"));
}

// ---- convolutions ----------------------------------------------------------------------------
// stride and dilation list the axes as the tensors do: [depth,] height, width; padding has two
// numbers for each.

inline mpsg::WindowAxis window_axis(const Call& c, size_t axis) {
  const std::vector<long> padding = c.list("padding");
  return {NSUInteger(c.list("stride")[axis]), NSUInteger(c.list("dilation")[axis]),
          NSUInteger(padding[2 * axis]), NSUInteger(padding[2 * axis + 1])};
}
inline bool is_channels_last(const Call& c) { return c.fact.attributes.at("layout") == "NHWC"; }

inline mpsg::Convolution2D convolution_2d(const Call& c) {
  return mpsg::Convolution2D::make(window_axis(c, 1), window_axis(c, 0),
                                   NSUInteger(c.integer("groups")),
                                   is_channels_last(c) ? mpsg::Layout::NHWC : mpsg::Layout::NCHW);
}
inline mpsg::Convolution3D convolution_3d(const Call& c) {
  return mpsg::Convolution3D::make(window_axis(c, 2), window_axis(c, 1), window_axis(c, 0),
                                   NSUInteger(c.integer("groups")),
                                   is_channels_last(c) ? mpsg::Layout::NDHWC : mpsg::Layout::NCDHW);
}
inline mpsg::Depthwise2D depthwise_2d(const Call& c) {
  return mpsg::Depthwise2D::make(window_axis(c, 1), window_axis(c, 0),
                                 is_channels_last(c) ? mpsg::Layout::NHWC : mpsg::Layout::NCHW);
}
template <auto describe>
std::vector<mpsg::Tensor> convolve(const Call& c) {
  return c.one(c.inputs[0], c.inputs[1], describe(c));
}
template <auto describe>
std::vector<mpsg::Tensor> convolve_gradient(const Call& c) {
  return c.one(c.inputs[0], c.inputs[1], c.array("shape"), describe(c));
}
#define CONVOLUTION_CALLS(stem, describe, role)                                                \
  {stem "WithSourceTensor:weightsTensor:descriptor:name:", convolve<describe>},                \
      {stem "DataGradientWithIncomingGradientTensor:weightsTensor:outputShape:" role ":name:", \
       convolve_gradient<describe>},                                                           \
  {                                                                                            \
    stem "WeightsGradientWithIncomingGradientTensor:sourceTensor:outputShape:" role ":name:",  \
        convolve_gradient<describe>                                                            \
  }

// ---- all forms -------------------------------------------------------------------------------

inline const std::map<std::string, Caller> kCallers = {
    CONVOLUTION_CALLS("convolution2D", convolution_2d, "forwardConvolutionDescriptor"),
    CONVOLUTION_CALLS("convolution3D", convolution_3d, "forwardConvolutionDescriptor"),
    CONVOLUTION_CALLS("depthwiseConvolution2D", depthwise_2d, "descriptor"),
    {"normalizationWithTensor:meanTensor:varianceTensor:gammaTensor:betaTensor:epsilon:name:",
     [](const Call& c) {
       const auto optional = [&](size_t i) {
         return i < c.inputs.size() ? c.inputs[i] : mpsg::Tensor();
       };
       return c.one(c.inputs[0], c.inputs[1], c.inputs[2], optional(3), optional(4),
                    float(c.number("epsilon")));
     }},
    {"scaledDotProductAttentionWithQueryTensor:keyTensor:valueTensor:maskTensor:scale:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.inputs[1], c.inputs[2],
                    c.inputs.size() > 3 ? c.inputs[3] : mpsg::Tensor(), float(c.number("scale")));
     }},
    {"normalizationGammaGradientWithIncomingGradientTensor:sourceTensor:meanTensor:"
     "varianceTensor:reductionAxes:epsilon:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.inputs[1], c.inputs[2], c.inputs[3], c.array("reductionAxes"),
                    float(c.number("epsilon")));
     }},
    {"normalizationGradientWithIncomingGradientTensor:sourceTensor:meanTensor:varianceTensor:"
     "gammaTensor:gammaGradientTensor:betaGradientTensor:reductionAxes:epsilon:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.inputs[1], c.inputs[2], c.inputs[3], c.inputs[4], c.inputs[5],
                    c.inputs[6], c.array("reductionAxes"), float(c.number("epsilon")));
     }},
    {"selectWithPredicateTensor:truePredicateTensor:falsePredicateTensor:name:",
     [](const Call& c) { return c.one(c.inputs[0], c.inputs[1], c.inputs[2]); }},
    {"castTensor:toType:name:", [](const Call& c) { return c.one(c.inputs[0], c.type("toType")); }},
    {"bandPartWithTensor:numLower:numUpper:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], NSInteger(c.integer("numLower")),
                    NSInteger(c.integer("numUpper")));
     }},
    {"sliceTensor:starts:ends:strides:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.array("starts"), c.array("ends"), c.array("strides"));
     }},
    {"placeholderWithShape:dataType:name:",
     [](const Call& c) { return c.one(c.array("shape"), c.type("dataType")); }},
    {"constantWithScalar:dataType:",
     [](const Call& c) {
       return std::vector<mpsg::Tensor>{
           c.runner.graph().constant(c.number("scalar"), c.type("dataType"))};
     }},
    {"constantWithScalar:shape:dataType:",
     [](const Call& c) {
       return std::vector<mpsg::Tensor>{
           c.runner.graph().constant(c.number("scalar"), c.array("shape"), c.type("dataType"))};
     }},
    {"varianceOfTensor:meanTensor:axes:name:",
     [](const Call& c) { return c.one(c.inputs[0], c.inputs[1], c.array("axes")); }},
    {"reshapeTensor:withShape:name:", with_shape},
    {"broadcastTensor:toShape:name:", with_shape},
    {"expandDimsOfTensor:axis:name:", with_axis},
    {"flatten2DTensor:axis:name:", with_axis},
    {"squeezeTensor:name:", unary},
    {"nonZeroIndicesOfTensor:name:", unary},
    {"tileTensor:withMultiplier:name:",
     [](const Call& c) { return c.one(c.inputs[0], c.array("multiplier")); }},
    {"transposeTensor:permutation:name:",
     [](const Call& c) { return c.one(c.inputs[0], c.array("permutation")); }},
    {"transposeTensor:dimension:withDimension:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], NSUInteger(c.integer("dimension")),
                    NSUInteger(c.integer("withDimension")));
     }},
    {"concatTensors:dimension:name:",
     [](const Call& c) { return c.one(c.tensors(), NSInteger(c.integer("dimension"))); }},
    {"concatTensors:dimension:interleave:name:",
     [](const Call& c) {
       return c.one(c.tensors(), NSInteger(c.integer("dimension")), c.boolean("interleave"));
     }},
    {"stackTensors:axis:name:",
     [](const Call& c) { return c.one(c.tensors(), NSInteger(c.integer("axis"))); }},
    {"splitTensor:splitSizes:axis:name:",
     [](const Call& c) {
       return c.many(c.inputs[0], c.array("splitSizes"), NSInteger(c.integer("axis")));
     }},
    {"splitTensor:splitSizesTensor:axis:name:",
     [](const Call& c) { return c.many(c.inputs[0], c.inputs[1], NSInteger(c.integer("axis"))); }},
    {"splitTensor:numSplits:axis:name:",
     [](const Call& c) {
       return c.many(c.inputs[0], NSUInteger(c.integer("numSplits")), NSInteger(c.integer("axis")));
     }},
    {"sliceTensor:dimension:start:length:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], NSUInteger(c.integer("dimension")), NSInteger(c.integer("start")),
                    NSInteger(c.integer("length")));
     }},
    {"sliceTensor:starts:ends:strides:startMask:endMask:squeezeMask:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.array("starts"), c.array("ends"), c.array("strides"),
                    mask(c, "startMask"), mask(c, "endMask"), mask(c, "squeezeMask"));
     }},
    {"sliceGradientTensor:fwdInShapeTensor:starts:ends:strides:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.constant("fwdInShape"), c.array("starts"), c.array("ends"),
                    c.array("strides"));
     }},
    {"sliceUpdateDataTensor:updateTensor:starts:ends:strides:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.inputs[1], c.array("starts"), c.array("ends"),
                    c.array("strides"));
     }},
    {"sliceUpdateDataTensor:updateTensor:starts:ends:strides:startMask:endMask:squeezeMask:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.inputs[1], c.array("starts"), c.array("ends"),
                    c.array("strides"), mask(c, "startMask"), mask(c, "endMask"),
                    mask(c, "squeezeMask"));
     }},
    {"coordinateAlongAxis:withShape:name:",
     [](const Call& c) { return c.one(NSInteger(c.integer("axis")), c.array("shape")); }},
    {"coordinateAlongAxis:withShapeTensor:name:",
     [](const Call& c) {
       const mpsg::Tensor shape = c.inputs.empty() ? c.constant("shapeTensor") : c.inputs[0];
       return c.one(NSInteger(c.integer("axis")), shape);
     }},
    {"coordinateAlongAxisTensor:withShape:name:", with_shape},
    {"constantWithData:shape:dataType:",
     [](const Call& c) {
       const int32_t zero = 0;
       return std::vector<mpsg::Tensor>{ns::send<mpsg::Tensor>(
           c.graph(), call_site(c.fact.selector), ns::Data::make(&zero, sizeof zero),
           c.array("shape"), DataType::Int32)};
     }},
    {"padTensor:withPaddingMode:leftPadding:rightPadding:constantValue:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], padding_mode(c), c.array("leftPadding"), c.array("rightPadding"),
                    double(c.integer("constantValue")));
     }},
    {"padGradientWithIncomingGradientTensor:sourceTensor:paddingMode:leftPadding:rightPadding:"
     "name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.inputs[1], padding_mode(c), c.array("leftPadding"),
                    c.array("rightPadding"));
     }},
    {"spaceToDepth2DTensor:widthAxis:heightAxis:depthAxis:blockSize:usePixelShuffleOrder:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], NSUInteger(c.integer("widthAxis")),
                    NSUInteger(c.integer("heightAxis")), NSUInteger(c.integer("depthAxis")),
                    NSUInteger(c.integer("blockSize")), c.boolean("usePixelShuffleOrder"));
     }},
    {"depthToSpace2DTensor:widthAxis:heightAxis:depthAxis:blockSize:usePixelShuffleOrder:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], NSUInteger(c.integer("widthAxis")),
                    NSUInteger(c.integer("heightAxis")), NSUInteger(c.integer("depthAxis")),
                    NSUInteger(c.integer("blockSize")), c.boolean("usePixelShuffleOrder"));
     }},
    {"spaceToBatchTensor:spatialAxes:batchAxis:blockDimensions:usePixelShuffleOrder:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.array("spatialAxes"), NSInteger(c.integer("batchAxis")),
                    c.array("blockDimensions"), c.boolean("usePixelShuffleOrder"));
     }},
    {"batchToSpaceTensor:spatialAxes:batchAxis:blockDimensions:usePixelShuffleOrder:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.array("spatialAxes"), NSInteger(c.integer("batchAxis")),
                    c.array("blockDimensions"), c.boolean("usePixelShuffleOrder"));
     }},
};

inline bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Families whose selectors say their form; null for a form that is not known.
inline Caller caller_of(const std::string& selector) {
  const auto found = kCallers.find(selector);
  if (found != kCallers.end()) return found->second;
  const std::map<std::string, Caller> endings = {
      {"WithTensor:name:", unary},
      {"WithPrimaryTensor:secondaryTensor:name:", binary},
      {"WithIncomingGradient:sourceTensor:name:", binary},
      {"Tensor:axis:name:", with_axis},
      {"Tensor:axes:name:", with_axes},
      {"WithTensor:axis:exclusive:reverse:name:", scan}};
  for (const auto& [ending, caller] : endings) {
    if (ends_with(selector, ending)) return caller;
  }
  return nullptr;
}

inline bool implemented(const Runner& runner, const std::string& selector) {
  return ns::send<bool>(runner.graph().raw(), OBJC_SEL("respondsToSelector:"),
                        sel_registerName(selector.c_str()));
}

// The call of a fact, its operands fed.
inline std::vector<mpsg::Tensor> call(const Fact& fact, Runner& runner) {
  Call c{fact, runner, {}};
  for (const FactTensor& input : fact.inputs) c.inputs.push_back(runner.feed(input.value));
  return caller_of(fact.selector)(c);
}

}  // namespace facts
