// GraphDef: a list of nodes, in order, and everything else as the bytes it came in.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "grappler/graphdef/node_def.h"

namespace tfmetal {

struct GraphDef {
  std::vector<NodeDef> nodes;
  std::string rest;  // function library, versions, debug information: fields as they came

  // Throws InvalidArgument if malformed. Serializing gives the bytes that TensorFlow serialized.
  static GraphDef parse(std::string_view bytes);
  std::string serialized() const;
};

// For people: one line per node, attributes sorted by name, so that two dumps can be compared.
//   dense/MatMul = MatMul(x, dense/kernel:1, ^init) @/device:GPU:0 {T=float, transpose_a=false}
std::string to_text(const GraphDef& graph);
std::string to_text(const NodeDef& node);
std::string to_text(const AttrValue& value);
// "float" for TF_FLOAT; "type 99" for what is not known.
std::string type_name(TF_DataType dtype);

}  // namespace tfmetal
