// Tensors of one value.
#include "kernels/families.h"
#include "kernels/native/strided.h"

namespace tfmetal {

namespace {

void fill(NativeCall& call) {
  const int64_t count = call.node.out().count();
  if (count > INT32_MAX) return copy_from_view(call, {0, {count}, {0}}, 1);
  call.dispatch(strided_shader("strided_fill", call.node.out().dtype), count,
                {call.in(1), call.out()});
}

void zeros_like(NativeCall& call) { call.clear(call.outputs[0], call.node.out().bytes()); }

void ones_like(NativeCall& call) {
  const float value = 1;
  call.dispatch(shader_name("fill_value", call.node.out().dtype), call.node.out().count(),
                {call.out(), NativeCall::value(value)});
}

}  // namespace

std::vector<OpRow> fill_ops() {
  using enum Precision;
  const DTypes any = kFloats + kIntegers + DTypes{TF_BOOL, TF_COMPLEX64};
  return {
      {.op = "Fill",
       .types = T(any),
       .host = {{"dims", HostUse::kKey}},
       .launch = fill,
       .precision = kClear},
      {.op = "ZerosLike",
       .types = T(any),
       .launch = zeros_like,
       .inplace = {{0, 0}},
       .precision = kClear},
      {.op = "OnesLike",
       .types = T(any),
       .launch = ones_like,
       .inplace = {{0, 0}},
       .precision = kClear},
  };
}

}  // namespace tfmetal
