// Image ops: crops of boxes with their gradients, projective transforms.
#include <metal_stdlib>

#include "kernels/msl/elements.h"
#include "kernels/msl/image_arguments.h"
using namespace metal;

inline float load_any(device const uchar* data, uint type, ulong i) {
  switch (type) {
    case kElementChar:
      return float(((device const char*)data)[i]);
    case kElementShort:
      return float(((device const short*)data)[i]);
    case kElementInt:
      return float(((device const int*)data)[i]);
    case kElementLong:
      return float(((device const long*)data)[i]);
    case kElementUChar:
      return float(((device const uchar*)data)[i]);
    case kElementUShort:
      return float(((device const ushort*)data)[i]);
    default:
      return load_float(data, type, i);
  }
}

inline void store_any(device uchar* data, uint type, ulong i, float value) {
  switch (type) {
    case kElementInt:
      ((device int*)data)[i] = int(value);
      break;
    case kElementLong:
      ((device long*)data)[i] = long(value);
      break;
    case kElementUChar:
      ((device uchar*)data)[i] = uchar(int(value));
      break;
    default:
      store_float(data, type, i, value);
  }
}

// Where a row (or column) of a crop lies in the image.
struct CropPosition {
  bool inside;
  int low, high;
  float weight;  // of `high`
};

inline float crop_coordinate(float begin, float end, uint i, uint count, uint size) {
  const float last = float(size) - 1.0f;
  if (count <= 1) return 0.5f * (begin + end) * last;
  return begin * last + float(i) * ((end - begin) * last / (float(count) - 1.0f));
}

inline CropPosition crop_position(float begin, float end, uint i, uint count, uint size,
                                  uint nearest) {
  const float at = crop_coordinate(begin, end, i, count, size);
  CropPosition p;
  p.inside = at >= 0.0f && at <= float(size) - 1.0f;  // not for NaN
  const float bounded = p.inside ? at : 0.0f;
  p.low = int(nearest ? round(bounded) : floor(bounded));
  p.high = nearest ? p.low : int(ceil(bounded));
  p.weight = nearest ? 0.0f : bounded - float(p.low);
  return p;
}

kernel void crop_and_resize(device const uchar* image [[buffer(0)]],
                            device const float* boxes [[buffer(1)]],
                            device const int* owners [[buffer(2)]], device float* out [[buffer(3)]],
                            constant CropArguments& c [[buffer(4)]],
                            uint i [[thread_position_in_grid]]) {
  const uint d = i % c.channels, x = i / c.channels % c.crop_width;
  const uint y = i / c.channels / c.crop_width % c.crop_height;
  const uint b = i / c.channels / c.crop_width / c.crop_height;
  device const float* box = boxes + b * 4;
  const CropPosition row = crop_position(box[0], box[2], y, c.crop_height, c.height, c.nearest);
  const CropPosition column = crop_position(box[1], box[3], x, c.crop_width, c.width, c.nearest);
  if (!row.inside || !column.inside) {
    out[i] = c.outside;
    return;
  }
  const ulong base = ulong(owners[b]) * c.height;
  const ulong top = (base + row.low) * c.width, bottom = (base + row.high) * c.width;
  const float top_left = load_any(image, c.type, (top + column.low) * c.channels + d);
  if (c.nearest) {
    out[i] = top_left;
    return;
  }
  const float top_right = load_any(image, c.type, (top + column.high) * c.channels + d);
  const float bottom_left = load_any(image, c.type, (bottom + column.low) * c.channels + d);
  const float bottom_right = load_any(image, c.type, (bottom + column.high) * c.channels + d);
  const float above = top_left + (top_right - top_left) * column.weight;
  const float below = bottom_left + (bottom_right - bottom_left) * column.weight;
  out[i] = above + (below - above) * row.weight;
}

// What the pixel at `at` contributes to the position: the weight of its row or column.
inline float crop_share(CropPosition p, int at) {
  if (!p.inside) return 0.0f;
  return (p.low == at ? 1.0f - p.weight : 0.0f) + (p.high == at ? p.weight : 0.0f);
}

// A thread per pixel and group of channels looks for the crops that read the pixel: in this order
// the sums are the same in every run.
kernel void crop_and_resize_grad_image(device const float* gradients [[buffer(0)]],
                                       device const float* boxes [[buffer(1)]],
                                       device const int* owners [[buffer(2)]],
                                       device uchar* out [[buffer(3)]],
                                       constant CropArguments& c [[buffer(4)]],
                                       uint i [[thread_position_in_grid]]) {
  const uint groups = (c.channels + IMAGE_CHANNELS - 1) / IMAGE_CHANNELS;
  const uint first = i % groups * IMAGE_CHANNELS,
             count = min(uint(IMAGE_CHANNELS), c.channels - first);
  const uint x = i / groups % c.width, y = i / groups / c.width % c.height;
  const uint b = i / groups / c.width / c.height;
  float sums[IMAGE_CHANNELS];
  for (uint d = 0; d < IMAGE_CHANNELS; ++d) sums[d] = 0.0f;
  for (uint k = 0; k < c.boxes; ++k) {
    if (uint(owners[k]) != b) continue;
    device const float* box = boxes + k * 4;
    for (uint v = 0; v < c.crop_height; ++v) {
      const float row =
          crop_share(crop_position(box[0], box[2], v, c.crop_height, c.height, c.nearest), int(y));
      if (row == 0.0f) continue;
      for (uint u = 0; u < c.crop_width; ++u) {
        const float column =
            crop_share(crop_position(box[1], box[3], u, c.crop_width, c.width, c.nearest), int(x));
        if (column == 0.0f) continue;
        device const float* g =
            gradients + ((ulong(k) * c.crop_height + v) * c.crop_width + u) * c.channels + first;
        for (uint d = 0; d < count; ++d) sums[d] += g[d] * row * column;
      }
    }
  }
  const ulong base = ((ulong(b) * c.height + y) * c.width + x) * c.channels + first;
  for (uint d = 0; d < count; ++d) store_float(out, c.type, base + d, sums[d]);
}

// A threadgroup per box; its threads share the elements of the crop.
kernel void crop_and_resize_grad_boxes(
    device const float* gradients [[buffer(0)]], device const uchar* image [[buffer(1)]],
    device const float* boxes [[buffer(2)]], device const int* owners [[buffer(3)]],
    device float* out [[buffer(4)]], constant CropArguments& c [[buffer(5)]],
    uint b [[threadgroup_position_in_grid]], uint t [[thread_index_in_threadgroup]]) {
  threadgroup float part[4][IMAGE_THREADS];
  device const float* box = boxes + b * 4;
  const float last_y = float(c.height) - 1.0f, last_x = float(c.width) - 1.0f;
  float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  const uint elements = c.crop_height * c.crop_width * c.channels;
  for (uint e = t; e < elements; e += IMAGE_THREADS) {
    const uint d = e % c.channels, x = e / c.channels % c.crop_width;
    const uint y = e / c.channels / c.crop_width;
    const CropPosition row = crop_position(box[0], box[2], y, c.crop_height, c.height, 0);
    const CropPosition column = crop_position(box[1], box[3], x, c.crop_width, c.width, 0);
    if (!row.inside || !column.inside) continue;
    const ulong base = ulong(owners[b]) * c.height;
    const ulong top = (base + row.low) * c.width, bottom = (base + row.high) * c.width;
    const float top_left = load_any(image, c.type, (top + column.low) * c.channels + d);
    const float top_right = load_any(image, c.type, (top + column.high) * c.channels + d);
    const float bottom_left = load_any(image, c.type, (bottom + column.low) * c.channels + d);
    const float bottom_right = load_any(image, c.type, (bottom + column.high) * c.channels + d);
    const float g = gradients[ulong(b) * elements + e];
    const float by_y = ((1.0f - column.weight) * (bottom_left - top_left) +
                        column.weight * (bottom_right - top_right)) *
                       g;
    const float by_x =
        ((1.0f - row.weight) * (top_right - top_left) + row.weight * (bottom_right - bottom_left)) *
        g;
    const float share_y =
        c.crop_height > 1 ? float(y) * (last_y / (float(c.crop_height) - 1.0f)) : 0.5f * last_y;
    const float share_x =
        c.crop_width > 1 ? float(x) * (last_x / (float(c.crop_width) - 1.0f)) : 0.5f * last_x;
    sums[0] += by_y * (last_y - share_y);
    sums[1] += by_x * (last_x - share_x);
    sums[2] += by_y * share_y;
    sums[3] += by_x * share_x;
  }
  for (uint k = 0; k < 4; ++k) part[k][t] = sums[k];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t >= 4) return;
  float total = 0.0f;
  for (uint i = 0; i < IMAGE_THREADS; ++i) total += part[t][i];
  out[b * 4 + t] = total;
}

// A coordinate folded into [0, size) by the fill mode; constants stay outside.
inline float transform_coordinate(float at, float size, uint fill) {
  const float last = size - 1.0f;
  if (fill == kFillConstant) return at;
  if (fill == kFillNearest) return min(max(at, 0.0f), last);
  if (size <= 1.0f) return 0.0f;
  if (fill == kFillWrap) {
    if (at < 0.0f) {
      at += size * (trunc(-at / last) + 1.0f);
    } else if (at > last) {
      at -= size * trunc(at / last);
    }
    return min(max(at, 0.0f), last);
  }
  const float period = 2.0f * size;
  if (at < 0.0f) {
    at = period * trunc(-at / period) + at;
    at = at < -size ? at + period : -at - 1.0f;
  } else if (at > last) {
    at -= period * trunc(at / period);
    if (at >= size) at = period - at - 1.0f;
  }
  return min(max(at, 0.0f), last);
}

kernel void projective_transform(device const uchar* images [[buffer(0)]],
                                 device const float* transforms [[buffer(1)]],
                                 device const float* fill_value [[buffer(2)]],
                                 device uchar* out [[buffer(3)]],
                                 constant TransformArguments& a [[buffer(4)]],
                                 uint i [[thread_position_in_grid]]) {
  const uint d = i % a.channels, column = i / a.channels % a.out_width;
  const uint row = i / a.channels / a.out_width % a.out_height;
  const uint b = i / a.channels / a.out_width / a.out_height;
  device const float* t = transforms + (a.per_image ? b * 8 : 0);
  const float u = float(column), v = float(row);
  const float depth = t[6] * u + t[7] * v + 1.0f;
  const float fill = fill_value[0];
  const float x =
      transform_coordinate((t[0] * u + t[1] * v + t[2]) / depth, float(a.width), a.fill);
  const float y =
      transform_coordinate((t[3] * u + t[4] * v + t[5]) / depth, float(a.height), a.fill);
  float result = fill;
  // Far outside (or not a number) nothing but the fill value contributes.
  const bool near = depth != 0.0f && x > -2.0f && y > -2.0f && x < float(a.width) + 1.0f &&
                    y < float(a.height) + 1.0f;
  if (near) {
    const float left = a.bilinear ? floor(x) : round(x), top = a.bilinear ? floor(y) : round(y);
    const float right_share = a.bilinear ? x - left : 0.0f, low_share = a.bilinear ? y - top : 0.0f;
    float rows[2];
    for (int j = 0; j < 2; ++j) {
      float values[2];
      for (int k = 0; k < 2; ++k) {
        const int py = int(top) + j, px = int(left) + k;
        const bool inside = py >= 0 && px >= 0 && py < int(a.height) && px < int(a.width);
        const ulong at = ((ulong(b) * a.height + py) * a.width + px) * a.channels + d;
        values[k] = inside ? load_any(images, a.type, at) : fill;
      }
      rows[j] = a.bilinear ? (1.0f - right_share) * values[0] + right_share * values[1] : values[0];
    }
    result = a.bilinear ? (1.0f - low_share) * rows[0] + low_share * rows[1] : rows[0];
  }
  store_any(out, a.type, i, result);
}
