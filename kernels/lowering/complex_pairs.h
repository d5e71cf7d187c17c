// Complex numbers in graphs: MPSGraph has few operations on them, so rows with OpRow::pairs see a
// complex64 tensor as float32 with one more axis, of the real and the imaginary part.
#pragma once

#include "kernels/graph_builder.h"

namespace tfmetal {

struct Complex {
  Tensor real, imaginary;  // without the last axis
};

Complex split_pairs(GraphBuilder& g, Tensor pairs);
Tensor join_pairs(GraphBuilder& g, Complex x);

// The product of complex operands, for any `multiply` that is linear in both.
template <class Multiply>
Tensor complex_product(GraphBuilder& g, Complex a, Complex b, Multiply multiply) {
  const Tensor rr = multiply(a.real, b.real), ii = multiply(a.imaginary, b.imaginary);
  const Tensor ri = multiply(a.real, b.imaginary), ir = multiply(a.imaginary, b.real);
  return join_pairs(g, {g.sub(rr, ii), g.add(ri, ir)});
}
template <class Multiply>
Tensor complex_product(GraphBuilder& g, Tensor a, Tensor b, Multiply multiply) {
  return complex_product(g, split_pairs(g, a), split_pairs(g, b), multiply);
}

}  // namespace tfmetal
