// Integer arithmetic and comparisons, and Add and Div, which collectives run in place. Everything
// else of floating point arithmetic is kernels/lowering/elementwise.cc.
#include <cstdint>

#include "kernels/families.h"
#include "kernels/msl/arguments.h"
#include "kernels/native/elements.h"
#include "kernels/native_call.h"

namespace tfmetal {

namespace {

template <Operation op>
void launch(NativeCall& call) {
  const char* shader = op >= kOperationEqual             ? "compare"
                       : is_float(call.node.in(0).dtype) ? "float_arithmetic"
                                                         : "integer_arithmetic";
  const BroadcastArguments shape = broadcast_arguments(call.node, op);
  call.dispatch(shader_name(shader, call.node.in(0).dtype), call.node.out().count(),
                {call.in(0), call.in(1), call.out(), NativeCall::value(shape)});
}

OpRow row(const char* op, Launch launch, DTypes dtypes, Precision precision = Precision::kNone) {
  return {.op = op,
          .types = T(std::move(dtypes)),
          .launch = launch,
          .elementwise = true,
          .inplace = {{0, 0}, {1, 0}},
          .precision = precision};
}

OpRow comparison(const char* op, Launch launch, DTypes dtypes) {
  OpRow r = row(op, launch, std::move(dtypes));
  r.inplace = {};
  return r;
}

}  // namespace

std::vector<OpRow> arithmetic_ops() {
  const DTypes equality = kIntegers + DTypes{TF_BOOL};
  return {
      row("Add", launch<kOperationAdd>, kFloats + kIntegers, Precision::kInfer),
      row("AddV2", launch<kOperationAdd>, kIntegers),
      row("Sub", launch<kOperationSub>, kIntegers),
      row("Mul", launch<kOperationMul>, kIntegers),
      row("Div", launch<kOperationDiv>, kFloats, Precision::kInfer),
      row("Maximum", launch<kOperationMaximum>, kIntegers),
      row("Minimum", launch<kOperationMinimum>, kIntegers),
      comparison("Equal", launch<kOperationEqual>, equality),
      comparison("NotEqual", launch<kOperationNotEqual>, equality),
      comparison("Less", launch<kOperationLess>, kIntegers),
      comparison("LessEqual", launch<kOperationLessEqual>, kIntegers),
      comparison("Greater", launch<kOperationGreater>, kIntegers),
      comparison("GreaterEqual", launch<kOperationGreaterEqual>, kIntegers),
  };
}

}  // namespace tfmetal
