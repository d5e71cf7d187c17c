// Ops of the plugin's own, as TensorFlow is to know them.
#pragma once

#include <vector>

#include "plugin/tf_api.h"

namespace tfmetal {

void unknown_shape(TF_ShapeInferenceContext* context, TF_Status* status);  // of every output
void scalar_shape(TF_ShapeInferenceContext* context, TF_Status* status);   // of output 0
void same_shape(TF_ShapeInferenceContext* context, TF_Status* status);     // output 0 as input 0

// In the words of TensorFlow's REGISTER_OP: {"N: int >= 1"}, {"inputs: N * bool"}, {"y: bool"}.
struct OpDefinition {
  const char* name;
  std::vector<const char*> attrs = {}, inputs = {}, outputs = {};
  void (*infer)(TF_ShapeInferenceContext*, TF_Status*) = unknown_shape;
  bool stateful = false;  // has an effect, or must not be removed
};

// Registers it; once per process. Throws what TensorFlow raises.
void define_op(const OpDefinition& op);

}  // namespace tfmetal
