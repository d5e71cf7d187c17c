// MetalDoNothing(x: T) -> y: T, an op of the plugin's own. Its kernel hands its input on, so that
// benchmarks/dispatch.py can tell the cost of a launch from the cost of TensorFlow.
#include "kernels/families.h"
#include "kernels/kernel.h"

namespace tfmetal {

namespace {

void do_nothing(KernelCall& call) {
  const TensorInfo info = call.input_info(0);
  call.release_inputs();
  call.forward_or_allocate_output({0}, 0, info);
}

void define_do_nothing() {
  TF_OpDefinitionBuilder* builder = tf.TF_NewOpDefinitionBuilder("MetalDoNothing");
  tf.TF_OpDefinitionBuilderAddAttr(builder, "T: {float}");
  tf.TF_OpDefinitionBuilderAddInput(builder, "x: T");
  tf.TF_OpDefinitionBuilderAddOutput(builder, "y: T");
  tf.TF_OpDefinitionBuilderSetIsStateful(builder, true);  // or grappler would remove it
  tf.TF_OpDefinitionBuilderSetShapeInferenceFunction(
      builder, [](TF_ShapeInferenceContext* context, TF_Status* status) {
        TF_ShapeHandle* shape = tf.TF_NewShapeHandle();
        tf.TF_ShapeInferenceContextGetInput(context, 0, shape, status);
        tf.TF_ShapeInferenceContextSetOutput(context, 0, shape, status);
        tf.TF_DeleteShapeHandle(shape);
      });
  Status status;
  tf.TF_RegisterOpDefinition(builder, status);
  status.check();
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
