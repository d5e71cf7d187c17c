#include "plugin/op_definition.h"

namespace tfmetal {

void unknown_shape(TF_ShapeInferenceContext* context, TF_Status* status) {
  tf.TF_ShapeInferenceContextSetUnknownShape(context, status);
}

void scalar_shape(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeHandle* scalar = tf.TF_ShapeInferenceContextScalar(context);
  tf.TF_ShapeInferenceContextSetOutput(context, 0, scalar, status);
  tf.TF_DeleteShapeHandle(scalar);
}

void same_shape(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeHandle* shape = tf.TF_NewShapeHandle();
  tf.TF_ShapeInferenceContextGetInput(context, 0, shape, status);
  tf.TF_ShapeInferenceContextSetOutput(context, 0, shape, status);
  tf.TF_DeleteShapeHandle(shape);
}

void define_op(const OpDefinition& op) {
  TF_OpDefinitionBuilder* builder = tf.TF_NewOpDefinitionBuilder(op.name);
  for (const char* attr : op.attrs) tf.TF_OpDefinitionBuilderAddAttr(builder, attr);
  for (const char* input : op.inputs) tf.TF_OpDefinitionBuilderAddInput(builder, input);
  for (const char* output : op.outputs) tf.TF_OpDefinitionBuilderAddOutput(builder, output);
  // TensorFlow sets it whatever it is told.
  if (op.stateful) tf.TF_OpDefinitionBuilderSetIsStateful(builder, true);
  tf.TF_OpDefinitionBuilderSetShapeInferenceFunction(builder, op.infer);
  Status status;
  tf.TF_RegisterOpDefinition(builder, status);  // takes the builder
  status.check();
}

}  // namespace tfmetal
