// MPSGraphReductionOps. Every reduction keeps its axes, with extent 1 (M). `axes` is a set,
// negatives count from the end, nil means all axes and @[] none (M); an axis outside the rank
// aborts. Results have the operand's type, of arg forms Int32 (M). Float16 and bfloat16 accumulate
// in float32; the order of summation is not specified, here it is fixed and independent of threads.
#include <algorithm>

#include "plugin/host/mps_graph/column_sums.h"
#include "plugin/host/mps_graph/kernels.h"

namespace host {
namespace {

// The operand as alternating groups of kept and reduced axes, neighbours of one kind merged.
struct Layout {
  struct Loop {
    long extent, stride;
  };
  std::vector<Loop> kept, reduced;  // outermost first
  long outputs = 1, count = 1;      // of results; of elements per result
};

Layout make_layout(const Shape& shape, const std::vector<long>& axes) {
  Layout layout;
  const Shape strides = strides_of(shape);
  int last = -1;  // kind of the previous axis: 0 kept, 1 reduced
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 1) continue;
    const bool reduce = std::binary_search(axes.begin(), axes.end(), long(i));
    auto& loops = reduce ? layout.reduced : layout.kept;
    (reduce ? layout.count : layout.outputs) *= shape[i];
    if (last == int(reduce)) {
      loops.back() = {loops.back().extent * shape[i], strides[i]};
    } else {
      loops.push_back({shape[i], strides[i]});
    }
    last = reduce;
  }
  return layout;
}

long offset_of(const std::vector<Layout::Loop>& loops, long index) {
  long offset = 0;
  for (size_t i = loops.size(); i-- > 0; index /= loops[i].extent) {
    offset += index % loops[i].extent * loops[i].stride;
  }
  return offset;
}

// Rows are reduced, the columns of a dense matrix are kept.
bool is_matrix(const Layout& layout) {
  return layout.kept.size() == 1 && layout.reduced.size() == 1 && layout.kept[0].stride == 1 &&
         layout.reduced[0].stride == layout.kept[0].extent;
}

// ---- the reducers ----------------------------------------------------------------------------
// kNeutral + step + step + ... ; `step` is also how partial results are joined.

struct Sum {
  template <class T>
  static T neutral() {
    return T(0);
  }
  template <class T>
  static T first(T x) {
    return x;
  }
  template <class T>
  static T step(T a, T x) {
    return plus(a, x);
  }
};
struct Product : Sum {
  template <class T>
  static T neutral() {
    return T(1);
  }
  template <class T>
  static T step(T a, T x) {
    return times(a, x);
  }
};
// NaN is skipped; only NaN gives -inf (of the minimum +inf). M
template <bool kLargest>
struct Extreme : Sum {
  template <class T>
  static T neutral() {
    return worst<kLargest, T>();
  }
  template <class T>
  static T step(T a, T x) {
    return (kLargest ? x > a : x < a) ? x : a;
  }
};
// NaN as soon as one is met. M
template <bool kLargest>
struct ExtremeNan : Extreme<kLargest> {
  template <class T>
  static T step(T a, T x) {
    const T best = (kLargest ? x > a : x < a) ? x : a;
    return x != x ? x : best;  // a NaN in `a` stays: comparisons with it are false
  }
};
// Logical, in the operand's type; NaN counts as non-zero. M (for integers below macOS 27 ? [T13])
struct And : Sum {
  template <class T>
  static T neutral() {
    return T(1);
  }
  template <class T>
  static T first(T x) {
    return T(x != T(0));
  }
  template <class T>
  static T step(T a, T x) {
    return T((a != T(0)) & (x != T(0)));
  }
};
struct Or : And {
  template <class T>
  static T neutral() {
    return T(0);
  }
  template <class T>
  static T step(T a, T x) {
    return T((a != T(0)) | (x != T(0)));
  }
};

// ---- loops -----------------------------------------------------------------------------------

constexpr long kLanes = 32;      // independent accumulators of a contiguous run
constexpr long kSegment = 4096;  // elements summed before they join the total: keeps errors small

template <class R, class T>
T reduce_run(const T* x, long n) {
  T total = R::template neutral<T>();
  const auto run = [](const T* __restrict from, long count, T* __restrict result) {
    constexpr long kCount = std::max(kLanes, kLanes * 4 / long(sizeof(T)));  // as many bytes
    T lanes[kCount];
    for (T& lane : lanes) lane = R::template neutral<T>();
    long i = 0;
    for (; i + kCount <= count; i += kCount) {
      for (long l = 0; l < kCount; ++l) lanes[l] = R::step(lanes[l], from[i + l]);
    }
    for (; i < count; ++i) lanes[i % kCount] = R::step(lanes[i % kCount], from[i]);
    for (long half = kCount / 2; half; half /= 2) {
      for (long l = 0; l < half; ++l) lanes[l] = R::step(lanes[l], lanes[l + half]);
    }
    *result = R::step(*result, lanes[0]);
  };
  for (long at = 0; at < n; at += kSegment) {
    isa::run(run, x + at, std::min(kSegment, n - at), &total);
  }
  return total;
}

template <class R, class T>
void reduce_rows(const T* x, T* accumulators, long n) {
  isa::run(
      [](const T* __restrict from, T* __restrict to, long count) {
        for (long i = 0; i < count; ++i) to[i] = R::step(to[i], from[i]);
      },
      x, accumulators, n);
}

// The elements of `source` at [at, at + n) in compute type A; converted into `scratch` if needed.
template <class S, class A>
const A* fetch(const S* source, long n, std::vector<A>& scratch) {
  if constexpr (std::is_same_v<S, A>) {
    return source;
  } else {
    if (long(scratch.size()) < n) scratch.resize(n);
    widen(std::is_same_v<S, Half> ? DataType::Float16 : DataType::BFloat16, source, scratch.data(),
          n);
    return scratch.data();
  }
}

// The innermost axis is reduced: one contiguous run after the other.
template <class R, class S, class A>
A reduce_contiguous(const Layout& layout, const S* x, long first_run, long last_run, long run) {
  const std::vector<Layout::Loop> outer(layout.reduced.begin(), layout.reduced.end() - 1);
  std::vector<A> scratch;
  A total = R::template neutral<A>();
  for (long i = first_run; i < last_run; ++i) {
    for (long at = 0; at < run; at += kSegment) {
      const long n = std::min(kSegment, run - at);
      const A* values = fetch<S, A>(x + offset_of(outer, i) + at, n, scratch);
      total = R::step(total, reduce_run<R, A>(values, n));
    }
  }
  return total;
}

template <class R, class S, class A, class Store>
void reduce_inner(const Layout& layout, const S* x, Store&& store) {
  const long run = layout.reduced.back().extent, runs = layout.count / run;
  // A single long run is cut into parts of fixed size, so that the result is reproducible.
  constexpr long kPart = kSegment * 64;
  if (layout.outputs == 1 && runs == 1 && run > kPart) {
    std::vector<A> partial((run + kPart - 1) / kPart);
    parallel(long(partial.size()), 1, [&](long begin, long end) {
      for (long p = begin; p < end; ++p) {
        partial[p] = reduce_contiguous<R, S, A>(layout, x + p * kPart, 0, 1,
                                                std::min(kPart, run - p * kPart));
      }
    });
    store(0, reduce_run<R, A>(partial.data(), long(partial.size())));
    return;
  }
  parallel(layout.outputs, std::max(1l, kGrain / layout.count), [&](long begin, long end) {
    for (long o = begin; o < end; ++o) {
      store(o, reduce_contiguous<R, S, A>(layout, x + offset_of(layout.kept, o), 0, runs, run));
    }
  });
}

// The innermost axis is kept: whole rows are accumulated side by side.
template <class R, class S, class A, class Store>
void reduce_outer(const Layout& layout, const S* x, Store&& store) {
  constexpr long kColumns = 2048;  // accumulators of one task: they stay in the cache
  constexpr long kRows = 256;      // rows summed before they join the total
  const long inner = layout.kept.back().extent;
  const long column_blocks = (inner + kColumns - 1) / kColumns;
  const std::vector<Layout::Loop> outer(layout.kept.begin(), layout.kept.end() - 1);
  const long tasks = layout.outputs / inner * column_blocks;
  const long work = layout.count * std::min(inner, kColumns);
  parallel(tasks, std::max(1l, kGrain / work), [&](long begin, long end) {
    std::vector<A> scratch;
    std::vector<A> total(std::min(inner, kColumns)), partial(total.size());
    for (long task = begin; task < end; ++task) {
      const long row = task / column_blocks, column = task % column_blocks * kColumns;
      const long n = std::min(kColumns, inner - column);
      const S* from = x + offset_of(outer, row) + column;
      std::fill(total.begin(), total.end(), R::template neutral<A>());
      for (long i = 0; i < layout.count; i += kRows) {
        std::fill(partial.begin(), partial.end(), R::template neutral<A>());
        for (long j = i; j < std::min(i + kRows, layout.count); ++j) {
          const A* values = fetch<S, A>(from + offset_of(layout.reduced, j), n, scratch);
          reduce_rows<R, A>(values, partial.data(), n);
        }
        reduce_rows<R, A>(partial.data(), total.data(), n);
      }
      for (long i = 0; i < n; ++i) store(row * inner + column + i, total[i]);
    }
  });
}

template <class T>
T stored(T x) {
  return canonical(x);
}

// R over `axes`; `finish` turns an accumulator into a result.
template <class R, class F>
void reduce(const View& in, const View& out, const std::vector<long>& axes, F finish) {
  const Layout layout = make_layout(in.shape(), axes);
  dispatch(in.type->dtype, [&]<class S>(TypeOf<S>) {
    using A = std::conditional_t<std::is_same_v<S, Half> || std::is_same_v<S, BFloat>, float, S>;
    if constexpr (!std::is_same_v<S, Complex>) {
      S* to = out.as<S>();
      const auto store = [&](long i, A value) {
        const A result = stored(finish(value, layout.count));
        if constexpr (std::is_same_v<A, S>)
          to[i] = result;
        else
          from_float(result, to[i]);
      };
      if (std::is_same_v<R, Sum> && std::is_same_v<A, float> && is_matrix(layout)) {
        std::vector<float> sums(size_t(layout.outputs));
        column_sums(in.as<S>(), in.type->dtype, layout.count, layout.outputs, nullptr, sums.data());
        for (long i = 0; i < layout.outputs; ++i) store(i, A(sums[size_t(i)]));
      } else if (layout.reduced.empty()) {
        for (long i = 0; i < in.count(); ++i) {
          if constexpr (std::is_same_v<A, S>)
            store(i, R::first(in.as<S>()[i]));
          else
            store(i, R::first(to_float(in.as<S>()[i])));
        }
      } else if (layout.kept.empty() || layout.reduced.back().stride == 1) {
        reduce_inner<R, S, A>(layout, in.as<S>(), store);
      } else {
        reduce_outer<R, S, A>(layout, in.as<S>(), store);
      }
    }
  });
}

struct Keep {
  template <class A>
  A operator()(A total, long) const {
    return total;
  }
};
struct Divide {  // integer quotients are truncated. M
  template <class A>
  A operator()(A total, long count) const {
    if constexpr (std::is_same_v<A, float>)
      return total / float(count);
    else
      return A(std::conditional_t<std::is_signed_v<A>, int64_t, uint64_t>(total) / count);
  }
};

Type reduced_type(const Type& type, const std::vector<long>& axes) {
  Type result = type;
  for (long axis : axes) result.shape[axis] = 1;
  return result;
}

// The axes before the reduced ones, where these are the last.
size_t kept_before(const Shape& shape, const std::vector<long>& axes) {
  const size_t kept = shape.size() - axes.size();
  return !axes.empty() && size_t(axes[0]) == kept ? kept : 0;
}

template <class R, class F = Keep>
id add_reduction(Graph* self, const char* method, unsigned types, id x,
                 const std::vector<long>& axes) {
  Tensor* tensor = operand(x, method);
  // An empty set of axes is the operand itself. M
  Tensor* result =
      axes.empty()
          ? add_unary<Identity>(self, method, tensor)
          : self->add(method, {tensor}, reduced_type(tensor->type, axes),
                      [axes](Views in, Views out) { reduce<R>(in[0], out[0], axes, F()); });
  if (!(type_set(tensor->type.dtype) & types)) {
    result->node->compile_error = no_kernel(method, tensor->type.dtype);
  }
  result->node->independent_axes = kept_before(tensor->type.shape, axes);
  return result;
}

std::vector<long> axes_of(id x, id axes, const char* method) {
  return require_axes(axes, operand(x, method)->type.shape.size(), method);
}
std::vector<long> axes_of(id x, long axis, const char* method) {
  return {require_axis(axis, operand(x, method)->type.shape.size(), method)};
}

#define REDUCTION(stem, types, ...)                                                              \
  HOST_METHOD(MPSGraph, stem "WithTensor:axes:name:", [](Graph* self, id x, id axes, id) -> id { \
    return add_reduction<__VA_ARGS__>(self, stem, types, x, axes_of(x, axes, stem));             \
  });                                                                                            \
  HOST_METHOD(                                                                                   \
      MPSGraph, stem "WithTensor:axis:name:", [](Graph* self, id x, NSInteger axis, id) -> id {  \
        return add_reduction<__VA_ARGS__>(self, stem, types, x, axes_of(x, long(axis), stem));   \
      })
REDUCTION("reductionSum", kNumbers, Sum);  // NaN passes through. M
REDUCTION("reductionProduct", kNumbers, Product);
REDUCTION("reductionMaximum", kNumbers | kBool, Extreme<true>);
REDUCTION("reductionMinimum", kNumbers | kBool, Extreme<false>);
// On integers the real ones crash (U).
REDUCTION("reductionMaximumPropagateNaN", kFloats, ExtremeNan<true>);
REDUCTION("reductionMinimumPropagateNaN", kFloats, ExtremeNan<false>);

// Only the last four axes (U), as for scans and sorts.
constexpr size_t kAxesFromTheEnd = 4;
template <class R>
id add_logical(Graph* self, const char* method, id x, const std::vector<long>& axes) {
  const size_t rank = operand(x, method)->type.shape.size();
  for (long axis : axes) {
    if (size_t(axis) + kAxesFromTheEnd < rank) {
      abort_like_apple(std::string(method) +
                       ": This class only supports axis = 0, 1, 2, 3 from the last");
    }
  }
  return add_reduction<R>(self, method, kNumbers | kBool, x, axes);
}
#define LOGICAL_REDUCTION(stem, R)                                                               \
  HOST_METHOD(MPSGraph, stem "WithTensor:axes:name:", [](Graph* self, id x, id axes, id) -> id { \
    return add_logical<R>(self, stem, x, axes_of(x, axes, stem));                                \
  });                                                                                            \
  HOST_METHOD(MPSGraph,                                                                          \
              stem "WithTensor:axis:name:", [](Graph* self, id x, NSInteger axis, id) -> id {    \
                return add_logical<R>(self, stem, x, axes_of(x, long(axis), stem));              \
              })
LOGICAL_REDUCTION("reductionAnd", And);
LOGICAL_REDUCTION("reductionOr", Or);

// Sum divided by the number of elements; for int32 the quotient is truncated. M
HOST_METHOD(MPSGraph, "meanOfTensor:axes:name:", [](Graph* self, id x, id axes, id) -> id {
  return add_reduction<Sum, Divide>(self, "mean", kNumbers, x, axes_of(x, axes, "mean"));
});

// ---- variance --------------------------------------------------------------------------------

void variance_of_runs(const float* x, const float* mean, float* out, const Layout& layout) {
  const long run = layout.reduced.back().extent, runs = layout.count / run;
  const std::vector<Layout::Loop> outer(layout.reduced.begin(), layout.reduced.end() - 1);
  parallel(layout.outputs, std::max(1l, kGrain / layout.count), [&](long begin, long end) {
    for (long o = begin; o < end; ++o) {
      const float* from = x + offset_of(layout.kept, o);
      float total = 0;
      for (long i = 0; i < runs; ++i) {
        for (long at = 0; at < run; at += kSegment) {
          total += squared_distances(from + offset_of(outer, i) + at, std::min(kSegment, run - at),
                                     mean[o]);
        }
      }
      out[o] = canonical(total / float(layout.count));
    }
  });
}

// Population variance: mean of (x - mean)^2, with the mean in kept-dimensions shape. M
// Integers: every step in the integer type.
template <class T>
void variance(const T* x, const T* mean, T* out, const Layout& layout) {
  if constexpr (std::is_same_v<T, float>) {
    if (is_matrix(layout)) {
      column_sums(x, DataType::Float32, layout.count, layout.outputs, mean, out);
      for (long o = 0; o < layout.outputs; ++o) out[o] = canonical(out[o] / float(layout.count));
      return;
    }
    if (!layout.reduced.empty() && layout.reduced.back().stride == 1) {
      return variance_of_runs(x, mean, out, layout);
    }
  }
  parallel(layout.outputs, std::max(1l, kGrain / layout.count), [&](long begin, long end) {
    for (long o = begin; o < end; ++o) {
      const long at = offset_of(layout.kept, o);
      T total = 0, segment = 0;
      for (long i = 0; i < layout.count; ++i) {
        const T d = T(x[at + offset_of(layout.reduced, i)] - mean[o]);
        segment = T(segment + T(d * d));
        if ((i + 1) % kSegment) continue;
        total = T(total + segment);
        segment = 0;
      }
      out[o] = canonical(Divide()(T(total + segment), layout.count));
    }
  });
}

// `mean` may be null: then it is computed.
void variance(const View& in, const View* mean, const View& out, const std::vector<long>& axes) {
  const DataType type = in.type->dtype;
  if (is_float16(type)) {  // the whole of it in float32
    const Type wide_in{DataType::Float32, in.shape()}, wide_out{DataType::Float32, out.shape()};
    std::vector<float> x(in.count()), m(out.count()), y(out.count());
    widen(type, in.data, x.data(), in.count());
    if (mean) widen(type, mean->data, m.data(), out.count());
    const View mean_view{reinterpret_cast<char*>(m.data()), &wide_out};
    variance({reinterpret_cast<char*>(x.data()), &wide_in}, mean ? &mean_view : nullptr,
             {reinterpret_cast<char*>(y.data()), &wide_out}, axes);
    narrow(type, y.data(), out.data, out.count());
    return;
  }
  const Layout layout = make_layout(in.shape(), axes);
  dispatch(type, [&]<class T>(TypeOf<T>) {
    if constexpr (std::is_arithmetic_v<T>) {
      std::vector<T> computed;
      const T* center = mean ? mean->as<T>() : nullptr;
      if (!center) {
        computed.resize(out.count());
        reduce<Sum>(in, {reinterpret_cast<char*>(computed.data()), out.type}, axes, Divide());
        center = computed.data();
      }
      variance<T>(in.as<T>(), center, out.as<T>(), layout);
    }
  });
}

id add_variance(Graph* self, id x, id mean, const std::vector<long>& axes) {
  const char* method = "variance";
  Tensor* tensor = operand(x, method);
  std::vector<Tensor*> inputs{tensor};
  Type result = reduced_type(tensor->type, axes);
  if (!(type_set(tensor->type.dtype) & kNumbers)) abort_inference(method, "operand type");
  if (mean) {
    inputs.push_back(operand(mean, method));
    require_same_type(inputs, method);
    if (inputs[1]->type.shape != result.shape) abort_inference(method, "shape of the mean");
  }
  Tensor* out = self->add(method, inputs, std::move(result), [axes](Views in, Views out) {
    variance(in[0], in.size() == 2 ? &in[1] : nullptr, out[0], axes);
  });
  out->node->independent_axes = kept_before(tensor->type.shape, axes);
  return out;
}
HOST_METHOD(MPSGraph, "varianceOfTensor:axes:name:", [](Graph* self, id x, id axes, id) -> id {
  return add_variance(self, x, nullptr, axes_of(x, axes, "variance"));
});
HOST_METHOD(MPSGraph, "varianceOfTensor:meanTensor:axes:name:",
            [](Graph* self, id x, id mean, id axes, id) -> id {
              return add_variance(self, x, operand(mean, "variance"), axes_of(x, axes, "variance"));
            });

// ---- arg reductions --------------------------------------------------------------------------

// Int32 position along one axis. The first of equal elements wins; NaN never wins; -1 where all
// are NaN. M
// The same of a run of floats: the value, then where it is first.
template <bool kLargest>
int32_t arg_of_run(const float* x, long n) {
  int32_t found = -1;
  isa::run(
      [](const float* from, long count, int32_t* result) {
        constexpr float kWorst = worst<kLargest, float>();
        float lanes[kLanes], best = kWorst;
        for (float& lane : lanes) lane = kWorst;
        long i = 0;
        for (; i + kLanes <= count; i += kLanes) {
          for (long l = 0; l < kLanes; ++l) {
            const float y = from[i + l];
            lanes[l] = (kLargest ? y > lanes[l] : y < lanes[l]) ? y : lanes[l];
          }
        }
        for (; i < count; ++i) best = (kLargest ? from[i] > best : from[i] < best) ? from[i] : best;
        for (float y : lanes) best = (kLargest ? y > best : y < best) ? y : best;
        for (i = 0; i + kLanes <= count; i += kLanes) {
          int hits = 0;
          for (long l = 0; l < kLanes; ++l) hits |= from[i + l] == best;
          if (hits) break;
        }
        for (; i < count; ++i) {
          if (from[i] != best) continue;
          *result = int32_t(i);
          return;
        }
      },
      x, n, &found);
  return found;
}

template <bool kLargest>
void arg_extreme(const View& in, const View& out, long axis) {
  const Layout layout = make_layout(in.shape(), {axis});
  const long stride = strides_of(in.shape())[axis];
  dispatch(in.type->dtype, [&]<class S>(TypeOf<S>) {
    if constexpr (!std::is_same_v<S, Complex>) {
      const auto load = [&](long i) {
        if constexpr (std::is_same_v<S, Half> || std::is_same_v<S, BFloat>) {
          return to_float(in.as<S>()[i]);
        } else {
          return in.as<S>()[i];
        }
      };
      parallel(layout.outputs, std::max(1l, kGrain / layout.count), [&](long begin, long end) {
        for (long o = begin; o < end; ++o) {
          const long at = offset_of(layout.kept, o);
          if constexpr (std::is_same_v<S, float>) {
            if (stride == 1) {
              out.as<int32_t>()[o] = arg_of_run<kLargest>(in.as<S>() + at, layout.count);
              continue;
            }
          }
          int32_t best = -1;
          auto value = load(at);
          for (long i = 0; i < layout.count; ++i) {
            const auto x = load(at + i * stride);
            if (x != x || (best >= 0 && !(kLargest ? x > value : x < value))) continue;
            best = int32_t(i);
            value = x;
          }
          out.as<int32_t>()[o] = best;
        }
      });
    }
  });
}
template <bool kLargest>
id add_arg(Graph* self, const char* method, id x, NSInteger axis) {
  Tensor* tensor = operand(x, method);
  if (!(type_set(tensor->type.dtype) & (kNumbers | kBool))) abort_inference(method, "type");
  const long along = require_axis(axis, tensor->type.shape.size(), method);
  Type result = reduced_type(tensor->type, {along});
  result.dtype = DataType::Int32;
  Tensor* out = self->add(method, {tensor}, std::move(result), [along](Views in, Views out) {
    arg_extreme<kLargest>(in[0], out[0], along);
  });
  out->node->independent_axes = kept_before(tensor->type.shape, {along});
  return out;
}
HOST_METHOD(MPSGraph, "reductionArgMaximumWithTensor:axis:name:",
            [](Graph* self, id x, NSInteger axis, id) -> id {
              return add_arg<true>(self, "reductionArgMaximum", x, axis);
            });
HOST_METHOD(MPSGraph, "reductionArgMinimumWithTensor:axis:name:",
            [](Graph* self, id x, NSInteger axis, id) -> id {
              return add_arg<false>(self, "reductionArgMinimum", x, axis);
            });

}  // namespace
}  // namespace host
