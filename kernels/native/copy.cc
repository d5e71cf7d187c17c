// Copies: ops whose output has the bits of their input. TensorFlow's optimizers put Snapshot into
// graphs after placement, in place of arithmetic that does nothing.
#include "kernels/families.h"
#include "kernels/native_call.h"

namespace tfmetal {

namespace {

void copy(NativeCall& call) {
  const BufferSlice from = call.inputs[0], to = call.outputs[0];
  if (from.block == to.block && from.offset == to.offset) return;
  call.copy(from, to, call.node.out().bytes());
}

OpRow row(const char* op, std::vector<std::pair<int, int>> inplace) {
  return {.op = op,
          .types = T(kFloats + kIntegers + DTypes{TF_BOOL, TF_COMPLEX64}),
          .launch = copy,
          .inplace = std::move(inplace),
          .precision = Precision::kClear};
}

}  // namespace

std::vector<OpRow> copy_ops() {
  return {
      row("DeepCopy", {}),
      row("Snapshot", {{0, 0}}),
  };
}

}  // namespace tfmetal
