// MPSGraphActivationOps.
#include "plugin/host/mps_graph/kernels.h"
#include "plugin/host/mps_graph/math.h"
#include "plugin/host/mps_graph/softmax.h"

namespace host {
namespace {

struct Sigmoid : Op {
  static float apply(float x) { return math::sigmoid(x); }
};
HOST_UNARY("sigmoid", Sigmoid);  // 1 / (1 + e^-x). D

// max(x, 0). Whether NaN survives is open (? [T10]): the host answers 0, like the plain maximum.
// A denormal gives 0. M
struct Relu : Op {
  static constexpr unsigned kTypes = kNumbers;
  template <class T>
  static T apply(T x) {
    return x > T(0) ? x : T(0);
  }
};
HOST_UNARY("reLU", Relu);

// Both take the forward *input* x. D M
struct ReluGradient : Op {
  static float apply(float gradient, float x) { return x > 0 ? gradient : 0.0f; }  // at 0: ? [T10]
};
struct SigmoidGradient : Op {
  static float apply(float gradient, float x) {
    const float s = math::sigmoid(x);
    return gradient * (s * (1.0f - s));
  }
};
#define GRADIENT(stem, O)                                                       \
  HOST_METHOD(MPSGraph, stem "GradientWithIncomingGradient:sourceTensor:name:", \
              [](Graph* self, id gradient, id source, id) -> id {               \
                return add_binary<O>(self, stem "Gradient", gradient, source);  \
              })
GRADIENT("reLU", ReluGradient);
GRADIENT("sigmoid", SigmoidGradient);

// x where x > 0, else alpha * x (the header prints max(x, alpha); ? [T11] for alpha > 1 or < 0).
struct LeakyRelu : Op {
  static float apply(float x, float alpha) { return x > 0 ? x : alpha * x; }
};
id leaky_relu(Graph* self, id x, double alpha, id) {
  Tensor* tensor = operand(x, "leakyReLU");
  return add_binary<LeakyRelu>(self, "leakyReLU", tensor,
                               self->scalar(alpha, {}, tensor->type.dtype));
}
HOST_METHOD(MPSGraph, "leakyReLUWithTensor:alpha:name:", leaky_relu);
HOST_METHOD(MPSGraph,
            "leakyReLUWithTensor:alphaTensor:name:", [](Graph* self, id x, id alpha, id) -> id {
              return add_binary<LeakyRelu>(self, "leakyReLU", x, alpha);
            });

void softmax(const View& in, const View& out, long axis) {
  const Shape& shape = in.shape();
  const DataType type = in.type->dtype;
  const long n = shape[axis], inner = strides_of(shape)[axis];
  const long rows = in.count() / n;
  dispatch(type, [&]<class T>(TypeOf<T>) {
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, Half> ||
                  std::is_same_v<T, BFloat>) {
      parallel(rows, std::max(1l, kGrain / n), [&](long begin, long end) {
        std::vector<float> x(n), y(n);
        for (long row = begin; row < end; ++row) {
          const long at = row / inner * inner * n + row % inner;
          for (long i = 0; i < n; ++i) x[i] = to_float(in.as<T>()[at + i * inner]);
          softmax_row(x.data(), y.data(), n);
          for (long i = 0; i < n; ++i) from_float(y[i], out.as<T>()[at + i * inner]);
        }
      });
    }
  });
}

// e^x / sum(e^x) along one axis, any rank (U), with the maximum subtracted first (? [T12]).
id add_softmax(Graph* self, id x, NSInteger axis, id) {
  Tensor* tensor = operand(x, "softMax");
  require_floating(tensor, "softMax");
  const long along = require_axis(axis, tensor->type.shape.size(), "softMax");
  Tensor* result = self->add("softMax", {tensor}, tensor->type,
                             [along](Views in, Views out) { softmax(in[0], out[0], along); });
  if (size_t(along) + 1 == tensor->type.shape.size()) result->node->independent_axes = along;
  return result;
}
HOST_METHOD(MPSGraph, "softMaxWithTensor:axis:name:", add_softmax);

}  // namespace

void softmax_row(const float* x, float* y, long n) {
  isa::run(
      [](const float* __restrict a, float* __restrict b, long count) {
        // Independent lanes, or the loops would wait for one sum.
        constexpr long kLanes = 32;
        float most[kLanes], lanes[kLanes] = {}, sum = 0;
        for (float& m : most) m = -std::numeric_limits<float>::infinity();
        long i = 0;
        for (; i + kLanes <= count; i += kLanes) {
          for (long l = 0; l < kLanes; ++l) most[l] = a[i + l] > most[l] ? a[i + l] : most[l];
        }
        for (; i < count; ++i) most[0] = a[i] > most[0] ? a[i] : most[0];
        for (float m : most) most[0] = m > most[0] ? m : most[0];
        const float top = most[0];
        for (long j = 0; j < count; ++j) b[j] = math::exp(a[j] - top);
        for (i = 0; i + kLanes <= count; i += kLanes) {
          for (long l = 0; l < kLanes; ++l) lanes[l] += b[i + l];
        }
        for (float lane : lanes) sum += lane;
        for (; i < count; ++i) sum += b[i];
        const float scale = 1.0f / sum;
        for (long j = 0; j < count; ++j) b[j] = canonical(b[j] * scale);
      },
      x, y, n);
}

}  // namespace host
