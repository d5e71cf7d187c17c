// Slices and their updates. The rules for starts, ends and strides are TensorFlow's: negatives
// count from the end, ends are clamped, negative strides walk backwards, stride 0 aborts; an empty
// result builds and aborts when it runs (M). Masks are bit sets, bit i for axis i (D).
#include <algorithm>

#include "plugin/host/mps_graph/graph.h"
#include "plugin/host/mps_graph/strided_copy.h"

namespace host {
namespace {

struct Masks {
  uint32_t start = 0, end = 0, squeeze = 0;
};

// The region of a tensor that a slice addresses.
struct Region {
  Shape shape;     // all axes
  Shape strides;   // in elements of the whole tensor
  Shape squeezed;  // the shape without squeezed axes
  long first = 0;  // offset in elements
};

Region make_region(const Shape& shape, const Shape& starts, const Shape& ends, const Shape& steps,
                   const Masks& masks) {
  const size_t rank = shape.size();
  if (starts.size() != rank || ends.size() != rank || steps.size() != rank) {
    abort_inference("mps.strided_slice", "starts, ends and strides must be as long as the rank");
  }
  Region region;
  const Shape own = strides_of(shape);
  for (size_t i = 0; i < rank; ++i) {
    const long extent = shape[i], step = steps[i];
    const auto in_mask = [&](uint32_t mask) { return i < 32 && (mask >> i & 1); };
    if (step == 0) abort_inference("mps.strided_slice", "stride 0");
    const auto resolve = [&](long at) {
      at = at < 0 ? at + extent : at;
      const long least = step > 0 ? 0 : -1, most = step > 0 ? extent : extent - 1;
      return std::min(std::max(at, least), most);
    };
    long start = resolve(starts[i]), end = resolve(ends[i]);
    // With a negative stride: from the last element (? [T18]), down to index 0 (M).
    if (in_mask(masks.start)) start = step > 0 ? 0 : extent - 1;
    if (in_mask(masks.end)) end = step > 0 ? extent : -1;
    if (in_mask(masks.squeeze)) end = start + (step > 0 ? 1 : -1);
    const long distance = step > 0 ? end - start : start - end, size = std::abs(step);
    const long count = distance > 0 ? (distance + size - 1) / size : 0;
    region.first += start * own[i];
    region.shape.push_back(count);
    region.strides.push_back(step * own[i]);
    if (!in_mask(masks.squeeze)) region.squeezed.push_back(count);
  }
  return region;
}

Tensor* add_slice(Graph* self, Tensor* tensor, const Region& region) {
  Tensor* result = self->add(
      "slice", {tensor}, {tensor->type.dtype, region.squeezed}, [region](Views in, Views out) {
        const DataType type = out[0].type->dtype;
        strided_copy(type, region.shape, in[0].data + region.first * long(size_of(type)),
                     region.strides, out[0].data, strides_of(region.shape));
      });
  result->node->is_view = true;
  return result;
}

id slice(Graph* self, id x, id starts, id ends, id strides, uint32_t start_mask, uint32_t end_mask,
         uint32_t squeeze_mask, id) {
  Tensor* tensor = operand(x, "slice");
  return add_slice(self, tensor,
                   make_region(tensor->type.shape, numbers(starts), numbers(ends), numbers(strides),
                               {start_mask, end_mask, squeeze_mask}));
}
HOST_METHOD(MPSGraph, "sliceTensor:starts:ends:strides:startMask:endMask:squeezeMask:name:", slice);
HOST_METHOD(MPSGraph, "sliceTensor:starts:ends:strides:name:",
            [](Graph* self, id x, id starts, id ends, id strides, id) -> id {
              return slice(self, x, starts, ends, strides, 0, 0, 0, nullptr);
            });

// `start` may be negative; a region past the end aborts. M
id slice_axis(Graph* self, id x, NSUInteger dimension, NSInteger start, NSInteger length, id) {
  Tensor* tensor = operand(x, "slice");
  const Shape& shape = tensor->type.shape;
  const long axis = require_axis(long(dimension), shape.size(), "slice");
  const long extent = shape[axis], from = start < 0 ? start + extent : start;
  if (from < 0 || from > extent) {
    abort_inference("mps.slice", "op failed: start value " + std::to_string(start) +
                                     " does not fit dimension size (" + std::to_string(extent) +
                                     ")");
  }
  if (length < 0 || from + length > extent) {
    abort_inference("mps.slice", "op failed: length does not fit dimension size");
  }
  Shape starts(shape.size(), 0), ends = shape, strides(shape.size(), 1);
  starts[axis] = from;
  ends[axis] = from + length;
  return add_slice(self, tensor, make_region(shape, starts, ends, strides, {}));
}
HOST_METHOD(MPSGraph, "sliceTensor:dimension:start:length:name:", slice_axis);

// ---- updates ---------------------------------------------------------------------------------

// A copy of `data` with the region replaced. The update has exactly the region's shape; negative
// strides are fine. endMask and squeezeMask are refused when compiled (M, though the question fed
// an update that did not fit).
id update(Graph* self, id data, id values, const Shape& starts, const Shape& ends,
          const Shape& strides, const Masks& masks) {
  const char* method = "sliceUpdate";
  std::vector<Tensor*> inputs{operand(data, method), operand(values, method)};
  require_same_type(inputs, method);
  const Region region = make_region(inputs[0]->type.shape, starts, ends, strides, masks);
  const Type type = inputs[0]->type;
  Tensor* result = self->add(method, inputs, type, [region](Views in, Views out) {
    const DataType dtype = out[0].type->dtype;
    std::memcpy(out[0].data, in[0].data, out[0].type->bytes());
    strided_copy(dtype, region.shape, in[1].data, strides_of(region.shape),
                 out[0].data + region.first * long(size_of(dtype)), region.strides);
  });
  if (masks.end || masks.squeeze || inputs[1]->type.shape != region.shape) {
    result->node->compile_error =
        "'mps.strided_slice_update': Optimize Original Module MLIR pass manager failed";
  }
  return result;
}
id update_with_masks(Graph* self, id data, id values, id starts, id ends, id strides,
                     uint32_t start_mask, uint32_t end_mask, uint32_t squeeze_mask, id) {
  return update(self, data, values, numbers(starts), numbers(ends), numbers(strides),
                {start_mask, end_mask, squeeze_mask});
}
HOST_METHOD(MPSGraph,
            "sliceUpdateDataTensor:updateTensor:starts:ends:strides:startMask:endMask:"
            "squeezeMask:name:",
            update_with_masks);
// macOS 15.
HOST_METHOD(MPSGraph, "sliceUpdateDataTensor:updateTensor:starts:ends:strides:name:",
            [](Graph* self, id data, id values, id starts, id ends, id strides, id) -> id {
              return update(self, data, values, numbers(starts), numbers(ends), numbers(strides),
                            {});
            });

// Zeros of the forward input's shape (a constant tensor) with the gradient written into the region.
// Strides other than 1 and squeezeMask are refused when compiled. M
id gradient(Graph* self, id incoming, id shape, const Shape& starts, const Shape& ends,
            const Shape& strides, const Masks& masks) {
  const char* method = "sliceGradient";
  Tensor* values = operand(incoming, method);
  const Shape whole = constant_values(operand(shape, method), method);
  const Region region = make_region(whole, starts, ends, strides, masks);
  Tensor* result =
      self->add(method, {values}, {values->type.dtype, whole}, [region](Views in, Views out) {
        const DataType type = out[0].type->dtype;
        std::memset(out[0].data, 0, out[0].type->bytes());
        strided_copy(type, region.shape, in[0].data, strides_of(region.shape),
                     out[0].data + region.first * long(size_of(type)), region.strides);
      });
  const bool strided = std::any_of(strides.begin(), strides.end(), [](long s) { return s != 1; });
  if (strided || masks.squeeze || values->type.shape != region.shape) {
    result->node->compile_error =
        "'mps.strided_slice_gradient': Optimize Original Module MLIR pass manager failed";
  }
  return result;
}
id gradient_with_masks(Graph* self, id incoming, id shape, id starts, id ends, id strides,
                       uint32_t start_mask, uint32_t end_mask, uint32_t squeeze_mask, id) {
  return gradient(self, incoming, shape, numbers(starts), numbers(ends), numbers(strides),
                  {start_mask, end_mask, squeeze_mask});
}
HOST_METHOD(MPSGraph,
            "sliceGradientTensor:fwdInShapeTensor:starts:ends:strides:startMask:endMask:"
            "squeezeMask:name:",
            gradient_with_masks);
HOST_METHOD(MPSGraph, "sliceGradientTensor:fwdInShapeTensor:starts:ends:strides:name:",
            [](Graph* self, id incoming, id shape, id starts, id ends, id strides, id) -> id {
              return gradient(self, incoming, shape, numbers(starts), numbers(ends),
                              numbers(strides), {});
            });

}  // namespace
}  // namespace host
