#include "plugin/variables/locked_variable.h"

#include <exception>

namespace tfmetal {

namespace {

// TensorFlow's callbacks carry no user data and no status, so both ride on the calling thread.
struct CopyCall {
  CopyTensor copy = nullptr;
  std::exception_ptr failure;
};
thread_local CopyCall* current_call = nullptr;

// Runs for the duration of one call into TensorFlow.
class CopyScope {
 public:
  explicit CopyScope(CopyTensor copy) : call_{copy, nullptr}, outer_(current_call) {
    current_call = &call_;
  }
  ~CopyScope() { current_call = outer_; }
  void rethrow() const {
    if (call_.failure) std::rethrow_exception(call_.failure);
  }

 private:
  CopyCall call_;
  CopyCall* outer_;
};

// Owns both tensors. A failure fails the context, so that the shim stops, and is kept, because
// TensorFlow's own functions go on.
void copy_callback(TF_OpKernelContext* context, TF_Tensor* source, TF_Tensor* destination) {
  try {
    // TensorFlow's own functions pass null for a variable that holds no value.
    if (!source || !destination) throw_failed_precondition("the variable has no value");
    if (tf.TF_TensorByteSize(source) > 0) current_call->copy(context, source, destination);
  } catch (const std::exception& e) {
    current_call->failure = std::current_exception();
    const auto* error = dynamic_cast<const Error*>(&e);
    Status status;
    tf.TF_SetStatus(status, error ? error->code : TF_INTERNAL, e.what());
    tf.TF_OpKernelContext_Failure(context, status);
  }
  if (source) tf.TF_DeleteTensor(source);
  if (destination) tf.TF_DeleteTensor(destination);
}

}  // namespace

LockedVariable::LockedVariable(TF_OpKernelContext* context, int input, VariableAccess access,
                               bool exclusive, CopyTensor copy) {
  const bool sparse = access == VariableAccess::kSparse;
  const CopyScope scope(copy);
  Status status;
  tf.TF_MaybeLockVariableInputMutexesInOrder(context, exclusive, sparse, &input, 1, copy_callback,
                                             &lock_, status);
  try {
    scope.rethrow();
    status.check();
    tf.TF_GetInputTensorFromVariable(context, input, exclusive, /*isVariantType=*/false, sparse,
                                     copy_callback, &tensor_, status);
    scope.rethrow();
    status.check();
    // TensorFlow's own functions leave an OK status; the context has the reason and keeps it.
    if (!tensor_) throw_failed_precondition("the variable in input ", input, " is not available");
  } catch (...) {
    release();
    throw;
  }
}

LockedVariable::~LockedVariable() { release(); }

void LockedVariable::release() {
  if (tensor_) tf.TF_DeleteTensor(tensor_);
  if (lock_) tf.TF_ReleaseVariableInputLockHolder(lock_);
  tensor_ = nullptr;
  lock_ = nullptr;
}

void assign_variable(TF_OpKernelContext* context, int variable, int value, bool validate_shape,
                     CopyTensor copy) {
  const CopyScope scope(copy);
  Status status;
  tf.TF_AssignVariable(context, variable, value, validate_shape, copy_callback, status);
  scope.rethrow();
  status.check();
}

}  // namespace tfmetal
