// One TensorFlow node as lowerings see it: op, attributes, types and shapes of its inputs and
// outputs, and the values of its host inputs. The same for an eager op, a fused op and a cluster
// member.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grappler/graphdef/node_def.h"
#include "kernels/dtype.h"

namespace tfmetal {

using Shape = std::vector<int64_t>;

int64_t element_count(const Shape& shape);
std::string to_string(const Shape& shape);  // [2,3]
// `axis` counted from the end when negative. Throws InvalidArgument, naming `op`, out of range.
int64_t canonical_axis(int64_t axis, size_t rank, const char* op);

struct TensorInfo {
  TF_DataType dtype = TF_FLOAT;
  Shape shape;
  int64_t count() const { return element_count(shape); }
  size_t bytes() const { return static_cast<size_t>(count()) * size_of(dtype); }
  size_t rank() const { return shape.size(); }
};

// "float32[2,3]"
std::string to_string(const TensorInfo& tensor);

struct Node {
  std::shared_ptr<const NodeDef> def;
  std::vector<TensorInfo> inputs, outputs;
  std::vector<bool> is_host;      // per input: read on the host
  std::vector<std::string> host;  // per input: its bytes if it is a host input

  std::optional<double> constant_result;  // set by OpRow::infer: every element of the outputs

  const std::string& op() const { return def->op; }
  const TensorInfo& in(size_t i) const { return inputs[i]; }
  const TensorInfo& out(size_t i = 0) const { return outputs[i]; }

  // The elements of an int16, int32 or int64 host input.
  std::vector<int64_t> host_ints(size_t input) const;
  int64_t host_int(size_t input) const;  // of a host scalar

  // "MatMul(float32[2,3], float32[4,5])", for error messages.
  std::string describe() const;
};

}  // namespace tfmetal
