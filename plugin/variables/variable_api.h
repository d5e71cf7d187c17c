// TensorFlow's variable functions as kernels call them: errors are exceptions, what differs between
// TensorFlow's own functions and the shim is settled here. Only for variable_mode() != kSync.
//
// The functions that kernels pass in get tensors to use, not to delete, and may throw
// tfmetal::Error. They queue their work on the kernel's stream.
#pragma once

#include "plugin/error.h"
#include "plugin/tf_api.h"

namespace tfmetal {

// Same dtype and shape; never called for an empty tensor.
using CopyTensor = void (*)(TF_OpKernelContext* context, TF_Tensor* source, TF_Tensor* destination);
using AddTensors = void (*)(TF_OpKernelContext* context, TF_Tensor* a, TF_Tensor* b,
                            TF_Tensor* sum);
using ZeroTensor = void (*)(TF_OpKernelContext* context, TF_Tensor* like, TF_Tensor* zeros);

enum class VariableAccess {
  kDense,   // the whole tensor is written; readers keep the old buffer
  kSparse,  // rows are read or written; from then on dense reads copy (copy-on-read)
};

// A resource variable that a kernel has locked, and its tensor.
class LockedVariable {
 public:
  // `input`: index of the resource handle, 0 in every op (TensorFlow's own lock function takes
  // others for wrong ones). `exclusive`: else the lock is shared. Throws Error, also when
  // TensorFlow has failed the context itself.
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

// Makes input `value` the value of the variable in input `variable`. Takes over the buffer of
// `value`; copies only in copy-on-read mode. Throws Error.
void assign_variable(TF_OpKernelContext* context, int variable, int value, bool validate_shape,
                     CopyTensor copy);

// AddN and ZerosLike of variants (TensorList, Optional): calls the function for each pair of
// elements, or each element, and sets output 0. Throws Error.
void add_variants(TF_OpKernelContext* context, AddTensors add);
void zeros_like_variant(TF_OpKernelContext* context, ZeroTensor zero);

}  // namespace tfmetal
