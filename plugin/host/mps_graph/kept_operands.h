// Right operands of products as they were packed for the matrix unit. Recurrent layers multiply by
// the same weights in every step; packing them each time would cost more than the product.
#pragma once

#include "plugin/host/mps_graph/gemm.h"

namespace host {

// A range of memory that is written only by commands that tell: a Metal buffer.
struct Owner {
  const char* begin;
  const char* end;
};

// What the calling thread keeps holds until it forgets: the worker of a queue does when a command
// buffer begins, and after each command that does not tell what it writes.
void forget_operands();
// Somebody writes to the buffer that `address` is in.
void forget_operands_at(const void* address);

// As gemm(), to float32, for products whose right operand may come again. False: nothing was done;
// it depends on shapes, strides and elements only, so that results do not depend on what is kept.
bool multiply_by_kept(long m, long n, long k, const Matrix& a, const Matrix& b, const Owner& owner,
                      const Target& to);

}  // namespace host
