// Depthwise convolutions: every channel of x has `multiplier` channels of y of its own. Channels
// are the lanes; x is repeated so that lanes of x, weights and y meet.
#include <algorithm>
#include <cstring>

#include "plugin/host/mps_graph/convolution.h"
#include "plugin/host/mps_graph/kernels.h"
#include "plugin/host/parallel.h"

namespace host {
namespace {

// Vectors of neighbouring channels. (As template arguments, vector types lose their attribute.)
struct Sixteen {
  using Type = float __attribute__((vector_size(64)));
};
struct Four {
  using Type = float __attribute__((vector_size(16)));
};
struct One {
  using Type = float;
};
template <class T>
inline void load(const float* from, T& to) {
  __builtin_memcpy(&to, from, sizeof to);
}
template <class T>
inline void store(const T& from, float* to) {
  __builtin_memcpy(to, &from, sizeof from);
}

// Calls f(V(), c) for vectors of channels c, c + 1, ... that together are [0, channels).
template <class F>
inline void for_channels(long channels, const F& f) {
  long c = 0;
  for (; c + 16 <= channels; c += 16) f(Sixteen(), c);
  for (; c + 4 <= channels; c += 4) f(Four(), c);
  for (; c < channels; ++c) f(One(), c);
}

struct Taps {
  const float* x;
  const long* rows;  // where each row begins
  long row_count;
  const long* tap;  // distances from there
  long tap_count, channels;
};

// Rows [r, r + kRows): y[r] = sum over taps of x[rows[r] + tap[t]] * w[t].
template <class V, long kRows>
inline void multiply_rows(const Taps& taps, const float* const* w, long r, long c, float* y) {
  typename V::Type sum[kRows] = {};
  const float* from[kRows];
  for (long i = 0; i < kRows; ++i) from[i] = taps.x + taps.rows[r + i] + c;
  for (long t = 0; t < taps.tap_count; ++t) {
    typename V::Type weight, x;
    load(w[t] + c, weight);
    _Pragma("GCC unroll 8") for (long i = 0; i < kRows; ++i) {
      load(from[i] + taps.tap[t], x);
      sum[i] += x * weight;
    }
  }
  for (long i = 0; i < kRows; ++i) store(sum[i], y + (r + i) * taps.channels + c);
}

void multiply_lanes(const Taps& all, const std::vector<const float*>& weights, float* y) {
  isa::run(
      [](const Taps* taps, const float* const* w, float* out) {
        constexpr long kRows = 8;
        long r = 0;
        for (; r + kRows <= taps->row_count; r += kRows) {
          for_channels(taps->channels,
                       [&]<class V>(V, long c) { multiply_rows<V, kRows>(*taps, w, r, c, out); });
        }
        for (; r < taps->row_count; ++r) {
          for_channels(taps->channels,
                       [&]<class V>(V, long c) { multiply_rows<V, 1>(*taps, w, r, c, out); });
        }
      },
      &all, weights.data(), y);
}

// Taps [t, t + kTaps): sums[t] += sum over rows of x[rows[r] + tap[t]] * dy[r].
template <class V, long kTaps>
inline void accumulate_taps(const Taps& taps, const float* dy, long t, long c, float* sums) {
  typename V::Type sum[kTaps] = {};
  for (long r = 0; r < taps.row_count; ++r) {
    typename V::Type gradient, x;
    load(dy + r * taps.channels + c, gradient);
    const float* from = taps.x + taps.rows[r] + c;
    _Pragma("GCC unroll 8") for (long i = 0; i < kTaps; ++i) {
      load(from + taps.tap[t + i], x);
      sum[i] += x * gradient;
    }
  }
  for (long i = 0; i < kTaps; ++i) {
    float* to = sums + (t + i) * taps.channels + c;
    typename V::Type old;
    load(to, old);
    store<typename V::Type>(old + sum[i], to);
  }
}

void accumulate_lanes(const Taps& all, const float* dy, float* sums) {
  isa::run(
      [](const Taps* taps, const float* g, float* out) {
        constexpr long kTaps = 5;
        for_channels(taps->channels, [&]<class V>(V, long c) {
          long t = 0;
          for (; t + kTaps <= taps->tap_count; t += kTaps) {
            accumulate_taps<V, kTaps>(*taps, g, t, c, out);
          }
          for (; t < taps->tap_count; ++t) accumulate_taps<V, 1>(*taps, g, t, c, out);
        });
      },
      &all, dy, sums);
}

std::vector<long> tap_offsets(const Pass& pass, const Block& block) {
  std::vector<long> offsets;
  for (const Tap& tap : pass.taps) offsets.push_back(block.offset(tap.at));
  return offsets;
}

const float* wide_weights(const View& weights) {
  const long n = weights.count();
  if (weights.type->dtype == DataType::Float32) return weights.as<float>();
  float* wide = scratch(kWeights, n);
  widen(weights.type->dtype, weights.data, wide, n);
  return wide;
}

// Sums of `multiplier` neighbours, in place.
void add_neighbours(float* rows, long count, long multiplier) {
  if (multiplier == 1) return;
  for (long i = 0; i < count; ++i) {
    float sum = 0;
    for (long m = 0; m < multiplier; ++m) sum += rows[i * multiplier + m];
    rows[i] = sum;
  }
}

// `repeat`: of each source channel; `add`: neighbouring channels that make one of the result.
void run_lanes(const Images& source, const Images& result, const Pass& pass, const float* weights,
               long repeat, long add) {
  const long lanes = source.channels * repeat;
  const std::vector<Chunk> chunks = make_chunks(pass, source.batch, lanes);
  std::vector<const float*> by;
  for (const Tap& tap : pass.taps) by.push_back(weights + tap.weights * lanes);
  parallel(long(chunks.size()), 1, [&](long begin, long end) {
    for (long i = begin; i < end; ++i) {
      const Chunk& chunk = chunks[size_t(i)];
      const Block block = load_block(source, pass, chunk, 0, source.channels, repeat);
      float* rows = scratch(kRows, chunk.rows(pass) * lanes);
      const std::vector<long> offsets = row_offsets(block, pass, chunk);
      const std::vector<long> taps = tap_offsets(pass, block);
      multiply_lanes(
          {block.data, offsets.data(), long(offsets.size()), taps.data(), long(taps.size()), lanes},
          by, rows);
      add_neighbours(rows, chunk.rows(pass) * lanes / add, add);
      store_rows(rows, lanes / add, result, pass, chunk, 0, lanes / add);
    }
  });
}

}  // namespace

void depthwise(const Convolution& how, const Images& x, const View& weights, const Images& y) {
  run_lanes(x, y, forward_pass(how, y.extent), wide_weights(weights), y.channels / x.channels, 1);
}

void depthwise_source_gradient(const Convolution& how, const Images& dy, const View& weights,
                               const Images& dx) {
  const float* wide = wide_weights(weights);
  for (const Pass& pass : gradient_passes(how, dx.extent)) {
    run_lanes(dy, dx, pass, wide, 1, dy.channels / dx.channels);
  }
}

void depthwise_weights_gradient(const Convolution& how, const Images& x, const Images& dy,
                                const View& dw) {
  const Pass pass = forward_pass(how, dy.extent);
  const long lanes = dy.channels, size = long(pass.taps.size()) * lanes;
  const std::vector<Chunk> chunks = make_chunks(pass, x.batch, lanes);
  Pass gradient = pass;  // reads what the pass writes
  gradient.step = {1, 1, 1};
  gradient.before = {0, 0, 0};
  gradient.span = {1, 1, 1};
  const float* sums =
      sum_chunks(chunks, 4 * long(parallelism()), size, [&](const Chunk& chunk, float* part) {
        const Block rows = load_block(dy, gradient, chunk, 0, lanes, 1);
        float* g = scratch(kGradient, chunk.rows(pass) * lanes);
        std::memcpy(g, rows.data, size_t(chunk.rows(pass) * lanes) * sizeof(float));
        const Block block = load_block(x, pass, chunk, 0, x.channels, lanes / x.channels);
        const std::vector<long> offsets = row_offsets(block, pass, chunk);
        const std::vector<long> taps = tap_offsets(pass, block);
        accumulate_lanes({block.data, offsets.data(), long(offsets.size()), taps.data(),
                          long(taps.size()), lanes},
                         g, part);
      });
  store_values(sums, dw.data, dw.type->dtype, size);
}

}  // namespace host
