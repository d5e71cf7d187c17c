// _MetalHostLogical(inputs: N * bool) -> y: bool, an op of the plugin's own: "and", "or" or "not" of
// scalars in host memory. The graph pass host_predicates puts it in the place of LogicalAnd,
// LogicalOr and LogicalNot where the host decides (grappler/loops/host_predicates.cc).
#include <algorithm>

#include "kernels/families.h"
#include "kernels/kernel.h"

namespace tfmetal {

namespace {

constexpr const char* kOp = "_MetalHostLogical";

void host_logical(KernelCall& call) {
  const std::string function = call.kernel().def().attr_string("function");
  size_t held = 0;
  for (size_t i = 0; i < call.num_inputs(); ++i) {
    const TensorInfo& input = call.input_info(i);
    if (input.rank() != 0) {
      throw_invalid_argument(kOp, ": input ", i, " is ", to_string(input), ", scalars are allowed");
    }
    held += *static_cast<const bool*>(call.input_data(i)) ? 1 : 0;
  }
  const bool all = held == call.num_inputs(), any = held > 0;
  const bool result = function == "and" ? all : function == "or" ? any : !any;
  *static_cast<bool*>(call.allocate_host_output(0, {TF_BOOL, {}})) = result;
}

void define() {
  TF_OpDefinitionBuilder* builder = tf.TF_NewOpDefinitionBuilder(kOp);
  tf.TF_OpDefinitionBuilderAddAttr(builder, "N: int >= 1");
  tf.TF_OpDefinitionBuilderAddAttr(builder, "function: {'and', 'or', 'not'}");
  tf.TF_OpDefinitionBuilderAddInput(builder, "inputs: N * bool");
  tf.TF_OpDefinitionBuilderAddOutput(builder, "y: bool");
  tf.TF_OpDefinitionBuilderSetShapeInferenceFunction(
      builder, [](TF_ShapeInferenceContext* context, TF_Status* status) {
        TF_ShapeHandle* scalar = tf.TF_ShapeInferenceContextScalar(context);
        tf.TF_ShapeInferenceContextSetOutput(context, 0, scalar, status);
        tf.TF_DeleteShapeHandle(scalar);
      });
  Status status;
  tf.TF_RegisterOpDefinition(builder, status);
  status.check();
}

}  // namespace

std::vector<OpRow> host_logical_ops() {
  return {{.op = kOp,
           .host = {{"inputs", HostUse::kArg}, {"y", HostUse::kArg}},
           .run = host_logical,
           .define = define}};
}

}  // namespace tfmetal
