// Ops that map elements to elements. NaN rules are TensorFlow's: maximum, minimum and Relu pass NaN
// on; MPSGraph's plain forms would drop it.
#include <functional>
#include <limits>

#include "kernels/families.h"

namespace tfmetal {

namespace {

using mpsg::Graph;

template <Tensor (Graph::*method)(Tensor) const>
Tensors unary(GraphBuilder& g, const Node&, Inputs in) {
  return {std::invoke(method, g, in[0])};
}

template <Tensor (Graph::*method)(Tensor, Tensor) const>
Tensors binary(GraphBuilder& g, const Node&, Inputs in) {
  return {std::invoke(method, g, in[0], in[1])};
}

Tensors sign(GraphBuilder& g, const Node&, Inputs in) {  // MPSGraph: sign(NaN) = 0
  return {g.select(g.is_nan(in[0]), in[0], g.sign(in[0]))};
}

Tensors relu(GraphBuilder& g, const Node&, Inputs in) {
  return {g.maximum_nan(in[0], g.constant(0, in[0]))};
}

// A product, not a selection: TensorFlow's CPU kernel lets a NaN gradient through everywhere.
Tensors relu_grad(GraphBuilder& g, const Node&, Inputs in) {
  return {g.mul(in[0], g.one_where(g.greater(in[1], g.constant(0, in[1])), in[0]))};
}

Tensors tanh_grad(GraphBuilder& g, const Node&, Inputs in) {  // dy * (1 - y * y)
  return {g.mul(in[1], g.sub(g.constant(1, in[0]), g.square(in[0])))};
}

Tensors sigmoid_grad(GraphBuilder& g, const Node&, Inputs in) {  // dy * y * (1 - y)
  return {g.mul(in[1], g.mul(in[0], g.sub(g.constant(1, in[0]), in[0])))};
}

// TensorFlow answers 0 where dy is 0, also where y is infinite or NaN.
Tensors zero_where_zero(GraphBuilder& g, Tensor dy, Tensor gradient) {
  const Tensor zero = g.constant(0, dy);
  return {g.select(g.equal(dy, zero), zero, gradient)};
}

Tensors sqrt_grad(GraphBuilder& g, const Node&, Inputs in) {  // dy / 2 / y
  const Tensor half = g.mul(in[1], g.constant(0.5, in[1]));
  return zero_where_zero(g, in[1], g.div(half, in[0]));
}

Tensors rsqrt_grad(GraphBuilder& g, const Node&, Inputs in) {  // -dy / 2 * y^3
  const Tensor half = g.mul(in[1], g.constant(-0.5, in[1]));
  return zero_where_zero(g, in[1], g.mul(half, g.mul(in[0], g.square(in[0]))));
}

Tensors reciprocal_grad(GraphBuilder& g, const Node&, Inputs in) {  // -dy * y^2
  return zero_where_zero(g, in[1], g.mul(g.negative(in[1]), g.square(in[0])));
}

Tensors squared_difference(GraphBuilder& g, const Node&, Inputs in) {
  return {g.square(g.sub(in[0], in[1]))};
}

// C's pow. MPSGraph is trusted for bases >= 0 only: the sign of odd integer powers and the NaN of
// roots of negative numbers are added here.
Tensors pow(GraphBuilder& g, const Node&, Inputs in) {
  const Tensor x = in[0], y = in[1];
  const Tensor zero = g.constant(0, x), two = g.constant(2, y);
  const Tensor magnitude = g.pow(g.abs(x), y);
  const Tensor integral = g.equal(g.floor(y), y);
  const Tensor odd = g.equal(g.sub(y, g.mul(two, g.floor(g.div(y, two)))), g.constant(1, y));
  const Tensor negative = g.not_equal(g.signbit(x), zero);
  const Tensor signed_power =
      g.select(g.logical_and(negative, odd), g.negative(magnitude), magnitude);
  const Tensor root =
      g.logical_and(g.logical_and(g.less(x, zero), g.is_finite(x)), g.logical_not(integral));
  const Tensor nan = g.constant(std::numeric_limits<double>::quiet_NaN(), x);
  return {g.select(root, nan, signed_power)};
}

Tensors truncate_div(GraphBuilder& g, const Node&, Inputs in) {
  return {g.truncate(g.div(in[0], in[1]))};
}

Tensors select(GraphBuilder& g, const Node&, Inputs in) { return {g.select(in[0], in[1], in[2])}; }

// Select: the condition has the shape of the data, or is a vector that picks rows, or a scalar.
Tensors select_rows(GraphBuilder& g, const Node& node, Inputs in) {
  Shape rows(std::max<size_t>(node.in(1).rank(), 1), 1);
  if (node.in(0).rank() == 1) rows[0] = node.in(0).shape[0];
  const bool same = node.in(0).shape == node.in(1).shape;
  return {g.select(same ? in[0] : g.reshape(in[0], rows), in[1], in[2])};
}

Tensors add_n(GraphBuilder& g, const Node&, Inputs in) {
  Tensor sum = in[0];
  for (size_t i = 1; i < in.size(); ++i) sum = g.add(sum, in[i]);
  return {sum};
}

bool is_channels_first(const Node& node) {
  return node.def->attr_string("data_format", "NHWC") == "NCHW";
}

Tensors bias_add(GraphBuilder& g, const Node& node, Inputs in) {
  Shape shape(node.in(0).rank(), 1);
  shape[is_channels_first(node) ? 1 : shape.size() - 1] = node.in(1).shape[0];
  return {g.add(in[0], g.reshape(in[1], shape))};
}

// Equal and NotEqual with incompatible_shape_error=false (the == operator of Python) answer
// incompatible shapes with a scalar.
bool broadcasts(const Shape& a, const Shape& b) {
  for (size_t i = 1; i <= std::min(a.size(), b.size()); ++i) {
    const int64_t x = a[a.size() - i], y = b[b.size() - i];
    if (x != y && x != 1 && y != 1) return false;
  }
  return true;
}

template <int answer>
bool infer_equal(Node* node) {
  if (node->def->attr_bool("incompatible_shape_error", true)) return false;
  if (broadcasts(node->in(0).shape, node->in(1).shape)) return false;
  node->outputs = {{TF_BOOL, {}}};
  node->constant_result = answer;
  return true;
}

Tensors cast(GraphBuilder& g, const Node& node, Inputs in) {
  return {g.cast(in[0], node.out().dtype)};
}

bool rounds(const NodeDef& cast) { return !cast.attr_bool("Truncate", false); }

OpRow row(const char* op, Lower lower, Precision precision, DTypes dtypes = kFloats) {
  return {.op = op,
          .types = T(std::move(dtypes)),
          .lower = lower,
          .elementwise = true,
          .precision = precision};
}

// Composed of several steps, each of which would round to 16 bits.
OpRow wide(OpRow r) {
  r.widen = true;
  return r;
}

OpRow logical(const char* op, Lower lower) {
  return {.op = op, .lower = lower, .elementwise = true, .precision = Precision::kClear};
}

}  // namespace

std::vector<OpRow> elementwise_ops() {
  using enum Precision;
  const DTypes any = kFloats + kIntegers + DTypes{TF_BOOL, TF_COMPLEX64};
  std::vector<OpRow> rows = {
      row("Abs", unary<&Graph::abs>, kClear),
      row("Acos", unary<&Graph::acos>, kNone),
      row("Acosh", unary<&Graph::acosh>, kNone),
      row("Asin", unary<&Graph::asin>, kNone),
      row("Asinh", unary<&Graph::asinh>, kNone),
      row("Atan", unary<&Graph::atan>, kNone),
      row("Atanh", unary<&Graph::atanh>, kNone),
      row("Ceil", unary<&Graph::ceil>, kClear),
      row("Cos", unary<&Graph::cos>, kNone),
      row("Cosh", unary<&Graph::cosh>, kNone),
      row("Erf", unary<&Graph::erf>, kInfer),
      row("Exp", unary<&Graph::exp>, kDeny),
      row("Floor", unary<&Graph::floor>, kClear),
      row("Inv", unary<&Graph::reciprocal>, kInfer),
      row("IsFinite", unary<&Graph::is_finite>, kClear),
      row("IsInf", unary<&Graph::is_infinite>, kClear),
      row("IsNan", unary<&Graph::is_nan>, kClear),
      row("Log", unary<&Graph::log>, kInfer),
      row("Neg", unary<&Graph::negative>, kClear),
      row("Reciprocal", unary<&Graph::reciprocal>, kInfer),
      row("Relu", relu, kClear),
      row("Rint", unary<&Graph::rint>, kClear),
      row("Round", unary<&Graph::rint>, kClear),
      row("Rsqrt", unary<&Graph::rsqrt>, kNone),
      row("Sigmoid", unary<&Graph::sigmoid>, kInfer),
      row("Sign", sign, kClear),
      row("Sin", unary<&Graph::sin>, kNone),
      row("Sinh", unary<&Graph::sinh>, kNone),
      row("Sqrt", unary<&Graph::sqrt>, kInfer),
      row("Square", unary<&Graph::square>, kNone),
      row("Tan", unary<&Graph::tan>, kNone),
      row("Tanh", unary<&Graph::tanh>, kInfer),

      row("AddV2", binary<&Graph::add>, kInfer),
      row("DivNoNan", binary<&Graph::div_no_nan>, kInfer),
      row("Maximum", binary<&Graph::maximum_nan>, kClear),
      row("Minimum", binary<&Graph::minimum_nan>, kClear),
      row("Mul", binary<&Graph::mul>, kInfer),
      wide(row("Pow", pow, kDeny)),
      row("RealDiv", binary<&Graph::div>, kInfer),
      wide(row("SquaredDifference", squared_difference, kNone)),
      row("Sub", binary<&Graph::sub>, kInfer),
      wide(row("TruncateDiv", truncate_div, kNone)),

      row("Equal", binary<&Graph::equal>, kClear),
      row("Greater", binary<&Graph::greater>, kClear),
      row("GreaterEqual", binary<&Graph::greater_equal>, kClear),
      row("Less", binary<&Graph::less>, kClear),
      row("LessEqual", binary<&Graph::less_equal>, kClear),
      row("NotEqual", binary<&Graph::not_equal>, kClear),
      logical("LogicalAnd", binary<&Graph::logical_and>),
      logical("LogicalNot", unary<&Graph::logical_not>),
      logical("LogicalOr", binary<&Graph::logical_or>),

      row("ReluGrad", relu_grad, kClear),
      wide(row("InvGrad", reciprocal_grad, kNone)),
      wide(row("ReciprocalGrad", reciprocal_grad, kNone)),
      wide(row("RsqrtGrad", rsqrt_grad, kNone)),
      wide(row("SigmoidGrad", sigmoid_grad, kInfer)),
      wide(row("SqrtGrad", sqrt_grad, kNone)),
      wide(row("TanhGrad", tanh_grad, kInfer)),

      row("SelectV2", select, kClear, any),
      {.op = "Select", .types = T(any), .lower = select_rows, .precision = kClear},
      wide(row("AddN", add_n, kInfer)),
      {.op = "AddN", .types = T({TF_COMPLEX64}), .lower = add_n, .pairs = true},
      {.op = "BiasAdd", .types = T(kFloats), .lower = bias_add, .precision = kInfer},
      // A shader elsewhere (native/cast.cc), which in the middle of a cluster would cut it in two.
      {.op = "Cast",
       .types = {{"SrcT", kFloats}, {"DstT", kFloats}},
       .lower = cast,
       .elementwise = true,
       .cluster_only = true,
       .takes = rounds},
  };
  for (OpRow& r : rows) {
    if (std::string_view(r.op) == "Equal") r.infer = infer_equal<0>;
    if (std::string_view(r.op) == "NotEqual") r.infer = infer_equal<1>;
  }
  return rows;
}

}  // namespace tfmetal
