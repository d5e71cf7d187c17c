// MPSGraphNormalizationOps: one pass over the data each.
#include <algorithm>
#include <cmath>

#include "plugin/host/mps_graph/column_sums.h"
#include "plugin/host/mps_graph/kernels.h"

namespace host {
namespace {

// The data as [outer, channels, inner], where the statistics have extent 1 but for the channels.
// The host knows neighbouring axes of channels only.
struct Grid {
  long outer = 1, channels = 1, inner = 1;
};

Grid make_grid(const Shape& data, const Shape& statistics, const char* method) {
  if (data.size() != statistics.size()) abort_inference(method, "rank of the statistics");
  Grid grid;
  for (size_t i = 0; i < data.size(); ++i) {
    if (statistics[i] == data[i] && data[i] != 1) {
      if (grid.inner != 1) abort_inference(method, "the host knows one group of kept axes");
      grid.channels *= data[i];
    } else if (statistics[i] != 1) {
      abort_inference(method, "shape of the statistics");
    } else {
      (grid.channels == 1 ? grid.outer : grid.inner) *= data[i];
    }
  }
  return grid;
}

std::vector<float> values_of(const View& view) {
  std::vector<float> values(size_t(view.count()));
  if (view.type->dtype == DataType::Float32) {
    std::copy_n(view.as<float>(), values.size(), values.begin());
  } else {
    widen(view.type->dtype, view.data, values.data(), view.count());
  }
  return values;
}

void store(const std::vector<float>& values, const View& out) {
  if (out.type->dtype == DataType::Float32) {
    std::copy(values.begin(), values.end(), out.as<float>());
  } else {
    narrow(out.type->dtype, values.data(), out.data, long(values.size()));
  }
}

// out = (first - (second - center) * slope - shift) * factor + bias, coefficients by channel;
// without `second`, out = (first - shift) * factor + bias.
struct Line {
  std::vector<float> center, slope, shift, factor, bias;
};

// `rows` rows of n channels.
template <bool kTwo, class T>
void apply_rows(const T* first, const T* second, T* out, long rows, long n, const Line& line) {
  isa::run(
      [](const T* __restrict a, const T* __restrict b, T* __restrict y, long row_count, long count,
         const float* __restrict center, const float* __restrict slope,
         const float* __restrict shift, const float* __restrict factor,
         const float* __restrict bias) {
        for (long r = 0; r < row_count; ++r, a += count, b += count, y += count) {
          for (long j = 0; j < count; ++j) {
            float d = to_float(a[j]);
            if constexpr (kTwo) d -= (to_float(b[j]) - center[j]) * slope[j];
            from_float(canonical((d - shift[j]) * factor[j] + bias[j]), y[j]);
          }
        }
      },
      first, second, out, rows, n, line.center.data(), line.slope.data(), line.shift.data(),
      line.factor.data(), line.bias.data());
}

// n neighbours of channel c.
template <bool kTwo, class T>
void apply_run(const T* first, const T* second, T* out, long n, const Line& line, size_t c) {
  isa::run(
      [](const T* __restrict a, const T* __restrict b, T* __restrict y, long count, float center,
         float slope, float shift, float factor, float bias) {
        for (long j = 0; j < count; ++j) {
          float d = to_float(a[j]);
          if constexpr (kTwo) d -= (to_float(b[j]) - center) * slope;
          from_float(canonical((d - shift) * factor + bias), y[j]);
        }
      },
      first, second, out, n, line.center[c], line.slope[c], line.shift[c], line.factor[c],
      line.bias[c]);
}

template <bool kTwo>
void apply(const Grid& grid, const View& first, const View& second, const View& out,
           const Line& line) {
  dispatch(out.type->dtype, [&]<class T>(TypeOf<T>) {
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, Half> ||
                  std::is_same_v<T, BFloat>) {
      const T *a = first.as<T>(), *b = second.as<T>();
      T* y = out.as<T>();
      const long rows = grid.inner == 1 ? grid.outer : grid.outer * grid.channels;
      const long width = grid.inner == 1 ? grid.channels : grid.inner;
      parallel(rows, std::max(1l, kGrain / width), [&](long begin, long end) {
        const long at = begin * width;
        if (grid.inner == 1) {
          return apply_rows<kTwo>(a + at, b + at, y + at, end - begin, width, line);
        }
        for (long r = begin; r < end; ++r) {
          apply_run<kTwo>(a + r * width, b + r * width, y + r * width, width, line,
                          size_t(r % grid.channels));
        }
      });
    }
  });
}

std::vector<float> reciprocal_deviation(const View& variance, float epsilon) {
  std::vector<float> rate = values_of(variance);
  for (float& v : rate) v = 1.0f / std::sqrt(v + epsilon);
  return rate;
}

// (x - mean) / sqrt(variance + epsilon) * gamma + beta; gamma and beta may be nil. D U
id add_normalization(Graph* self, id x, id mean, id variance, id gamma, id beta, float epsilon,
                     id) {
  const char* method = "normalization";
  std::vector<Tensor*> in{operand(x, method), operand(mean, method), operand(variance, method)};
  const bool has_gamma = gamma, has_beta = beta;
  if (gamma) in.push_back(operand(gamma, method));
  if (beta) in.push_back(operand(beta, method));
  require_same_type(in, method);
  require_floating(in[0], method);
  const Grid grid = make_grid(in[0]->type.shape, in[1]->type.shape, method);
  return self->add(method, in, in[0]->type, [=](Views v, Views out) {
    const size_t n = size_t(grid.channels);
    Line line{std::vector<float>(n), std::vector<float>(n), values_of(v[1]),
              reciprocal_deviation(v[2], epsilon), std::vector<float>(n)};
    if (has_gamma) {
      const std::vector<float> scale = values_of(v[3]);
      for (size_t c = 0; c < n; ++c) line.factor[c] *= scale[c];
    }
    if (has_beta) line.bias = values_of(v[has_gamma ? 4 : 3]);
    apply<false>(grid, v[0], v[0], out[0], line);
  });
}
HOST_METHOD(MPSGraph,
            "normalizationWithTensor:meanTensor:varianceTensor:gammaTensor:betaTensor:epsilon:"
            "name:",
            add_normalization);

// sum of gradient * (x - mean) / sqrt(variance + epsilon), the reduced axes kept. D
id add_gamma_gradient(Graph* self, id gradient, id x, id mean, id variance, id axes, float epsilon,
                      id) {
  const char* method = "normalizationGammaGradient";
  std::vector<Tensor*> in{operand(gradient, method), operand(x, method), operand(mean, method),
                          operand(variance, method)};
  require_same_type(in, method);
  require_floating(in[0], method);
  require_axes(axes, in[1]->type.shape.size(), method);
  const Grid grid = make_grid(in[1]->type.shape, in[2]->type.shape, method);
  return self->add(method, in, in[2]->type, [=](Views v, Views out) {
    const std::vector<float> mean_values = values_of(v[2]);
    std::vector<float> sums = reciprocal_deviation(v[3], epsilon);
    std::vector<float> products(sums.size());
    centred_products(v[1].data, v[0].data, v[1].type->dtype, grid.outer, grid.channels, grid.inner,
                     mean_values.data(), products.data());
    for (size_t c = 0; c < sums.size(); ++c) sums[c] = canonical(sums[c] * products[c]);
    store(sums, out[0]);
  });
}
HOST_METHOD(MPSGraph,
            "normalizationGammaGradientWithIncomingGradientTensor:sourceTensor:meanTensor:"
            "varianceTensor:reductionAxes:epsilon:name:",
            add_gamma_gradient);

// The training gradient, statistics depending on x:
// gamma / sqrt(variance + epsilon) * (g - (dbeta + xhat * dgamma) / N). D U
id add_normalization_gradient(Graph* self, id gradient, id x, id mean, id variance, id gamma,
                              id gamma_gradient, id beta_gradient, id axes, float epsilon, id) {
  const char* method = "normalizationGradient";  // nil tensors: ? [T36]
  std::vector<Tensor*> in;
  for (id tensor : {gradient, x, mean, variance, gamma, gamma_gradient, beta_gradient}) {
    in.push_back(operand(tensor, method));
  }
  require_same_type(in, method);
  require_floating(in[0], method);
  require_axes(axes, in[1]->type.shape.size(), method);
  const Grid grid = make_grid(in[1]->type.shape, in[2]->type.shape, method);
  return self->add(method, in, in[1]->type, [=](Views v, Views out) {
    const float count = float(grid.outer * grid.inner);
    const std::vector<float> rate = reciprocal_deviation(v[3], epsilon);
    Line line{values_of(v[2]), values_of(v[5]), values_of(v[6]), values_of(v[4]),
              std::vector<float>(rate.size())};
    for (size_t c = 0; c < rate.size(); ++c) {
      line.slope[c] *= rate[c] / count;
      line.shift[c] /= count;
      line.factor[c] *= rate[c];
    }
    apply<true>(grid, v[0], v[1], out[0], line);
  });
}
HOST_METHOD(MPSGraph,
            "normalizationGradientWithIncomingGradientTensor:sourceTensor:meanTensor:"
            "varianceTensor:gammaTensor:gammaGradientTensor:betaGradientTensor:reductionAxes:"
            "epsilon:name:",
            add_normalization_gradient);

}  // namespace
}  // namespace host
