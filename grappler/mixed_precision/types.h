// What automatic mixed precision asks about types: of attributes, tensors and constants.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "grappler/graphdef/node_def.h"

namespace tfmetal {

// The type attributes of arguments that are float32, or lists in which it is, but those that the op
// keeps (OpRow::keeps_type); and what a node that makes a TensorList says of its elements.
std::vector<std::string> float_attrs(const NodeDef& node);

// Those of them that can be `target` together: all if there is a kernel, else the first alone that
// there is one for (FusedBatchNormV3 keeps its statistics in float32). Empty when there is none.
std::vector<std::string> changeable_attrs(const NodeDef& node, TF_DataType target);

// `target` in the place of float32 in these attributes.
AttrValue changed(const AttrValue& types, TF_DataType target);

// For each input or output tensor, whether it is float32 by one of these attributes.
std::vector<bool> input_flags(const NodeDef& node, const std::vector<std::string>& attrs);
std::vector<bool> output_flags(const NodeDef& node, const std::vector<std::string>& attrs);

// A finite element that would become infinite, or, if it is the only element, one that is not zero
// and below the smallest normal number.
std::optional<double> number_out_of_range(const TensorProto& value, TF_DataType target);

// The constant, float32, rounded to the nearest, ties to even.
TensorProto rounded(const TensorProto& value, TF_DataType target);

}  // namespace tfmetal
