#include "kernels/node.h"

#include <cstring>
#include <sstream>

#include "plugin/error.h"

namespace tfmetal {

int64_t element_count(const Shape& shape) {
  int64_t count = 1;
  for (int64_t extent : shape) count *= extent;
  return count;
}

std::string to_string(const Shape& shape) {
  std::ostringstream out;
  out << '[';
  for (size_t i = 0; i < shape.size(); ++i) out << (i ? "," : "") << shape[i];
  out << ']';
  return out.str();
}

std::string to_string(const TensorInfo& tensor) {
  return name_of(tensor.dtype) + to_string(tensor.shape);
}

int64_t canonical_axis(int64_t axis, size_t rank, const char* op) {
  const int64_t n = static_cast<int64_t>(rank);
  if (axis < -n || axis >= n) {
    throw_invalid_argument(op, ": axis ", axis, " is out of range [", -n, ", ", n,
                           ") for a tensor of rank ", rank);
  }
  return axis < 0 ? axis + n : axis;
}

std::vector<int64_t> Node::host_ints(size_t input) const {
  const auto read = [&]<class T>(T) {
    std::vector<T> values(static_cast<size_t>(inputs[input].count()));
    if (!values.empty()) std::memcpy(values.data(), host[input].data(), values.size() * sizeof(T));
    return std::vector<int64_t>(values.begin(), values.end());
  };
  switch (inputs[input].dtype) {
    case TF_INT64:
      return read(int64_t{});
    case TF_INT16:
      return read(int16_t{});
    default:
      return read(int32_t{});
  }
}

int64_t Node::host_int(size_t input) const {
  const std::vector<int64_t> values = host_ints(input);
  if (values.size() != 1) {
    throw_invalid_argument(op(), ": input ", input, " must be a scalar, but is ",
                           to_string(inputs[input]));
  }
  return values[0];
}

std::string Node::describe() const {
  std::string text = op() + "(";
  for (size_t i = 0; i < inputs.size(); ++i) text += (i ? ", " : "") + to_string(inputs[i]);
  return text + ")";
}

}  // namespace tfmetal
