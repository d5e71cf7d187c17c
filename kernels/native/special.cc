// Functions that MPSGraph lacks, and ClipByValue, whose bounds may be of any type.
#include "kernels/families.h"
#include "kernels/msl/special_arguments.h"
#include "kernels/native/elements.h"
#include "kernels/native_call.h"
#include "plugin/error.h"
#include "plugin/tf_api.h"

namespace tfmetal {

namespace {

template <SpecialFunction function>
void unary(NativeCall& call) {
  SpecialArguments arguments = {};
  arguments.type = element_type(call.node.out().dtype);
  arguments.view.op = function;
  call.dispatch("special_unary", call.node.out().count(),
                {call.in(0), call.out(), NativeCall::value(arguments)});
}

// Shaders that a host runs in vectors take positions below 2^31 (kernels/msl/lane.h).
bool fits_lanes(const Node& node) { return node.out().count() <= INT32_MAX; }

// kStem: of a shader in special_lanes.metal.
template <SpecialFunction function, const char* kStem>
void lane_unary(NativeCall& call) {
  if (!fits_lanes(call.node)) return unary<function>(call);
  call.dispatch(shader_name(kStem, call.node.out().dtype), call.node.out().count(),
                {call.in(0), call.out()});
}

template <SpecialFunction function>
void binary(NativeCall& call) {
  const SpecialArguments arguments = {element_type(call.node.out().dtype),
                                      broadcast_arguments(call.node, function)};
  call.dispatch("special_binary", call.node.out().count(),
                {call.in(0), call.in(1), call.out(), NativeCall::value(arguments)});
}

void atan2(NativeCall& call) {
  const Node& node = call.node;
  const bool alike = node.in(0).shape == node.in(1).shape;
  if (!alike || !fits_lanes(node)) return binary<kSpecialAtan2>(call);
  call.dispatch(shader_name("lane_atan2", node.out().dtype), node.out().count(),
                {call.in(0), call.in(1), call.out()});
}

constexpr char kErfc[] = "lane_erfc", kExpm1[] = "lane_expm1", kLog1p[] = "lane_log1p";

void clip(NativeCall& call) {
  const Node& node = call.node;
  const auto step = [&](size_t i) { return node.in(i).rank() == 0 ? 0u : 1u; };
  const ClipArguments arguments = {step(1), step(2)};
  call.dispatch(shader_name("clip", node.out().dtype), node.out().count(),
                {call.in(0), call.in(1), call.in(2), call.out(), NativeCall::value(arguments)});
}

// The shape function lets bounds broadcast; the CPU kernel wants scalars or the shape of the data.
void check_clip(const Node& node) {
  for (size_t i : {1, 2}) {
    if (node.in(i).rank() == 0 || node.in(i).shape == node.in(0).shape) continue;
    throw_invalid_argument(node.describe(), ": clip_value_min and clip_value_max must be either ",
                           "of the same shape as input, or a scalar. Input shape: ",
                           to_string(node.in(0).shape), ", bound: ", to_string(node.in(i).shape));
  }
}

OpRow row(const char* op, Launch launch, Precision precision = Precision::kNone) {
  return {
      .op = op, .types = T(kFloats), .launch = launch, .elementwise = true, .precision = precision};
}

}  // namespace

std::vector<OpRow> special_ops() {
  using enum Precision;
  return {
      row("BesselI0e", unary<kSpecialBesselI0e>),
      row("BesselI1e", unary<kSpecialBesselI1e>),
      row("Digamma", tensorflow_since(2, 22) ? unary<kSpecialDigammaPole> : unary<kSpecialDigamma>,
          kDeny),
      row("Erfc", lane_unary<kSpecialErfc, kErfc>, kInfer),
      row("Erfinv", unary<kSpecialErfinv>, kDeny),
      row("Expm1", lane_unary<kSpecialExpm1, kExpm1>, kDeny),
      row("Lgamma", unary<kSpecialLgamma>, kDeny),
      row("Log1p", lane_unary<kSpecialLog1p, kLog1p>, kInfer),
      row("Ndtri", unary<kSpecialNdtri>, kDeny),
      row("Atan2", atan2),
      row("Igamma",
          tensorflow_since(2, 23) ? binary<kSpecialIgammaDefined> : binary<kSpecialIgamma>, kDeny),
      row("Igammac", binary<kSpecialIgammac>, kDeny),
      row("MulNoNan", binary<kSpecialMulNoNan>, kInfer),
      row("NextAfter", binary<kSpecialNextAfter>),
      row("Xdivy", binary<kSpecialXdivy>),
      row("Xlog1py", binary<kSpecialXlog1py>),
      row("Xlogy", binary<kSpecialXlogy>),
      {.op = "ClipByValue",
       .types = T(kFloats + DTypes{TF_INT8, TF_INT16, TF_INT64, TF_UINT8, TF_UINT16}),
       .launch = clip,
       .check = check_clip,
       .inplace = {{0, 0}},
       .precision = kClear},
  };
}

}  // namespace tfmetal
