// Pooling and its gradients. Threads own a block of neighbouring channels of one pixel; gradients
// gather from the windows that cover their pixel, so that no two threads add to one element.
//
// The rules about equal and NaN elements are those of TensorFlow's CPU kernels, and differ:
//   maximum         NaN is passed over; a window of NaN gives the lowest number
//   its gradient    to the first maximum; a NaN wins if it is the window's first element
//   3-D gradient    to all elements that nearly equal the forward result, which infinity does not
#include <metal_stdlib>

#include "kernels/msl/pooling_arguments.h"
using namespace metal;

constant float kNearlyEqual = 1e-5f;

struct Lanes {
  float v[POOL_LANES];
};

inline Lanes all_lanes(float x) {
  Lanes l;
  for (uint j = 0; j < POOL_LANES; ++j) l.v[j] = x;
  return l;
}

template <typename T>
inline Lanes load_lanes(device const T* from, uint n) {
  Lanes l;
  if (n == POOL_LANES) {
    for (uint j = 0; j < POOL_LANES; ++j) l.v[j] = float(from[j]);
  } else {
    for (uint j = 0; j < POOL_LANES; ++j) l.v[j] = j < n ? float(from[j]) : 0.0f;
  }
  return l;
}

template <typename T>
inline void store_lanes(device T* to, uint n, Lanes l) {
  if (n == POOL_LANES) {
    for (uint j = 0; j < POOL_LANES; ++j) to[j] = T(l.v[j]);
  } else {
    for (uint j = 0; j < n; ++j) to[j] = T(l.v[j]);
  }
}

// One pixel of a grid of `extents`, and a block of its channels.
struct Place {
  uint image;
  uint at[3];
  uint channel, lanes;
  uint element;  // of the first channel
};

inline Place place_of(uint i, uint depth, uint height, uint width, constant PoolArguments& a) {
  Place p;
  p.channel = i % a.blocks * POOL_LANES;
  p.lanes = min(uint(POOL_LANES), a.channels - p.channel);
  const uint pixel = i / a.blocks;
  p.element = pixel * a.channels + p.channel;
  p.at[2] = pixel % width;
  p.at[1] = pixel / width % height;
  const uint rest = pixel / width / height;
  p.at[0] = rest % depth;
  p.image = rest / depth;
  return p;
}
inline Place output_place(uint i, constant PoolArguments& a) {
  return place_of(i, a.out[0], a.out[1], a.out[2], a);
}
inline Place input_place(uint i, constant PoolArguments& a) {
  return place_of(i, a.in[0], a.in[1], a.in[2], a);
}

struct Range {
  uint begin, end;
};
// The input positions that window `o` sees along an axis.
inline Range window_of(uint o, uint axis, constant PoolArguments& a) {
  const int start = int(o * a.stride[axis]) - a.before[axis];
  Range r;
  r.begin = uint(max(start, 0));
  r.end = uint(min(start + int(a.size[axis]), int(a.in[axis])));
  return r;
}
// The windows that see input position `i`.
inline Range windows_over(uint i, uint axis, constant PoolArguments& a) {
  const int last = int(i) + a.before[axis], stride = int(a.stride[axis]);
  const int first = last - int(a.size[axis]) + 1;
  Range r;
  r.begin = first <= 0 ? 0 : uint((first + stride - 1) / stride);
  r.end = uint(min(last / stride + 1, int(a.out[axis])));
  return r;
}
struct Box {
  Range d, h, w;
};
inline Box window_box(uint d, uint h, uint w, constant PoolArguments& a) {
  Box b;
  b.d = window_of(d, 0, a);
  b.h = window_of(h, 1, a);
  b.w = window_of(w, 2, a);
  return b;
}
inline Box covering_box(Place p, constant PoolArguments& a) {
  Box b;
  b.d = windows_over(p.at[0], 0, a);
  b.h = windows_over(p.at[1], 1, a);
  b.w = windows_over(p.at[2], 2, a);
  return b;
}
inline uint box_count(Box b) {
  return (b.d.end - b.d.begin) * (b.h.end - b.h.begin) * (b.w.end - b.w.begin);
}
inline uint input_pixel(uint image, uint d, uint h, uint w, constant PoolArguments& a) {
  return ((image * a.in[0] + d) * a.in[1] + h) * a.in[2] + w;
}
inline uint output_pixel(uint image, uint d, uint h, uint w, constant PoolArguments& a) {
  return ((image * a.out[0] + d) * a.out[1] + h) * a.out[2] + w;
}

template <typename T>
kernel void pool_max(device const T* x [[buffer(0)]], device T* y [[buffer(1)]],
                     constant PoolArguments& a [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  const Place p = output_place(i, a);
  const Box box = window_box(p.at[0], p.at[1], p.at[2], a);
  Lanes best = all_lanes(a.lowest);
  for (uint d = box.d.begin; d < box.d.end; ++d) {
    for (uint h = box.h.begin; h < box.h.end; ++h) {
      for (uint w = box.w.begin; w < box.w.end; ++w) {
        const uint pixel = input_pixel(p.image, d, h, w, a);
        const Lanes v = load_lanes(x + (pixel * a.channels + p.channel), p.lanes);
        for (uint j = 0; j < POOL_LANES; ++j) best.v[j] = v.v[j] > best.v[j] ? v.v[j] : best.v[j];
      }
    }
  }
  store_lanes(y + p.element, p.lanes, best);
}

template <typename T>
kernel void pool_average(device const T* x [[buffer(0)]], device T* y [[buffer(1)]],
                         constant PoolArguments& a [[buffer(2)]],
                         uint i [[thread_position_in_grid]]) {
  const Place p = output_place(i, a);
  const Box box = window_box(p.at[0], p.at[1], p.at[2], a);
  Lanes sum = all_lanes(0.0f);
  for (uint d = box.d.begin; d < box.d.end; ++d) {
    for (uint h = box.h.begin; h < box.h.end; ++h) {
      for (uint w = box.w.begin; w < box.w.end; ++w) {
        const uint pixel = input_pixel(p.image, d, h, w, a);
        const Lanes v = load_lanes(x + (pixel * a.channels + p.channel), p.lanes);
        for (uint j = 0; j < POOL_LANES; ++j) sum.v[j] += v.v[j];
      }
    }
  }
  const float count = float(box_count(box));
  for (uint j = 0; j < POOL_LANES; ++j) sum.v[j] /= count;
  store_lanes(y + p.element, p.lanes, sum);
}

template <typename T>
kernel void pool_average_gradient(device const T* dy [[buffer(0)]], device T* dx [[buffer(1)]],
                                  constant PoolArguments& a [[buffer(2)]],
                                  uint i [[thread_position_in_grid]]) {
  const Place p = input_place(i, a);
  const Box box = covering_box(p, a);
  Lanes sum = all_lanes(0.0f);
  for (uint d = box.d.begin; d < box.d.end; ++d) {
    for (uint h = box.h.begin; h < box.h.end; ++h) {
      for (uint w = box.w.begin; w < box.w.end; ++w) {
        const uint pixel = output_pixel(p.image, d, h, w, a);
        const Lanes v = load_lanes(dy + (pixel * a.channels + p.channel), p.lanes);
        const float share = 1.0f / float(box_count(window_box(d, h, w, a)));
        for (uint j = 0; j < POOL_LANES; ++j) sum.v[j] += v.v[j] * share;
      }
    }
  }
  store_lanes(dx + p.element, p.lanes, sum);
}

// The pixel of each channel's first maximum in a window.
struct Winner {
  uint pixel[POOL_LANES];
  Lanes value;
};
template <typename T>
inline Winner winner_of(device const T* x, Place p, Box box, constant PoolArguments& a) {
  Winner best;
  bool first = true;
  for (uint d = box.d.begin; d < box.d.end; ++d) {
    for (uint h = box.h.begin; h < box.h.end; ++h) {
      for (uint w = box.w.begin; w < box.w.end; ++w) {
        const uint pixel = input_pixel(p.image, d, h, w, a);
        const Lanes v = load_lanes(x + (pixel * a.channels + p.channel), p.lanes);
        for (uint j = 0; j < POOL_LANES; ++j) {
          const bool wins = first || best.value.v[j] < v.v[j];
          best.value.v[j] = wins ? v.v[j] : best.value.v[j];
          best.pixel[j] = wins ? pixel : best.pixel[j];
        }
        first = false;
      }
    }
  }
  return best;
}

// Of overlapping windows: first the winner of each, then each element asks the windows over it.
template <typename T>
kernel void pool_winners(device const T* x [[buffer(0)]], device uint* winners [[buffer(1)]],
                         constant PoolArguments& a [[buffer(2)]],
                         uint i [[thread_position_in_grid]]) {
  const Place p = output_place(i, a);
  const Winner best = winner_of(x, p, window_box(p.at[0], p.at[1], p.at[2], a), a);
  for (uint j = 0; j < p.lanes; ++j) winners[p.element + j] = best.pixel[j];
}

template <typename T>
kernel void pool_max_gradient(device const uint* winners [[buffer(0)]],
                              device const T* dy [[buffer(1)]], device T* dx [[buffer(2)]],
                              constant PoolArguments& a [[buffer(3)]],
                              uint i [[thread_position_in_grid]]) {
  const Place p = input_place(i, a);
  const uint own = i / a.blocks;
  const Box box = covering_box(p, a);
  Lanes sum = all_lanes(0.0f);
  for (uint d = box.d.begin; d < box.d.end; ++d) {
    for (uint h = box.h.begin; h < box.h.end; ++h) {
      for (uint w = box.w.begin; w < box.w.end; ++w) {
        const uint at = output_pixel(p.image, d, h, w, a) * a.channels + p.channel;
        for (uint j = 0; j < POOL_LANES; ++j) {
          if (j < p.lanes) sum.v[j] += winners[at + j] == own ? float(dy[at + j]) : 0.0f;
        }
      }
    }
  }
  store_lanes(dx + p.element, p.lanes, sum);
}

// Where windows do not overlap: threads own a window and the gap after it.
inline Range cell_of(uint o, uint axis, constant PoolArguments& a) {
  const int start = int(o * a.stride[axis]) - a.before[axis];
  Range r;
  r.begin = o == 0 ? 0 : uint(start);
  r.end = o + 1 == a.out[axis] ? a.in[axis] : uint(start + int(a.stride[axis]));
  return r;
}

template <typename T>
kernel void pool_max_gradient_cells(device const T* x [[buffer(0)]],
                                    device const T* dy [[buffer(1)]], device T* dx [[buffer(2)]],
                                    constant PoolArguments& a [[buffer(3)]],
                                    uint i [[thread_position_in_grid]]) {
  const Place p = output_place(i, a);
  const Winner best = winner_of(x, p, window_box(p.at[0], p.at[1], p.at[2], a), a);
  const Lanes v = load_lanes(dy + p.element, p.lanes);
  const Range rd = cell_of(p.at[0], 0, a), rh = cell_of(p.at[1], 1, a), rw = cell_of(p.at[2], 2, a);
  for (uint d = rd.begin; d < rd.end; ++d) {
    for (uint h = rh.begin; h < rh.end; ++h) {
      for (uint w = rw.begin; w < rw.end; ++w) {
        const uint pixel = input_pixel(p.image, d, h, w, a);
        Lanes out;
        for (uint j = 0; j < POOL_LANES; ++j) out.v[j] = best.pixel[j] == pixel ? v.v[j] : 0.0f;
        store_lanes(dx + (pixel * a.channels + p.channel), p.lanes, out);
      }
    }
  }
}

template <typename T>
kernel void pool_max_gradient_equal(device const T* x [[buffer(0)]],
                                    device const T* y [[buffer(1)]],
                                    device const T* dy [[buffer(2)]], device T* dx [[buffer(3)]],
                                    constant PoolArguments& a [[buffer(4)]],
                                    uint i [[thread_position_in_grid]]) {
  const Place p = input_place(i, a);
  const Box box = covering_box(p, a);
  const Lanes own = load_lanes(x + p.element, p.lanes);
  Lanes sum = all_lanes(0.0f);
  for (uint d = box.d.begin; d < box.d.end; ++d) {
    for (uint h = box.h.begin; h < box.h.end; ++h) {
      for (uint w = box.w.begin; w < box.w.end; ++w) {
        const uint at = output_pixel(p.image, d, h, w, a) * a.channels + p.channel;
        const Lanes most = load_lanes(y + at, p.lanes), v = load_lanes(dy + at, p.lanes);
        for (uint j = 0; j < POOL_LANES; ++j) {
          sum.v[j] += fabs(own.v[j] - most.v[j]) < kNearlyEqual ? v.v[j] : 0.0f;
        }
      }
    }
  }
  store_lanes(dx + p.element, p.lanes, sum);
}

// The gradient's gradient: what `g` has where the window first equals its maximum; else 0.
template <typename T>
kernel void pool_max_gradient_gradient(device const T* x [[buffer(0)]],
                                       device const T* y [[buffer(1)]],
                                       device const T* g [[buffer(2)]], device T* out [[buffer(3)]],
                                       constant PoolArguments& a [[buffer(4)]],
                                       uint i [[thread_position_in_grid]]) {
  const Place p = output_place(i, a);
  const Box box = window_box(p.at[0], p.at[1], p.at[2], a);
  const Lanes most = load_lanes(y + p.element, p.lanes);
  Lanes found = all_lanes(0.0f), result = all_lanes(0.0f);
  for (uint d = box.d.begin; d < box.d.end; ++d) {
    for (uint h = box.h.begin; h < box.h.end; ++h) {
      for (uint w = box.w.begin; w < box.w.end; ++w) {
        const uint at = input_pixel(p.image, d, h, w, a) * a.channels + p.channel;
        const Lanes v = load_lanes(x + at, p.lanes), of = load_lanes(g + at, p.lanes);
        for (uint j = 0; j < POOL_LANES; ++j) {
          const bool hit = found.v[j] == 0.0f && v.v[j] == most.v[j];
          result.v[j] = hit ? of.v[j] : result.v[j];
          found.v[j] = hit ? 1.0f : found.v[j];
        }
      }
    }
  }
  store_lanes(out + p.element, p.lanes, result);
}

// The first maximum and its position among the elements of its image or, with `images` above 1, of
// all images.
template <typename T>
kernel void pool_argmax(device const T* x [[buffer(0)]], device T* y [[buffer(1)]],
                        device long* index [[buffer(2)]], constant PoolArguments& a [[buffer(3)]],
                        uint i [[thread_position_in_grid]]) {
  const Place p = output_place(i, a);
  const Winner best = winner_of(x, p, window_box(p.at[0], p.at[1], p.at[2], a), a);
  store_lanes(y + p.element, p.lanes, best.value);
  const uint first = a.images > 1 ? 0 : input_pixel(p.image, 0, 0, 0, a);
  for (uint j = 0; j < p.lanes; ++j) {
    index[p.element + j] = long((best.pixel[j] - first) * a.channels + p.channel + j);
  }
}

inline long element_in_image(long index, uint image, constant ArgmaxArguments& a) {
  const long element = a.batch_index ? index - long(image) * long(a.elements) : index;
  return element >= 0 && element < long(a.elements) ? element : -1;
}

// Any positions, in any order: every thread reads all of its image's.
template <typename T>
kernel void pool_argmax_gradient(device const T* dy [[buffer(0)]],
                                 device const long* index [[buffer(1)]], device T* dx [[buffer(2)]],
                                 constant ArgmaxArguments& a [[buffer(3)]],
                                 uint i [[thread_position_in_grid]]) {
  const uint image = i / a.buckets, bucket = i % a.buckets;
  device T* to = dx + image * a.elements;
  for (uint e = bucket; e < a.elements; e += a.buckets) to[e] = T(0.0f);
  for (uint w = 0; w < a.windows; ++w) {
    const long element = element_in_image(index[image * a.windows + w], image, a);
    if (element < 0 || uint(element) % a.buckets != bucket) continue;
    to[element] = T(float(to[element]) + float(dy[image * a.windows + w]));
  }
}

// Positions out of range, which TensorFlow's GPU kernel reads all the same, give 0.
template <typename T>
kernel void pool_argmax_gather(device const T* g [[buffer(0)]],
                               device const long* index [[buffer(1)]], device T* out [[buffer(2)]],
                               constant ArgmaxArguments& a [[buffer(3)]],
                               uint i [[thread_position_in_grid]]) {
  const uint image = i / a.windows;
  const long element = element_in_image(index[i], image, a);
  out[i] = element < 0 ? T(0.0f) : g[image * a.elements + uint(element)];
}

template [[host_name("pool_max_float")]] kernel void pool_max<float>(device const float*,
                                                                     device float*,
                                                                     constant PoolArguments&, uint);
template [[host_name("pool_max_half")]] kernel void pool_max<half>(device const half*, device half*,
                                                                   constant PoolArguments&, uint);
template [[host_name("pool_max_bfloat")]] kernel void pool_max<bfloat>(device const bfloat*,
                                                                       device bfloat*,
                                                                       constant PoolArguments&,
                                                                       uint);
template [[host_name("pool_average_float")]] kernel void pool_average<float>(
    device const float*, device float*, constant PoolArguments&, uint);
template [[host_name("pool_average_half")]] kernel void pool_average<half>(device const half*,
                                                                           device half*,
                                                                           constant PoolArguments&,
                                                                           uint);
template [[host_name("pool_average_bfloat")]] kernel void pool_average<bfloat>(
    device const bfloat*, device bfloat*, constant PoolArguments&, uint);
template [[host_name("pool_average_gradient_float")]] kernel void pool_average_gradient<float>(
    device const float*, device float*, constant PoolArguments&, uint);
template [[host_name("pool_average_gradient_half")]] kernel void pool_average_gradient<half>(
    device const half*, device half*, constant PoolArguments&, uint);
template [[host_name("pool_average_gradient_bfloat")]] kernel void pool_average_gradient<bfloat>(
    device const bfloat*, device bfloat*, constant PoolArguments&, uint);
template [[host_name("pool_winners_float")]] kernel void pool_winners<float>(
    device const float*, device uint*, constant PoolArguments&, uint);
template [[host_name("pool_max_gradient_float")]] kernel void pool_max_gradient<float>(
    device const uint*, device const float*, device float*, constant PoolArguments&, uint);
template [[host_name("pool_winners_half")]] kernel void pool_winners<half>(device const half*,
                                                                           device uint*,
                                                                           constant PoolArguments&,
                                                                           uint);
template [[host_name("pool_max_gradient_half")]] kernel void pool_max_gradient<half>(
    device const uint*, device const half*, device half*, constant PoolArguments&, uint);
template [[host_name("pool_winners_bfloat")]] kernel void pool_winners<bfloat>(
    device const bfloat*, device uint*, constant PoolArguments&, uint);
template [[host_name("pool_max_gradient_bfloat")]] kernel void pool_max_gradient<bfloat>(
    device const uint*, device const bfloat*, device bfloat*, constant PoolArguments&, uint);
template [[host_name("pool_max_gradient_equal_float")]] kernel void pool_max_gradient_equal<float>(
    device const float*, device const float*, device const float*, device float*,
    constant PoolArguments&, uint);
template [[host_name("pool_max_gradient_equal_half")]] kernel void pool_max_gradient_equal<half>(
    device const half*, device const half*, device const half*, device half*,
    constant PoolArguments&, uint);
template [[host_name("pool_max_gradient_equal_bfloat")]] kernel void
pool_max_gradient_equal<bfloat>(device const bfloat*, device const bfloat*, device const bfloat*,
                                device bfloat*, constant PoolArguments&, uint);
template [[host_name("pool_max_gradient_gradient_float")]] kernel void
pool_max_gradient_gradient<float>(device const float*, device const float*, device const float*,
                                  device float*, constant PoolArguments&, uint);
template [[host_name("pool_max_gradient_gradient_half")]] kernel void
pool_max_gradient_gradient<half>(device const half*, device const half*, device const half*,
                                 device half*, constant PoolArguments&, uint);
template [[host_name("pool_max_gradient_gradient_bfloat")]] kernel void
pool_max_gradient_gradient<bfloat>(device const bfloat*, device const bfloat*, device const bfloat*,
                                   device bfloat*, constant PoolArguments&, uint);
template [[host_name("pool_argmax_float")]] kernel void pool_argmax<float>(
    device const float*, device float*, device long*, constant PoolArguments&, uint);
template [[host_name("pool_argmax_half")]] kernel void pool_argmax<half>(device const half*,
                                                                         device half*, device long*,
                                                                         constant PoolArguments&,
                                                                         uint);
template [[host_name("pool_argmax_bfloat")]] kernel void pool_argmax<bfloat>(
    device const bfloat*, device bfloat*, device long*, constant PoolArguments&, uint);
template [[host_name("pool_argmax_gradient_float")]] kernel void pool_argmax_gradient<float>(
    device const float*, device const long*, device float*, constant ArgmaxArguments&, uint);
template [[host_name("pool_argmax_gradient_half")]] kernel void pool_argmax_gradient<half>(
    device const half*, device const long*, device half*, constant ArgmaxArguments&, uint);
template [[host_name("pool_argmax_gradient_bfloat")]] kernel void pool_argmax_gradient<bfloat>(
    device const bfloat*, device const long*, device bfloat*, constant ArgmaxArguments&, uint);
template [[host_name("pool_argmax_gather_float")]] kernel void pool_argmax_gather<float>(
    device const float*, device const long*, device float*, constant ArgmaxArguments&, uint);
template [[host_name("pool_argmax_gather_half")]] kernel void pool_argmax_gather<half>(
    device const half*, device const long*, device half*, constant ArgmaxArguments&, uint);
template [[host_name("pool_argmax_gather_bfloat")]] kernel void pool_argmax_gather<bfloat>(
    device const bfloat*, device const long*, device bfloat*, constant ArgmaxArguments&, uint);
template [[host_name("pool_max_gradient_cells_float")]] kernel void pool_max_gradient_cells<float>(
    device const float*, device const float*, device float*, constant PoolArguments&, uint);
template [[host_name("pool_max_gradient_cells_half")]] kernel void pool_max_gradient_cells<half>(
    device const half*, device const half*, device half*, constant PoolArguments&, uint);
template [[host_name("pool_max_gradient_cells_bfloat")]] kernel void
pool_max_gradient_cells<bfloat>(device const bfloat*, device const bfloat*, device bfloat*,
                                constant PoolArguments&, uint);
