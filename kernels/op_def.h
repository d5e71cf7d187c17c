// An op's definition as TensorFlow registered it: which inputs belong to which argument. Read once
// per op from TensorFlow, so nothing about ops is listed twice.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "grappler/graphdef/node_def.h"

namespace tfmetal {

struct ArgDef {
  std::string name;
  TF_DataType type = TF_DataType(0);  // float of `x: float`; 0: an attribute tells
  std::string type_attr;              // T of `x: T`
  std::string number_attr;            // N of `values: N * T`
  std::string type_list_attr;         // T of `components: T` with a list of types
  bool is_list() const { return !number_attr.empty() || !type_list_attr.empty(); }
};

struct OpDef {
  std::string name;
  std::vector<ArgDef> inputs, outputs;
  bool stateful = false;  // has an effect, or another result each time
  std::map<std::string, std::vector<TF_DataType>> allowed_types;  // of type attributes; none: any
};

// Throws NotFound when this TensorFlow has no such op.
const OpDef& op_def(const std::string& op);

// How many tensors `arg` stands for in a node.
size_t arg_length(const ArgDef& arg, const NodeDef& node);

// For each input tensor of `node`, the name of its argument.
std::vector<std::string> input_names(const NodeDef& node);
size_t output_count(const NodeDef& node);

// The type of each tensor. Throw InvalidArgument when `node` lacks an attribute.
std::vector<TF_DataType> input_types(const NodeDef& node);
std::vector<TF_DataType> output_types(const NodeDef& node);

}  // namespace tfmetal
