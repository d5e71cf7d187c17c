#include "kernels/graph_builder.h"

#include <numeric>

namespace tfmetal {

Shape GraphBuilder::shape_of(Tensor x) const {
  const ns::Array array = x.shape();
  Shape shape(array.count());
  for (size_t i = 0; i < shape.size(); ++i) shape[i] = ns::Number(array[i]).integer();
  return shape;
}

Tensor GraphBuilder::cast(Tensor x, TF_DataType to) const {
  const mps::DataType type = to_mps(to);
  return x.data_type() == type ? x : mpsg::Graph::cast(x, type);
}

Tensor GraphBuilder::reshape(Tensor x, const Shape& shape) const {
  return shape_of(x) == shape ? x : mpsg::Graph::reshape(x, list(shape));
}

Tensor GraphBuilder::transpose(Tensor x, const std::vector<int64_t>& permutation) const {
  return mpsg::Graph::transpose(x, list(permutation));
}

Tensor GraphBuilder::matrix_transpose(Tensor x) const {
  std::vector<int64_t> permutation(rank_of(x));
  std::iota(permutation.begin(), permutation.end(), 0);
  std::swap(permutation[permutation.size() - 1], permutation[permutation.size() - 2]);
  return transpose(x, permutation);
}

Tensor GraphBuilder::broadcast_to(Tensor x, const Shape& shape) const {
  return shape_of(x) == shape ? x : mpsg::Graph::broadcast(x, list(shape));
}

Tensor GraphBuilder::with_rank(Tensor x, size_t rank) const {
  Shape shape = shape_of(x);
  if (shape.size() < rank) shape.insert(shape.begin(), rank - shape.size(), 1);
  return reshape(x, shape);
}

ns::Array GraphBuilder::list(const Tensors& tensors) {
  std::vector<id> objects;
  for (Tensor t : tensors) objects.push_back(t.raw());
  return ns::Array::make(objects);
}

}  // namespace tfmetal
