// Tensors of one value.
#include "kernels/families.h"
#include "kernels/native/strided.h"

namespace tfmetal {

namespace {

void fill(NativeCall& call) {  // every element is the one at stride 0
  const StridedView view{0, {call.node.out().count()}, {0}};
  const StridedCopyArguments arguments = strided_arguments(view, call.node);
  call.dispatch(strided_shader("strided_copy", call.node.out().dtype), call.node.out().count(),
                {call.in(1), call.out(), NativeCall::value(arguments)});
}

template <int number>
void fill_like(NativeCall& call) {
  const float value = number;
  call.dispatch(shader_name("fill_value", call.node.out().dtype), call.node.out().count(),
                {call.out(), NativeCall::value(value)});
}

}  // namespace

std::vector<OpRow> fill_ops() {
  const DTypes any = kFloats + kIntegers + DTypes{TF_BOOL, TF_COMPLEX64};
  return {
      {.op = "Fill", .types = T(any), .host = {{"dims", HostUse::kKey}}, .launch = fill},
      {.op = "ZerosLike", .types = T(any), .launch = fill_like<0>, .inplace = {{0, 0}}},
      {.op = "OnesLike", .types = T(any), .launch = fill_like<1>, .inplace = {{0, 0}}},
  };
}

}  // namespace tfmetal
