// A resource variable as the kernels that read or change it see it.
#pragma once

#include "kernels/kernel.h"
#include "plugin/variables/variable_api.h"

namespace tfmetal {

// The variable in input 0, locked until this goes out of scope: by then the work is encoded, and
// what comes later on the stream runs after it. Throws InvalidArgument unless it is of type
// `expected`.
class Variable {
 public:
  Variable(KernelCall& call, TF_DataType expected, VariableAccess access, bool exclusive = true);

  void* data() const { return slice.contents(); }

 private:
  const LockedVariable locked_;

 public:
  const TensorInfo info;
  const BufferSlice slice;
};

// For OpRow::available of such kernels.
bool variables_available();

}  // namespace tfmetal
