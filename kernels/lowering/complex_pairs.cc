#include "kernels/lowering/complex_pairs.h"

namespace tfmetal {

Complex split_pairs(GraphBuilder& g, Tensor pairs) {
  const Shape shape = g.shape_of(pairs);
  const Shape values(shape.begin(), shape.end() - 1), strides(shape.size(), 1);
  const auto part = [&](int64_t index) {
    Shape starts(shape.size(), 0), ends = shape;
    starts.back() = index;
    ends.back() = index + 1;
    return g.reshape(g.slice(pairs, g.list(starts), g.list(ends), g.list(strides)),
                     values.empty() ? Shape{1} : values);
  };
  return {part(0), part(1)};
}

Tensor join_pairs(GraphBuilder& g, Complex x) {
  Shape shape = g.shape_of(x.real);
  shape.push_back(1);
  return g.concat(g.list({g.reshape(x.real, shape), g.reshape(x.imaginary, shape)}),
                  static_cast<int64_t>(shape.size()) - 1);
}

}  // namespace tfmetal
