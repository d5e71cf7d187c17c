// MPSGraph's scaled dot product attention (macOS 15).
#include <algorithm>
#include <array>

#include "plugin/host/mps_graph/gemm.h"
#include "plugin/host/mps_graph/graph.h"
#include "plugin/host/mps_graph/isa.h"
#include "plugin/host/mps_graph/softmax.h"

namespace host {
namespace {

// Elements of the scores that one thread has at a time: they stay in its second-level cache.
constexpr long kScores = 1 << 17;
constexpr long kMostRows = 128, kLeastRows = 8;

// Scores are numbered with 32 bits inside: beyond, results are wrong without an error. U
constexpr long kMostScores = long{1} << 31;

struct Attention {
  long heads, rows, keys, features, width;  // heads: of all batches
  std::array<long, 4> mask_strides;         // 0 where it broadcasts
  long heads_per_batch;
  bool masked;
  float scale;

  // x = x * scale + mask
  void add_mask(const View& mask, long head, long row, float* x) const {
    const long at = head / heads_per_batch * mask_strides[0] +
                    head % heads_per_batch * mask_strides[1] + row * mask_strides[2];
    dispatch(mask.type->dtype, [&]<class T>(TypeOf<T>) {
      if constexpr (std::is_same_v<T, float> || std::is_same_v<T, Half> ||
                    std::is_same_v<T, BFloat>) {
        isa::run(
            [](const T* __restrict m, float* __restrict to, long n, long step, float factor) {
              if (step == 1) {
                for (long i = 0; i < n; ++i) to[i] = to[i] * factor + to_float(m[i]);
              } else {
                for (long i = 0; i < n; ++i) to[i] = to[i] * factor + to_float(m[0]);
              }
            },
            static_cast<const T*>(mask.as<T>() + at), x, keys, mask_strides[3], scale);
      }
    });
  }

  void scale_row(float* x) const {
    isa::run(
        [](float* to, long n, float factor) {
          for (long i = 0; i < n; ++i) to[i] *= factor;
        },
        x, keys, scale);
  }

  // `count` rows of one head from `row` on; `scores` holds their products.
  void block(Views in, const View& out, long head, long row, long count, float* scores) const {
    const DataType type = out.type->dtype;
    const long bytes = long(size_of(type));
    const Matrix q{in[0].data + (head * rows + row) * features * bytes, type, features, 1};
    const Matrix k{in[1].data + head * keys * features * bytes, type, 1, features};
    const Matrix v{in[2].data + head * keys * width * bytes, type, width, 1};
    char* sums = reinterpret_cast<char*>(scores);
    gemm(count, keys, features, q, k, sums, DataType::Float32);
    for (long i = 0; i < count; ++i) {
      float* x = scores + i * keys;
      if (masked) {
        add_mask(in[3], head, row + i, x);
      } else {
        scale_row(x);
      }
      softmax_row(x, x, keys);
    }
    gemm(count, width, keys, {sums, DataType::Float32, keys, 1}, v,
         out.data + (head * rows + row) * width * bytes, type);
  }

  void run(Views in, const View& out) const {
    const long height = std::min(rows, std::clamp(kScores / keys, kLeastRows, kMostRows));
    const long blocks = (rows + height - 1) / height;
    const long work = height * keys * (features + width);
    constexpr long kLeastWork = 1 << 19;  // multiplications
    parallel(heads * blocks, std::max(1l, kLeastWork / work), [&](long begin, long end) {
      std::vector<float> scores(size_t(height * keys));
      for (long i = begin; i < end; ++i) {
        const long row = i % blocks * height;
        block(in, out, i / blocks, row, std::min(height, rows - row), scores.data());
      }
    });
  }
};

// Strides with which the mask, of rank 4, is read for scores of this shape.
std::array<long, 4> strides_of_mask(const Shape& mask, const Shape& scores, const char* method) {
  if (mask.size() != scores.size()) abort_inference(method, "rank of the mask");  // ? [T54]
  std::array<long, 4> strides{};
  long step = 1;
  for (size_t i = 4; i-- > 0; step *= mask[i]) {
    if (mask[i] != 1 && mask[i] != scores[i]) abort_inference(method, "shape of the mask");
    strides[i] = mask[i] == 1 ? 0 : step;
  }
  return strides;
}

// softmax(scale * Q K^T + mask) V of [batch, heads, rows, features], the mask broadcast or nil (D).
// A row whose mask is all -inf is NaN (U). Other ranks, heads or types that differ: ? [T54].
// 16-bit floats are multiplied and summed up in float32 (? [T55]).
id attend(Graph* self, id query, id key, id value, id mask, float scale, id) {
  const char* method = "scaledDotProductAttention";
  std::vector<Tensor*> in{operand(query, method), operand(key, method), operand(value, method)};
  if (mask) in.push_back(operand(mask, method));
  require_same_type(in, method);
  require_floating(in[0], method);
  const Shape &q = in[0]->type.shape, &k = in[1]->type.shape, &v = in[2]->type.shape;
  if (q.size() != 4 || k.size() != 4 || v.size() != 4) abort_inference(method, "rank is not 4");
  const bool fits =
      q[0] == k[0] && q[1] == k[1] && q[3] == k[3] && k[0] == v[0] && k[1] == v[1] && k[2] == v[2];
  if (!fits) abort_inference(method, "shapes of query, key and value");
  const Shape scores{q[0], q[1], q[2], k[2]};
  if (element_count(scores) >= kMostScores) abort_inference(method, "2^31 scores");
  Attention attention{.heads = q[0] * q[1],
                      .rows = q[2],
                      .keys = k[2],
                      .features = q[3],
                      .width = v[3],
                      .mask_strides = {},
                      .heads_per_batch = q[1],
                      .masked = bool(mask),
                      .scale = scale};
  if (mask) attention.mask_strides = strides_of_mask(in[3]->type.shape, scores, method);
  return self->add(method, in, {in[0]->type.dtype, {q[0], q[1], q[2], v[3]}},
                   [attention](Views views, Views out) { attention.run(views, out[0]); });
}
HOST_METHOD(MPSGraph,
            "scaledDotProductAttentionWithQueryTensor:keyTensor:valueTensor:maskTensor:scale:name:",
            attend);

}  // namespace
}  // namespace host
