// Ops on the CPU that reach variables as the device's kernels do, so that the shim, its loader and
// variable_api are tested in any TensorFlow without a device. tests/test_shim.py builds this as
// an op library: float32 only, tensors are host memory.
#include <cstdint>
#include <cstring>
#include <string>

#include "plugin/error.h"
#include "plugin/tf_api.h"
#include "plugin/variables/shim_loader.h"
#include "plugin/variables/variable_api.h"

using namespace tfmetal;

namespace {

int copies = 0;
bool fail_next_copy = false;

float* floats(TF_Tensor* tensor) { return static_cast<float*>(tf.TF_TensorData(tensor)); }

void copy(TF_OpKernelContext*, TF_Tensor* source, TF_Tensor* destination) {
  ++copies;
  if (fail_next_copy) {
    fail_next_copy = false;
    throw_resource_exhausted("copy refused");
  }
  std::memcpy(floats(destination), floats(source), tf.TF_TensorByteSize(source));
}

struct Input {
  Input(TF_OpKernelContext* context, int index) {
    Status status;
    tf.TF_GetInput(context, index, &tensor, status);
    status.check();
  }
  ~Input() { tf.TF_DeleteTensor(tensor); }
  operator TF_Tensor*() const { return tensor; }
  TF_Tensor* tensor = nullptr;
};

void assign(TF_OpKernelContext* c) { assign_variable(c, 0, 1, /*validate_shape=*/true, copy); }

void assign_add(TF_OpKernelContext* c) {
  const LockedVariable variable(c, 0, VariableAccess::kDense, /*exclusive=*/true, copy);
  const Input value(c, 1);
  for (int64_t i = 0; i < tf.TF_TensorElementCount(value); ++i) {
    floats(variable.tensor())[i] += floats(value)[i];
  }
}

// As a plugin without LockedVariable would do it.
void assign_update(TF_OpKernelContext* c) {
  Status status;
  tf.TF_AssignUpdateVariable(
      c, 0, 1, /*op=*/-1, 0,
      [](TF_OpKernelContext* context, TF_Tensor* from, TF_Tensor* to) {
        copy(context, from, to);
        tf.TF_DeleteTensor(from);
        tf.TF_DeleteTensor(to);
      },
      [](TF_OpKernelContext*, TF_Tensor* variable, TF_Tensor* value, int op) {
        for (int64_t i = 0; i < tf.TF_TensorElementCount(value); ++i) {
          floats(variable)[i] += static_cast<float>(op) * floats(value)[i];
        }
        tf.TF_DeleteTensor(variable);
        tf.TF_DeleteTensor(value);
      },
      status);
  status.check();
}

void scatter_add(TF_OpKernelContext* c) {
  const LockedVariable variable(c, 0, VariableAccess::kSparse, /*exclusive=*/false, copy);
  const Input indices(c, 1), updates(c, 2);
  const int64_t rows = tf.TF_TensorElementCount(indices);
  const int64_t width = rows ? tf.TF_TensorElementCount(updates) / rows : 0;
  const auto* row = static_cast<const int32_t*>(tf.TF_TensorData(indices));
  for (int64_t i = 0; i < rows * width; ++i) {
    floats(variable.tensor())[row[i / width] * width + i % width] += floats(updates)[i];
  }
}

// Exchanges two variables under both locks.
void exchange(TF_OpKernelContext* c) {
  const int inputs[] = {0, 1};
  const auto copy_and_delete = [](TF_OpKernelContext* context, TF_Tensor* from, TF_Tensor* to) {
    copy(context, from, to);
    tf.TF_DeleteTensor(from);
    tf.TF_DeleteTensor(to);
  };
  TF_VariableInputLockHolder* lock = nullptr;
  Status status;
  tf.TF_MaybeLockVariableInputMutexesInOrder(c, true, false, inputs, 2, copy_and_delete, &lock,
                                             status);
  status.check();
  TF_Tensor* tensors[2] = {nullptr, nullptr};
  for (int i = 0; i < 2; ++i) {
    tf.TF_GetInputTensorFromVariable(c, i, true, false, false, copy_and_delete, &tensors[i],
                                     status);
  }
  for (int64_t i = 0; i < tf.TF_TensorElementCount(tensors[0]); ++i) {
    std::swap(floats(tensors[0])[i], floats(tensors[1])[i]);
  }
  for (TF_Tensor* tensor : tensors) tf.TF_DeleteTensor(tensor);
  tf.TF_ReleaseVariableInputLockHolder(lock);
}

void add_n(TF_OpKernelContext* c) {
  add_variants(c, [](TF_OpKernelContext*, TF_Tensor* a, TF_Tensor* b, TF_Tensor* sum) {
    for (int64_t i = 0; i < tf.TF_TensorElementCount(a); ++i) {
      floats(sum)[i] = floats(a)[i] + floats(b)[i];
    }
  });
}

void zeros_like(TF_OpKernelContext* c) {
  zeros_like_variant(c, [](TF_OpKernelContext*, TF_Tensor*, TF_Tensor* zeros) {
    std::memset(floats(zeros), 0, tf.TF_TensorByteSize(zeros));
  });
}

template <void (*kRun)(TF_OpKernelContext*)>
void compute(void*, TF_OpKernelContext* context) {
  try {
    kRun(context);
  } catch (const Error& e) {
    Status status;
    tf.TF_SetStatus(status, e.code, e.what());
    tf.TF_OpKernelContext_Failure(context, status);
  }
}

void infer_unknown(TF_ShapeInferenceContext* context, TF_Status* status) {
  tf.TF_ShapeInferenceContextSetUnknownShape(context, status);
}

void define(const char* op, std::initializer_list<const char*> inputs, const char* output,
            void (*run)(void*, TF_OpKernelContext*)) {
  Status status;
  TF_OpDefinitionBuilder* definition = tf.TF_NewOpDefinitionBuilder(op);
  for (const char* input : inputs) tf.TF_OpDefinitionBuilderAddInput(definition, input);
  if (output) tf.TF_OpDefinitionBuilderAddOutput(definition, output);
  if (std::strstr(*inputs.begin(), "N *")) tf.TF_OpDefinitionBuilderAddAttr(definition, "N: int");
  tf.TF_OpDefinitionBuilderSetIsStateful(definition, true);
  if (output) tf.TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, infer_unknown);
  tf.TF_RegisterOpDefinition(definition, status);
  status.check();
  tf.TF_RegisterKernelBuilder(op, tf.TF_NewKernelBuilder(op, "CPU", nullptr, run, nullptr), status);
  status.check();
}

const bool registered = [] {
  if (load_tf_api() || variable_mode() == VariableMode::kSync) return false;
  define("VariableTestAssign", {"resource: resource", "value: float"}, nullptr, compute<assign>);
  define("VariableTestAssignAdd", {"resource: resource", "value: float"}, nullptr,
         compute<assign_add>);
  define("VariableTestAssignSub", {"resource: resource", "value: float"}, nullptr,
         compute<assign_update>);
  define("VariableTestScatterAdd", {"resource: resource", "indices: int32", "updates: float"},
         nullptr, compute<scatter_add>);
  define("VariableTestExchange", {"a: resource", "b: resource"}, nullptr, compute<exchange>);
  define("VariableTestAddN", {"inputs: N * variant"}, "sum: variant", compute<add_n>);
  define("VariableTestZerosLike", {"x: variant"}, "y: variant", compute<zeros_like>);
  return true;
}();

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT const char* variable_test_mode() { return name(variable_mode()); }
EXPORT const char* variable_test_reason() { return variable_mode_reason().c_str(); }
EXPORT bool variable_test_synchronous() { return synchronous(); }
EXPORT int variable_test_copies() { return copies; }
EXPORT void variable_test_fail_next_copy() { fail_next_copy = true; }
