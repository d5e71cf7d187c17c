// The pass "mixed_precision": computes with 16 bits where that is worth it and does no harm, in a
// graph that was written for float32. Off until it is asked for (rewrite_target, classes.h).
//
//   before   x ------------> MatMul -> BiasAdd -> Relu -> MatMul -> Softmax
//            w (variable) -^                     w2 ----^
//   after    x -> Cast ----> MatMul -> BiasAdd -> Relu -> MatMul -> Softmax -> Cast
//            w -> Cast ----^          b -> Cast ^   w2 -> Cast ^
//
// What is converted, and what is not: painter.h. Variables stay float32; each is cast once per
// step. A fused op of the remapper is taken apart, looked at node by node and put together again,
// with what it computes in float32 inside: it stays one op.
//
// On its own result it finds nothing to do: no float32 node of class allow is left that could be
// converted, and everything starts from these. It does not look into clusters of the pass
// "cluster", which comes after it.
#pragma once

#include "grappler/pass.h"

namespace tfmetal {

// The pass.
int mix_precision(GraphView& view, Context& context);

}  // namespace tfmetal
