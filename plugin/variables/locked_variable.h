// A resource variable that a kernel has locked, and its tensor: the one way in which our kernels
// reach variables, the same on TensorFlow's own functions and on the shim.
#pragma once

#include "plugin/error.h"
#include "plugin/tf_api.h"

namespace tfmetal {

// Copies `source` to `destination` (same dtype and shape), ordered with the kernel's work. Both are
// the callee's to read, not to delete. Throws tfmetal::Error.
using CopyTensor = void (*)(TF_OpKernelContext* context, TF_Tensor* source, TF_Tensor* destination);

enum class VariableAccess {
  kDense,   // the whole tensor is written; readers keep the old buffer
  kSparse,  // rows are read or written; from then on dense reads copy (copy-on-read)
};

class LockedVariable {
 public:
  // `input`: index of the resource handle, 0 in every op (TensorFlow's own lock function, up to
  // 2.18, takes others for wrong ones). `exclusive`: else the lock is shared, and the kernel must
  // not change the tensor's shape. Throws Error, also when TensorFlow has failed the context
  // itself.
  LockedVariable(TF_OpKernelContext* context, int input, VariableAccess access, bool exclusive,
                 CopyTensor copy);
  ~LockedVariable();
  LockedVariable(const LockedVariable&) = delete;
  LockedVariable& operator=(const LockedVariable&) = delete;

  // The variable's own buffer, which nobody else reads: to be changed in place.
  TF_Tensor* tensor() const { return tensor_; }

 private:
  void release();

  TF_VariableInputLockHolder* lock_ = nullptr;
  TF_Tensor* tensor_ = nullptr;
};

// Makes input `value` the value of the variable in input `variable`. Takes the buffer of `value`;
// copies only in copy-on-read mode. Throws Error.
void assign_variable(TF_OpKernelContext* context, int variable, int value, bool validate_shape,
                     CopyTensor copy);

}  // namespace tfmetal
