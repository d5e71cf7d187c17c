// MPSGraphTensorShapeOps that keep all elements: reshape, transpose, concat, stack, split, tile...
// All of it moves bits: denormals and NaN payloads stay. "Fed" forms take a constant tensor and
// then are the literal form; a placeholder crashes on a Mac and aborts here (M).
#include <algorithm>
#include <numeric>

#include "plugin/host/mps_graph/kernels.h"
#include "plugin/host/mps_graph/strided_copy.h"

namespace host {
namespace {

// ---- reinterpretations of the shape ----------------------------------------------------------

// Row-major; one extent may be -1. Two crash at run time, another volume aborts when the graph is
// compiled, with the result tensor built. M
id reshape(Graph* self, id x, Shape shape) {
  Tensor* tensor = operand(x, "reshape");
  const long unknown = std::count(shape.begin(), shape.end(), -1);
  const long count = tensor->type.count();
  long known = 1;
  for (long extent : shape) known *= extent == -1 ? 1 : extent;
  if (unknown == 1 && known > 0) {
    *std::find(shape.begin(), shape.end(), -1) = count / known;
    known = element_count(shape);
  }
  Tensor* result = self->alias("reshape", tensor, std::move(shape));
  if (unknown < 2 && known != count) {
    result->node->compile_error =
        "error: 'mps.reshape' op the result shape is not compatible with the input shape: " +
        describe(tensor->type.shape, tensor->type.dtype) + " to " +
        describe(result->type.shape, result->type.dtype);
  }
  return result;
}
HOST_METHOD(MPSGraph, "reshapeTensor:withShape:name:", [](Graph* self, id x, id shape, id) -> id {
  return reshape(self, x, numbers(shape));
});
HOST_METHOD(MPSGraph,
            "reshapeTensor:withShapeTensor:name:", [](Graph* self, id x, id shape, id) -> id {
              return reshape(self, x, constant_values(operand(shape, "reshape"), "reshape"));
            });

// Drops the given axes; one of extent other than 1 aborts. M
id squeeze(Graph* self, id x, const std::vector<long>& axes) {
  Tensor* tensor = operand(x, "squeeze");
  Shape shape;
  for (size_t i = 0; i < tensor->type.shape.size(); ++i) {
    const long extent = tensor->type.shape[i];
    if (!std::binary_search(axes.begin(), axes.end(), long(i))) {
      shape.push_back(extent);
    } else if (extent != 1) {
      abort_inference("squeeze",
                      "axis " + std::to_string(i) + " has extent " + std::to_string(extent));
    }
  }
  return self->alias("squeeze", tensor, std::move(shape));
}
// All axes of extent 1. M
HOST_METHOD(MPSGraph, "squeezeTensor:name:", [](Graph* self, id x, id) -> id {
  const Shape& shape = operand(x, "squeeze")->type.shape;
  std::vector<long> axes;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 1) axes.push_back(long(i));
  }
  return squeeze(self, x, axes);
});
HOST_METHOD(MPSGraph, "squeezeTensor:axis:name:", [](Graph* self, id x, NSInteger axis, id) -> id {
  return squeeze(self, x,
                 {require_axis(axis, operand(x, "squeeze")->type.shape.size(), "squeeze")});
});
// nil and @[] mean none. M
HOST_METHOD(MPSGraph, "squeezeTensor:axes:name:", [](Graph* self, id x, id axes, id) -> id {
  const size_t rank = operand(x, "squeeze")->type.shape.size();
  return squeeze(self, x, axes ? require_axes(axes, rank, "squeeze") : std::vector<long>());
});

// New axes of extent 1. The axes are positions in the result, negative ones from its end. M
id expand_dims(Graph* self, id x, const std::vector<long>& axes) {
  Tensor* tensor = operand(x, "expandDims");
  const size_t rank = tensor->type.shape.size() + axes.size();
  std::vector<bool> is_new(rank, false);
  for (long axis : axes) is_new[require_axis(axis, rank, "expandDims")] = true;
  if (size_t(std::count(is_new.begin(), is_new.end(), true)) != axes.size()) {
    abort_inference("expandDims", "an axis is named twice");
  }
  Shape shape;
  for (size_t i = 0, source = 0; i < rank; ++i) {
    shape.push_back(is_new[i] ? 1 : tensor->type.shape[source++]);
  }
  return self->alias("expandDims", tensor, std::move(shape));
}
HOST_METHOD(MPSGraph,
            "expandDimsOfTensor:axis:name:", [](Graph* self, id x, NSInteger axis, id) -> id {
              return expand_dims(self, x, {long(axis)});
            });
HOST_METHOD(MPSGraph, "expandDimsOfTensor:axes:name:", [](Graph* self, id x, id axes, id) -> id {
  return expand_dims(self, x, numbers(axes));
});

// [product of the extents before axis, product from axis on]; negative axes are refused. M
id flatten(Graph* self, id x, NSInteger axis, id) {
  Tensor* tensor = operand(x, "flatten2D");
  const Shape& shape = tensor->type.shape;
  if (axis < 0) abort_like_apple("flatten2D: Error: NDArray dimension length > INT_MAX");
  if (axis > long(shape.size())) abort_inference("flatten2D", "invalid axis");
  const long rows = element_count({shape.begin(), shape.begin() + axis});
  return self->alias("flatten2D", tensor, {rows, tensor->type.count() / rows});
}
HOST_METHOD(MPSGraph, "flatten2DTensor:axis:name:", flatten);

// ---- transposes ------------------------------------------------------------------------------

Tensor* permute(Graph* self, Tensor* tensor, const std::vector<long>& permutation) {
  const Shape& shape = tensor->type.shape;
  const Shape own = strides_of(shape);
  Shape result, strides;
  for (long axis : permutation) {
    result.push_back(shape[axis]);
    strides.push_back(own[axis]);
  }
  Tensor* out = self->add("transpose", {tensor}, {tensor->type.dtype, result},
                          [strides](Views in, Views out) {
                            strided_copy(out[0].type->dtype, out[0].shape(), in[0].data, strides,
                                         out[0].data, strides_of(out[0].shape()));
                          });
  out->node->is_view = true;
  std::vector<long> last_swapped(shape.size());
  std::iota(last_swapped.begin(), last_swapped.end(), 0);
  if (shape.size() >= 2) std::swap(last_swapped.end()[-1], last_swapped.end()[-2]);
  out->node->swaps_last_axes = shape.size() >= 2 && permutation == last_swapped;
  return out;
}

// Result axis i is operand axis permutation[i]. The list has to be as long as the rank. M
id transpose(Graph* self, id x, id permutation, id) {
  Tensor* tensor = operand(x, "transpose");
  const size_t rank = tensor->type.shape.size();
  std::vector<long> list = numbers(permutation);
  if (list.size() != rank) {
    abort_inference("transpose", "perm tensor length must equal input tensor rank, " +
                                     std::to_string(list.size()) + " != " + std::to_string(rank));
  }
  for (long& axis : list) axis = require_axis(axis, rank, "transpose");
  std::vector<long> sorted = list;
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < rank; ++i) {
    if (sorted[i] != long(i)) abort_inference("transpose", "not a permutation");
  }
  return permute(self, tensor, list);
}
HOST_METHOD(MPSGraph, "transposeTensor:permutation:name:", transpose);

// Swaps two axes, negatives allowed. A bad axis does not abort: the result has a nil shape and
// nothing is ever written to it. M
id swap_axes(Graph* self, id x, NSUInteger first, NSUInteger second, id) {
  Tensor* tensor = operand(x, "transpose");
  const size_t rank = tensor->type.shape.size();
  const long a = resolve_axis(long(first), rank), b = resolve_axis(long(second), rank);
  if (a < 0 || b < 0) {
    Tensor* unranked = self->add("transpose", {tensor}, {tensor->type.dtype, {}}, nullptr);
    unranked->ranked = false;
    return unranked;
  }
  std::vector<long> permutation(rank);
  std::iota(permutation.begin(), permutation.end(), 0);
  std::swap(permutation[a], permutation[b]);
  return permute(self, tensor, permutation);
}
HOST_METHOD(MPSGraph, "transposeTensor:dimension:withDimension:name:", swap_axes);

// ---- repetition ------------------------------------------------------------------------------

// Aligned right, extent 1 repeats. For other mismatches the real one leaves parts of the result
// undefined (M); the host aborts. An extent of 0 aborts at run time.
id broadcast(Graph* self, id x, Shape shape) {
  Tensor* tensor = operand(x, "broadcast");
  const Shape& from = tensor->type.shape;
  if (from.size() > shape.size()) abort_inference("broadcast", "the target has a lower rank");
  const size_t skipped = shape.size() - from.size();
  const Shape own = strides_of(from);
  Shape strides(shape.size(), 0);
  for (size_t i = 0; i < from.size(); ++i) {
    const long to = shape[skipped + i];
    if (from[i] != to && from[i] != 1 && to != 0) {
      abort_inference("broadcast", "extent " + std::to_string(from[i]) + " to " +
                                       std::to_string(to) + " is undefined");
    }
    if (from[i] != 1) strides[skipped + i] = own[i];
  }
  Tensor* result = self->add("broadcast", {tensor}, {tensor->type.dtype, std::move(shape)},
                             [strides](Views in, Views out) {
                               strided_copy(out[0].type->dtype, out[0].shape(), in[0].data, strides,
                                            out[0].data, strides_of(out[0].shape()));
                             });
  result->node->is_broadcast = true;
  return result;
}
HOST_METHOD(MPSGraph, "broadcastTensor:toShape:name:", [](Graph* self, id x, id shape, id) -> id {
  return broadcast(self, x, numbers(shape));
});
HOST_METHOD(MPSGraph,
            "broadcastTensor:toShapeTensor:name:", [](Graph* self, id x, id shape, id) -> id {
              return broadcast(self, x, constant_values(operand(shape, "broadcast"), "broadcast"));
            });

// numpy's tile: one multiplier per axis. M
id tile(Graph* self, id x, id multiplier, id) {
  Tensor* tensor = operand(x, "tile");
  const std::vector<long> times = numbers(multiplier);
  const Shape from = tensor->type.shape;
  if (times.size() != from.size()) abort_inference("tile", "multiplier length is not the rank");
  Shape result, loops, read, write;  // every axis becomes (copy, position)
  for (size_t i = 0; i < from.size(); ++i) {
    if (times[i] < 0) abort_inference("tile", "negative multiplier");
    result.push_back(from[i] * times[i]);
  }
  const Shape in_strides = strides_of(from), out_strides = strides_of(result);
  for (size_t i = 0; i < from.size(); ++i) {
    loops.insert(loops.end(), {times[i], from[i]});
    read.insert(read.end(), {0, in_strides[i]});
    write.insert(write.end(), {out_strides[i] * from[i], out_strides[i]});
  }
  bool repeats_elements = true;
  for (size_t i = 0; i < from.size(); ++i) repeats_elements &= times[i] == 1 || from[i] == 1;
  Tensor* tiled = self->add(
      "tile", {tensor}, {tensor->type.dtype, std::move(result)}, [=](Views in, Views out) {
        strided_copy(out[0].type->dtype, loops, in[0].data, read, out[0].data, write);
      });
  tiled->node->is_broadcast = repeats_elements;
  return tiled;
}
HOST_METHOD(MPSGraph, "tileTensor:withMultiplier:name:", tile);

// Reverses the given axes; all of them when the list is nil or empty. M
id reverse(Graph* self, id x, id axes, id) {
  Tensor* tensor = operand(x, "reverse");
  const Shape& shape = tensor->type.shape;
  const bool all = !axes || numbers(axes).empty();
  const std::vector<long> list = require_axes(all ? nullptr : axes, shape.size(), "reverse");
  Shape strides = strides_of(shape);
  long first = 0;
  for (long axis : list) {
    first += (shape[axis] - 1) * strides[axis];
    strides[axis] = -strides[axis];
  }
  return self->add("reverse", {tensor}, tensor->type, [=](Views in, Views out) {
    const DataType type = out[0].type->dtype;
    strided_copy(type, out[0].shape(), in[0].data + first * long(size_of(type)), strides,
                 out[0].data, strides_of(out[0].shape()));
  });
}
HOST_METHOD(MPSGraph, "reverseTensor:axes:name:", reverse);
HOST_METHOD(MPSGraph, "reverseTensor:name:", [](Graph* self, id x, id) -> id {
  return reverse(self, x, nullptr, nullptr);
});

// ---- joining and splitting -------------------------------------------------------------------

// Joins along an axis. No broadcasting, all other extents are equal; different types build a tensor
// of the first one and fail to compile. With `interleave` element at position i of tensor c of n
// goes to i * n + c, all extents being equal. An empty array gives a float32 tensor without a
// shape. M
id concat(Graph* self, id tensors, NSInteger dimension, bool interleave) {
  const std::vector<Tensor*> list = operands(tensors, "concat");
  if (list.empty()) {
    Tensor* unranked = self->add("concat", {}, {DataType::Float32, {}}, nullptr);
    unranked->ranked = false;
    return unranked;
  }
  Shape shape = list[0]->type.shape;
  const long axis = resolve_axis(dimension, shape.size());
  if (axis < 0) {
    abort_inference("concat", "invalid axis tensor: [" + std::to_string(dimension) +
                                  "], axis must be in range -rank <= axis < rank, rank = " +
                                  std::to_string(shape.size()));
  }
  long extent = 0;
  for (const Tensor* tensor : list) {
    Shape other = tensor->type.shape;
    if (other.size() == shape.size()) other[axis] = shape[axis];
    if (other != shape) {
      abort_inference("mps.concat",
                      "op invalid input tensor shapes, all input shapes must match except at axis");
    }
    if (interleave && tensor->type.shape[axis] != shape[axis]) {
      abort_inference("mps.concat",
                      "op all input shapes must match along axis dimension when interleaving");
    }
    extent += tensor->type.shape[axis];
  }
  shape[axis] = extent;
  Tensor* result =
      self->add("concat", list, {list[0]->type.dtype, shape}, [=](Views in, Views out) {
        const DataType type = out[0].type->dtype;
        Shape to_strides = strides_of(out[0].shape());
        const long step = to_strides[axis];
        if (interleave) to_strides[axis] *= long(in.size());
        char* to = out[0].data;
        for (const View& part : in) {
          strided_copy(type, part.shape(), part.data, strides_of(part.shape()), to, to_strides);
          to += (interleave ? 1 : part.shape()[axis]) * step * long(size_of(type));
        }
      });
  for (const Tensor* tensor : list) {
    if (tensor->type.dtype == list[0]->type.dtype) continue;
    result->node->compile_error = "'mps.concat' op requires the same element type of all operands";
  }
  return result;
}
HOST_METHOD(MPSGraph, "concatTensors:dimension:name:",
            [](Graph* self, id tensors, NSInteger dimension, id) -> id {
              return concat(self, tensors, dimension, false);
            });
HOST_METHOD(MPSGraph, "concatTensors:dimension:interleave:name:",
            [](Graph* self, id tensors, NSInteger dimension, bool interleave, id) -> id {
              return concat(self, tensors, dimension, interleave);
            });
HOST_METHOD(MPSGraph, "concatTensor:withTensor:dimension:name:",
            [](Graph* self, id a, id b, NSInteger dimension, id) -> id {
              const id both[] = {a, b};
              return concat(self, make_autoreleased<Array>(both, size_t(2)), dimension, false);
            });

// Joins along a new axis, in -(rank + 1) .. rank; all shapes are equal. M
id stack(Graph* self, id tensors, NSInteger axis, id) {
  const std::vector<Tensor*> list = operands(tensors, "stack");
  if (list.empty()) abort_inference("stack", "no tensors");
  require_same_type(list, "stack");
  const size_t rank = list[0]->type.shape.size() + 1;
  const long at = resolve_axis(axis, rank);
  if (at < 0) {
    abort_inference("stack", "invalid axis: " + std::to_string(axis) +
                                 ", axis must be in range -|rank| <= axis < |rank|");
  }
  std::vector<id> expanded;
  for (Tensor* tensor : list) {
    if (tensor->type.shape != list[0]->type.shape) {
      abort_inference("stack",
                      "invalid input tensor shapes, all input shapes must match except at axis");
    }
    expanded.push_back(expand_dims(self, tensor, {at}));
  }
  return concat(self, make_autoreleased<Array>(expanded.data(), expanded.size()), at, false);
}
HOST_METHOD(MPSGraph, "stackTensors:axis:name:", stack);

// Pieces of the given extents. Their sum is checked when the graph is compiled; an extent of 0
// aborts when it runs. M
id split(Graph* self, id x, const std::vector<long>& sizes, NSInteger axis) {
  Tensor* tensor = operand(x, "split");
  const Shape& shape = tensor->type.shape;
  const long along = resolve_axis(axis, shape.size());
  if (along < 0) {
    abort_inference("split", "invalid axis tensor: [" + std::to_string(axis) +
                                 "], axis must be in range -rank <= axis < rank, rank = " +
                                 std::to_string(shape.size()));
  }
  std::vector<Type> results;
  for (long size : sizes) {
    results.push_back(tensor->type);
    results.back().shape[along] = size;
  }
  Node* node = self->add("split", {tensor}, std::move(results));
  if (std::accumulate(sizes.begin(), sizes.end(), 0l) != shape[along]) {
    node->compile_error =
        "'mps.split' op sum of result dimension lengths along split axis must equal input "
        "dimension length along split axis";
  }
  node->eval = [along](Views in, Views out) {
    const Shape strides = strides_of(in[0].shape());
    const char* from = in[0].data;
    for (const View& piece : out) {
      const DataType type = piece.type->dtype;
      strided_copy(type, piece.shape(), from, strides, piece.data, strides_of(piece.shape()));
      from += piece.shape()[along] * strides[along] * long(size_of(type));
    }
  };
  return make_autoreleased<Array>(reinterpret_cast<const id*>(node->outputs.data()),
                                  node->outputs.size());
}
HOST_METHOD(MPSGraph, "splitTensor:splitSizes:axis:name:",
            [](Graph* self, id x, id sizes, NSInteger axis, id) -> id {
              return split(self, x, numbers(sizes), axis);
            });
// Pieces of ceil(extent / n), the last one takes the rest; refused when nothing is left for it. M
id split_evenly(Graph* self, id x, NSUInteger pieces, NSInteger axis, id) {
  const Shape& shape = operand(x, "split")->type.shape;
  const long extent = shape[require_axis(axis, shape.size(), "split")], n = long(pieces);
  const long size = n > 0 ? (extent + n - 1) / n : 0, last = extent - size * (n - 1);
  if (n <= 0 || last <= 0) {
    abort_inference("split", "infer split sizes from total size=" + std::to_string(extent) +
                                 " and num_splits=" + std::to_string(n) + " failed");
  }
  std::vector<long> sizes(pieces, size);
  sizes.back() = last;
  return split(self, x, sizes, axis);
}
HOST_METHOD(MPSGraph, "splitTensor:numSplits:axis:name:", split_evenly);
HOST_METHOD(MPSGraph, "splitTensor:splitSizesTensor:axis:name:",
            [](Graph* self, id x, id sizes, NSInteger axis, id) -> id {
              return split(self, x, constant_values(operand(sizes, "split"), "split"), axis);
            });

// ---- coordinates and bits --------------------------------------------------------------------

// Int32, the position along `axis`; negatives count from the end. M
Tensor* coordinate(Graph* self, NSInteger axis, Shape shape) {
  const long along = resolve_axis(axis, shape.size());
  if (along < 0) {
    abort_inference("mps.get_coordinates", "op invalid axis: " + std::to_string(axis) + ".");
  }
  return self->add("coordinate", {}, {DataType::Int32, std::move(shape)},
                   [along](Views, Views out) {
                     const Shape& shape = out[0].shape();
                     const long extent = shape[along], inner = strides_of(shape)[along];
                     int32_t* to = out[0].as<int32_t>();
                     for (long i = 0; i < out[0].count(); i += inner) {
                       std::fill_n(to + i, inner, int32_t(i / inner % extent));
                     }
                   });
}
HOST_METHOD(MPSGraph, "coordinateAlongAxis:withShape:name:",
            [](Graph* self, NSInteger axis, id shape, id) -> id {
              return coordinate(self, axis, numbers(shape));
            });
HOST_METHOD(MPSGraph, "coordinateAlongAxis:withShapeTensor:name:",
            [](Graph* self, NSInteger axis, id shape, id) -> id {
              return coordinate(self, axis,
                                constant_values(operand(shape, "coordinate"), "coordinate"));
            });
id coordinate_of(Graph* self, id axis, id shape, id) {
  Tensor* fed = operand(axis, "coordinate");
  if (is_floating(fed->type.dtype)) {  // seen when the graph is compiled. M
    Tensor* result = coordinate(self, 0, numbers(shape));
    result->node->compile_error = "'mps.get_coordinates' operand #1 must be 0D tensor of integers";
    return result;
  }
  const Shape values = constant_values(fed, "coordinate");
  if (values.size() != 1) abort_inference("coordinate", "operand #1 must be 0D tensor");
  return coordinate(self, values[0], numbers(shape));
}
HOST_METHOD(MPSGraph, "coordinateAlongAxisTensor:withShape:name:", coordinate_of);

// Int32 of rank 1: the shape. M
id shape_of(Graph* self, id x, id) {
  const Shape shape = operand(x, "shapeOf")->type.shape;
  return self->add(
      "shapeOf", {}, {DataType::Int32, {long(shape.size())}},
      [shape](Views, Views out) { std::copy(shape.begin(), shape.end(), out[0].as<int32_t>()); });
}
HOST_METHOD(MPSGraph, "shapeOfTensor:name:", shape_of);

// The bits under another type; the last extent is scaled by the ratio of sizes, rank 0 is not
// accepted. D U
id reinterpret(Graph* self, id x, DataType to, id) {
  Tensor* tensor = operand(x, "reinterpretCast");
  Type result{to, tensor->type.shape};
  if (result.shape.empty()) abort_inference("reinterpretCast", "rank 0");
  const long bytes = result.shape.back() * long(size_of(tensor->type.dtype));
  if (bytes % long(size_of(to))) abort_inference("reinterpretCast", "last extent does not fit");
  result.shape.back() = bytes / long(size_of(to));
  Tensor* cast = self->add("reinterpretCast", {tensor}, std::move(result), [](Views in, Views out) {
    std::memcpy(out[0].data, in[0].data, out[0].type->bytes());
  });
  cast->node->is_view = true;
  return cast;
}
HOST_METHOD(MPSGraph, "reinterpretCastTensor:toType:name:", reinterpret);

}  // namespace
}  // namespace host
