// complex64: parts, arithmetic and comparisons. Products of matrices and sums are
// kernels/lowering/.
#include "kernels/families.h"
#include "kernels/msl/complex_arguments.h"
#include "kernels/native/elements.h"
#include "kernels/native_call.h"

namespace tfmetal {

namespace {

template <ComplexOperation op>
void unary(NativeCall& call) {
  const unsigned operation = op;
  call.dispatch(op < kComplexReal ? "complex_unary" : "complex_to_float", call.node.out().count(),
                {call.in(0), call.out(), NativeCall::value(operation)});
}

template <ComplexOperation op>
void binary(NativeCall& call) {
  const BroadcastArguments shape = broadcast_arguments(call.node, op);
  call.dispatch(op < kComplexEqual ? "complex_binary" : "complex_compare", call.node.out().count(),
                {call.in(0), call.in(1), call.out(), NativeCall::value(shape)});
}

void join(NativeCall& call) {
  const BroadcastArguments shape = broadcast_arguments(call.node, 0);
  call.dispatch("complex_join", call.node.out().count(),
                {call.in(0), call.in(1), call.out(), NativeCall::value(shape)});
}

OpRow row(const char* op, Launch launch) {
  return {.op = op, .types = T({TF_COMPLEX64}), .launch = launch, .elementwise = true};
}

OpRow part(const char* op, Launch launch) {
  OpRow r = row(op, launch);
  r.types.push_back({"Tout", {TF_FLOAT}});
  return r;
}

}  // namespace

std::vector<OpRow> complex_ops() {
  OpRow complex = part("Complex", join);
  complex.types = {{"T", {TF_FLOAT}}, {"Tout", {TF_COMPLEX64}}};
  return {
      complex,
      part("Angle", unary<kComplexAngle>),
      part("ComplexAbs", unary<kComplexAbs>),
      part("Imag", unary<kComplexImag>),
      part("Real", unary<kComplexReal>),
      row("Conj", unary<kComplexConj>),
      row("Exp", unary<kComplexExp>),
      row("Inv", unary<kComplexReciprocal>),
      row("Log", unary<kComplexLog>),
      row("Neg", unary<kComplexNeg>),
      row("Reciprocal", unary<kComplexReciprocal>),
      row("Sqrt", unary<kComplexSqrt>),
      row("Square", unary<kComplexSquare>),
      row("Sin", unary<kComplexSin>),
      row("Cos", unary<kComplexCos>),
      row("Tan", unary<kComplexTan>),
      row("Sinh", unary<kComplexSinh>),
      row("Cosh", unary<kComplexCosh>),
      row("Sign", unary<kComplexSign>),
      row("Add", binary<kComplexAdd>),
      row("AddV2", binary<kComplexAdd>),
      row("Div", binary<kComplexDiv>),
      row("DivNoNan", binary<kComplexDivNoNan>),
      row("Mul", binary<kComplexMul>),
      row("Pow", binary<kComplexPow>),
      row("RealDiv", binary<kComplexDiv>),
      row("Sub", binary<kComplexSub>),
      row("Equal", binary<kComplexEqual>),
      row("NotEqual", binary<kComplexNotEqual>),
  };
}

}  // namespace tfmetal
