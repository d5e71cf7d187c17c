// Every TensorFlow function that the plugin calls, looked up at run time: the library links nothing
// of TensorFlow, so one binary serves every version. Optional functions are null where a version
// does not export them; features ask for the pointer, never for a version number.
#pragma once

#include <string>
#include <vector>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/experimental/grappler/grappler.h"
#include "tensorflow/c/experimental/pluggable_profiler/pluggable_profiler.h"
#include "tensorflow/c/experimental/stream_executor/stream_executor.h"
#include "tensorflow/c/kernels.h"
#include "tensorflow/c/kernels_experimental.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_buffer.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

// clang-format off
#define TFMETAL_REQUIRED_API(X) \
  X(TF_Version) X(TF_NewStatus) X(TF_DeleteStatus) X(TF_SetStatus) X(TF_GetCode) X(TF_Message) \
  X(TF_NewBuffer) X(TF_DeleteBuffer) \
  /* kernels */ \
  X(TF_NewKernelBuilder) X(TF_DeleteKernelBuilder) X(TF_RegisterKernelBuilder) \
  X(TF_KernelBuilder_TypeConstraint) X(TF_KernelBuilder_HostMemory) X(TF_KernelBuilder_Priority) \
  X(TF_GetStream) X(TF_NumInputs) X(TF_NumOutputs) X(TF_GetInput) X(TF_SetOutput) \
  X(TF_ExpectedOutputDataType) X(TF_OpKernelContext_Failure) X(TF_OpKernelConstruction_Failure) \
  X(TF_OpKernelConstruction_GetName) X(TF_OpKernelConstruction_GetNodeDef) X(TF_AllocateOutput) \
  X(TF_ForwardInputOrAllocateOutput) X(TF_AllocateTemp) X(TF_GetRegisteredKernelsForOp) \
  X(TF_StepId) \
  /* tensors */ \
  X(TF_AllocateTensor) X(TF_DeleteTensor) X(TF_TensorData) X(TF_NumDims) X(TF_Dim) \
  X(TF_TensorByteSize) X(TF_TensorElementCount) X(TF_TensorType) \
  /* op definitions */ \
  X(TF_NewOpDefinitionBuilder) X(TF_OpDefinitionBuilderAddAttr) \
  X(TF_OpDefinitionBuilderAddInput) X(TF_OpDefinitionBuilderAddOutput) \
  X(TF_OpDefinitionBuilderSetIsStateful) X(TF_OpDefinitionBuilderSetShapeInferenceFunction) \
  X(TF_RegisterOpDefinition) X(TF_NewShapeHandle) X(TF_DeleteShapeHandle) \
  X(TF_ShapeInferenceContextScalar) \
  X(TF_ShapeInferenceContextGetInput) X(TF_ShapeInferenceContextSetOutput) \
  X(TF_ShapeInferenceContextSetUnknownShape) X(TF_ShapeInferenceContextVectorFromSize) \
  /* graphs, for the shape oracle */ \
  X(TF_NewGraph) X(TF_DeleteGraph) X(TF_NewOperation) X(TF_FinishOperation) X(TF_AddInput) \
  X(TF_AddInputList) X(TF_SetAttrType) X(TF_SetAttrShape) X(TF_SetAttrTensor) \
  X(TF_SetAttrValueProto) X(TF_GraphGetTensorNumDims) X(TF_GraphGetTensorShape) \
  X(TF_OperationNumOutputs) X(TF_OperationOutputType) X(TF_GraphGetOpDef)

#define TFMETAL_OPTIONAL_API(X) \
  X(TF_AssignVariable) \
  X(TF_AssignUpdateVariable) X(TF_MaybeLockVariableInputMutexesInOrder) \
  X(TF_GetInputTensorFromVariable) X(TF_ReleaseVariableInputLockHolder) X(TF_AddNVariant) \
  X(TF_ZerosLikeVariant) X(TF_GetNodesToPreserveListSize) X(TF_GetNodesToPreserveList) \
  X(TF_GetFetchNodesListSize) X(TF_GetFetchNodesList) X(TF_NewGraphProperties) \
  X(TF_DeleteGraphProperties) X(TF_InferStatically) X(TF_GetOutputPropertiesListSize) \
  X(TF_GetOutputPropertiesList) X(TF_GetInputPropertiesListSize) X(TF_GetInputPropertiesList) \
  X(TF_NewFunctionLibraryDefinition) X(TF_DeleteFunctionLibraryDefinition) X(TF_LookUpOpDef)
// clang-format on

namespace tfmetal {

struct TfApi {
#define TFMETAL_FIELD(name) decltype(&::name) name = nullptr;
  TFMETAL_REQUIRED_API(TFMETAL_FIELD)
  TFMETAL_OPTIONAL_API(TFMETAL_FIELD)
#undef TFMETAL_FIELD
};

extern TfApi tf;

// Fills `tf`, once per process. Returns nullptr, or the name of a required function that this
// TensorFlow lacks.
const char* load_tf_api();

// Whether TensorFlow is of this version or newer, where its CPU kernels changed what they answer;
// true as well without TensorFlow.
bool tensorflow_since(int major, int minor);

// The paths of all libraries that are loaded in this process.
std::vector<std::string> loaded_images();

// The address of a symbol in the TensorFlow of this process, or nullptr.
void* find_tf_symbol(const char* name);

// RAII over TF_Status.
class Status {
 public:
  Status() : status_(tf.TF_NewStatus()) {}
  ~Status() { tf.TF_DeleteStatus(status_); }
  Status(const Status&) = delete;
  Status& operator=(const Status&) = delete;
  operator TF_Status*() const { return status_; }
  bool ok() const { return tf.TF_GetCode(status_) == TF_OK; }
  TF_Code code() const { return tf.TF_GetCode(status_); }
  const char* message() const { return tf.TF_Message(status_); }
  // Throws tfmetal::Error with this code and text unless ok.
  void check() const;

 private:
  TF_Status* status_;
};

}  // namespace tfmetal
