// Bilinear and nearest-neighbour resizing with TensorFlow's three ways to place pixels. Gradients
// gather: a thread owns a pixel of the image and adds what the resized pixels near it give.
#include <metal_stdlib>

#include "kernels/msl/resize_arguments.h"
using namespace metal;

struct ResizePlace {
  uint image, y, x, channel, lanes;
};
inline ResizePlace resize_place(uint i, uint height, uint width, constant ResizeArguments& a) {
  ResizePlace p;
  p.channel = i % a.blocks * RESIZE_LANES;
  p.lanes = min(uint(RESIZE_LANES), a.channels - p.channel);
  const uint pixel = i / a.blocks;
  p.x = pixel % width;
  p.y = pixel / width % height;
  p.image = pixel / width / height;
  return p;
}
inline uint image_element(ResizePlace p, uint y, uint x, constant ResizeArguments& a) {
  return ((p.image * a.image[0] + y) * a.image[1] + x) * a.channels + p.channel;
}
inline uint resized_element(ResizePlace p, uint y, uint x, constant ResizeArguments& a) {
  return ((p.image * a.resized[0] + y) * a.resized[1] + x) * a.channels + p.channel;
}

// The two image pixels that resized pixel `i` lies between, and its distance from the first.
struct Between {
  uint lower, upper;
  float lerp;
};
inline Between between(uint i, uint axis, constant ResizeArguments& a) {
  const float half_pixel = a.half_pixel ? 0.5f : 0.0f;
  const float at = (float(i) + half_pixel) * a.scale[axis] - half_pixel;
  const float below = floor(at);
  const int last = int(a.image[axis]) - 1;
  Between b;
  b.lower = uint(min(max(int(below), 0), last));
  b.upper = uint(min(max(int(ceil(at)), 0), last));
  b.lerp = at - below;
  return b;
}

inline uint nearest(uint i, uint axis, constant ResizeArguments& a) {
  const float at = (float(i) + (a.half_pixel ? 0.5f : 0.0f)) * a.scale[axis];
  const int index = int(a.round_index ? round(at) : floor(at));
  return uint(min(max(index, 0), int(a.image[axis]) - 1));
}

// Resized pixels that image pixel `i` may be a neighbour of: a pixel too many on each side.
struct Candidates {
  uint begin, end;
};
inline Candidates candidates(uint i, uint axis, constant ResizeArguments& a) {
  const int count = int(a.resized[axis]);
  const float scale = a.scale[axis];
  Candidates c;
  c.begin = 0;
  c.end = uint(count);
  if (scale <= 0.0f) return c;
  if (i > 0) c.begin = uint(min(max(int(floor((float(i) - 1.5f) / scale)) - 1, 0), count));
  if (i + 1 < a.image[axis]) {
    c.end = uint(min(max(int(ceil((float(i) + 1.5f) / scale)) + 2, 0), count));
  }
  return c;
}

template <typename T>
kernel void resize_bilinear(device const T* in [[buffer(0)]], device float* out [[buffer(1)]],
                            constant ResizeArguments& a [[buffer(2)]],
                            uint i [[thread_position_in_grid]]) {
  const ResizePlace p = resize_place(i, a.resized[0], a.resized[1], a);
  const Between y = between(p.y, 0, a), x = between(p.x, 1, a);
  device const T* top_left = in + image_element(p, y.lower, x.lower, a);
  device const T* top_right = in + image_element(p, y.lower, x.upper, a);
  device const T* bottom_left = in + image_element(p, y.upper, x.lower, a);
  device const T* bottom_right = in + image_element(p, y.upper, x.upper, a);
  device float* to = out + resized_element(p, p.y, p.x, a);
  for (uint j = 0; j < p.lanes; ++j) {
    const float tl = float(top_left[j]), bl = float(bottom_left[j]);
    const float top = tl + (float(top_right[j]) - tl) * x.lerp;
    const float bottom = bl + (float(bottom_right[j]) - bl) * x.lerp;
    to[j] = top + (bottom - top) * y.lerp;
  }
}

inline float weight_of(Between b, uint i) {
  return (b.lower == i ? 1.0f - b.lerp : 0.0f) + (b.upper == i ? b.lerp : 0.0f);
}

template <typename T>
kernel void resize_bilinear_gradient(device const float* dy [[buffer(0)]],
                                     device T* dx [[buffer(1)]],
                                     constant ResizeArguments& a [[buffer(2)]],
                                     uint i [[thread_position_in_grid]]) {
  const ResizePlace p = resize_place(i, a.image[0], a.image[1], a);
  const Candidates rows = candidates(p.y, 0, a), columns = candidates(p.x, 1, a);
  float sum[RESIZE_LANES];
  for (uint j = 0; j < RESIZE_LANES; ++j) sum[j] = 0.0f;
  for (uint y = rows.begin; y < rows.end; ++y) {
    const Between by = between(y, 0, a);
    if (by.lower != p.y && by.upper != p.y) continue;
    for (uint x = columns.begin; x < columns.end; ++x) {
      const Between bx = between(x, 1, a);
      if (bx.lower != p.x && bx.upper != p.x) continue;
      const float weight = weight_of(by, p.y) * weight_of(bx, p.x);
      device const float* from = dy + resized_element(p, y, x, a);
      for (uint j = 0; j < p.lanes; ++j) sum[j] += from[j] * weight;
    }
  }
  device T* to = dx + image_element(p, p.y, p.x, a);
  for (uint j = 0; j < p.lanes; ++j) to[j] = T(sum[j]);
}

template <typename T>
kernel void resize_nearest(device const T* in [[buffer(0)]], device T* out [[buffer(1)]],
                           constant ResizeArguments& a [[buffer(2)]],
                           uint i [[thread_position_in_grid]]) {
  const ResizePlace p = resize_place(i, a.resized[0], a.resized[1], a);
  device const T* from = in + image_element(p, nearest(p.y, 0, a), nearest(p.x, 1, a), a);
  device T* to = out + resized_element(p, p.y, p.x, a);
  for (uint j = 0; j < p.lanes; ++j) to[j] = from[j];
}

template <typename T>
kernel void resize_nearest_gradient(device const T* dy [[buffer(0)]], device T* dx [[buffer(1)]],
                                    constant ResizeArguments& a [[buffer(2)]],
                                    uint i [[thread_position_in_grid]]) {
  const ResizePlace p = resize_place(i, a.image[0], a.image[1], a);
  const Candidates rows = candidates(p.y, 0, a), columns = candidates(p.x, 1, a);
  float sum[RESIZE_LANES];
  for (uint j = 0; j < RESIZE_LANES; ++j) sum[j] = 0.0f;
  for (uint y = rows.begin; y < rows.end; ++y) {
    if (nearest(y, 0, a) != p.y) continue;
    for (uint x = columns.begin; x < columns.end; ++x) {
      if (nearest(x, 1, a) != p.x) continue;
      device const T* from = dy + resized_element(p, y, x, a);
      for (uint j = 0; j < p.lanes; ++j) sum[j] += float(from[j]);
    }
  }
  device T* to = dx + image_element(p, p.y, p.x, a);
  for (uint j = 0; j < p.lanes; ++j) to[j] = T(sum[j]);
}

template [[host_name("resize_bilinear_float")]] kernel void resize_bilinear<float>(
    device const float*, device float*, constant ResizeArguments&, uint);
template [[host_name("resize_bilinear_half")]] kernel void resize_bilinear<half>(
    device const half*, device float*, constant ResizeArguments&, uint);
template [[host_name("resize_bilinear_bfloat")]] kernel void resize_bilinear<bfloat>(
    device const bfloat*, device float*, constant ResizeArguments&, uint);
template [[host_name("resize_bilinear_gradient_float")]] kernel void
resize_bilinear_gradient<float>(device const float*, device float*, constant ResizeArguments&,
                                uint);
template [[host_name("resize_bilinear_gradient_half")]] kernel void resize_bilinear_gradient<half>(
    device const float*, device half*, constant ResizeArguments&, uint);
template [[host_name("resize_bilinear_gradient_bfloat")]] kernel void
resize_bilinear_gradient<bfloat>(device const float*, device bfloat*, constant ResizeArguments&,
                                 uint);
template [[host_name("resize_nearest_float")]] kernel void resize_nearest<float>(
    device const float*, device float*, constant ResizeArguments&, uint);
template [[host_name("resize_nearest_half")]] kernel void resize_nearest<half>(
    device const half*, device half*, constant ResizeArguments&, uint);
template [[host_name("resize_nearest_bfloat")]] kernel void resize_nearest<bfloat>(
    device const bfloat*, device bfloat*, constant ResizeArguments&, uint);
template [[host_name("resize_nearest_gradient_float")]] kernel void resize_nearest_gradient<float>(
    device const float*, device float*, constant ResizeArguments&, uint);
template [[host_name("resize_nearest_gradient_half")]] kernel void resize_nearest_gradient<half>(
    device const half*, device half*, constant ResizeArguments&, uint);
template [[host_name("resize_nearest_gradient_bfloat")]] kernel void
resize_nearest_gradient<bfloat>(device const bfloat*, device bfloat*, constant ResizeArguments&,
                                uint);
