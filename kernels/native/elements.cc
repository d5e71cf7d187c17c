#include "kernels/native/elements.h"

#include "plugin/error.h"

namespace tfmetal {

ElementType element_type(TF_DataType dtype) {
  switch (dtype) {
    case TF_FLOAT:
      return kElementFloat;
    case TF_HALF:
      return kElementHalf;
    case TF_BFLOAT16:
      return kElementBFloat;
    case TF_INT8:
      return kElementChar;
    case TF_INT16:
      return kElementShort;
    case TF_INT32:
      return kElementInt;
    case TF_INT64:
      return kElementLong;
    case TF_UINT8:
      return kElementUChar;
    case TF_UINT16:
      return kElementUShort;
    case TF_UINT32:
      return kElementUInt;
    case TF_UINT64:
      return kElementULong;
    case TF_COMPLEX64:
      return kElementComplex;
    default:
      return kElementBool;
  }
}

namespace {

// Strides of `shape` where it meets an output of the same rank: 0 along broadcast axes.
void broadcast_strides(const Shape& shape, unsigned* strides) {
  unsigned stride = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = shape[axis] == 1 ? 0 : stride;
    stride *= static_cast<unsigned>(shape[axis]);
  }
}

}  // namespace

BroadcastArguments broadcast_arguments(const Node& node, unsigned op, size_t a, size_t b) {
  const Shape& out = node.out().shape;
  if (out.size() > MAX_SHADER_RANK) {
    throw_invalid_argument(node.describe(), ": Broadcast between ", to_string(node.in(a).shape),
                           " and ", to_string(node.in(b).shape), " is not supported yet.");
  }
  BroadcastArguments result = {};
  result.op = op;
  result.rank = static_cast<unsigned>(out.size());
  for (size_t axis = 0; axis < out.size(); ++axis) {
    result.extents[axis] = static_cast<unsigned>(out[axis]);
  }
  broadcast_strides(node.in(a).shape, result.a_strides);
  broadcast_strides(node.in(b).shape, result.b_strides);
  return result;
}

}  // namespace tfmetal
