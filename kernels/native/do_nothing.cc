// MetalDoNothing(x: T) -> y: T, an op of the plugin's own. Its kernel hands its input on, so that
// benchmarks/dispatch.py can tell the cost of a launch from the cost of TensorFlow.
#include "kernels/families.h"
#include "kernels/kernel.h"
#include "plugin/op_definition.h"

namespace tfmetal {

namespace {

void do_nothing(KernelCall& call) { call.hand_on(0, 0); }

void define_do_nothing() {
  // Stateful, or grappler would remove it.
  define_op({"MetalDoNothing", {"T: {float}"}, {"x: T"}, {"y: T"}, same_shape, true});
}

}  // namespace

std::vector<OpRow> do_nothing_ops() {
  return {{.op = "MetalDoNothing",
           .types = T({TF_FLOAT}),
           .run = do_nothing,
           .cluster = ClusterPolicy::kNever,
           .define = define_do_nothing}};
}

}  // namespace tfmetal
