// Resizing of images. Shaders of our own: MPSGraph's flags for where pixel centres are differ from
// TensorFlow's, and its gradients do not take all layouts.
#include "kernels/families.h"
#include "kernels/msl/resize_arguments.h"
#include "kernels/native_call.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// Shapes of the image and of its resized form.
struct Resize {
  const Shape &image, &resized;
};
Resize forward_of(const Node& node) { return {node.in(0).shape, node.out().shape}; }
Resize gradient_of(const Node& node) { return {node.out().shape, node.in(0).shape}; }

bool aligns(const Node& node) { return node.def->attr_bool("align_corners", false); }
bool has_half_pixels(const Node& node) { return node.def->attr_bool("half_pixel_centers", false); }

float scale_of(int64_t image, int64_t resized, bool align) {
  if (align && resized > 1) return static_cast<float>(image - 1) / static_cast<float>(resized - 1);
  return static_cast<float>(image) / static_cast<float>(resized);
}

ResizeArguments arguments(const Node& node, const Resize& r) {
  ResizeArguments a = {};
  a.channels = static_cast<unsigned>(r.image[3]);
  a.blocks = (a.channels + RESIZE_LANES - 1) / RESIZE_LANES;
  for (size_t i = 0; i < 2; ++i) {
    a.image[i] = static_cast<unsigned>(r.image[i + 1]);
    a.resized[i] = static_cast<unsigned>(r.resized[i + 1]);
    a.scale[i] = scale_of(r.image[i + 1], r.resized[i + 1], aligns(node));
  }
  a.half_pixel = has_half_pixels(node);
  a.round_index = aligns(node);
  return a;
}

void launch(NativeCall& call, const char* shader, TF_DataType dtype, const Resize& shapes) {
  const ResizeArguments a = arguments(call.node, shapes);
  call.dispatch(shader_name(shader, dtype), call.node.out().count() / a.channels * a.blocks,
                {call.in(0), call.out(), NativeCall::value(a)});
}

void bilinear(NativeCall& call) {
  launch(call, "resize_bilinear", call.node.in(0).dtype, forward_of(call.node));
}
void nearest(NativeCall& call) {
  launch(call, "resize_nearest", call.node.in(0).dtype, forward_of(call.node));
}
void bilinear_gradient(NativeCall& call) {
  launch(call, "resize_bilinear_gradient", call.node.out().dtype, gradient_of(call.node));
}
void nearest_gradient(NativeCall& call) {
  launch(call, "resize_nearest_gradient", call.node.out().dtype, gradient_of(call.node));
}

void check_flags(const Node& node) {
  if (!aligns(node) || !has_half_pixels(node)) return;
  throw_invalid_argument(node.describe(),
                         ": If half_pixel_centers is True, align_corners must be False.");
}

void check_forward(const Node& node) {
  check_flags(node);
  const auto [image, resized] = forward_of(node);
  if (resized[1] < 1 || resized[2] < 1) {
    throw_invalid_argument(node.describe(), ": output dimensions must be positive");
  }
  if (image[1] < 1 || image[2] < 1 || image[3] < 1) {
    throw_invalid_argument(node.describe(), ": input image must be of non-zero size");
  }
}

void check_bilinear_gradient(const Node& node) {
  check_flags(node);
  const auto [image, resized] = gradient_of(node);
  if (resized.size() != 4 || image.size() != 4 || resized[0] != image[0] ||
      resized[3] != image[3]) {
    throw_invalid_argument(node.describe(), ": grads and original_image must be 4-dimensional and",
                           " have the same batch and channels");
  }
  if (resized[1] < 1 || resized[2] < 1) {
    throw_invalid_argument(node.describe(), ": resized dimensions must be positive");
  }
}

void check_nearest_gradient(const Node& node) {
  const Shape& image = node.out().shape;
  if (image[1] >= 1 && image[2] >= 1) return;
  throw_invalid_argument(node.describe(), ": shape_t's elements must be positive");
}

OpRow row(const char* op, Launch launch, void (*check)(const Node&), bool sized) {
  OpRow r = {.op = op, .types = T(kFloats), .launch = launch, .empty_value = 0, .check = check};
  if (launch == nearest || launch == nearest_gradient) r.precision = Precision::kClear;
  if (sized) r.host = {{"size", HostUse::kKey}};
  return r;
}

}  // namespace

std::vector<OpRow> resize_ops() {
  return {
      row("ResizeBilinear", bilinear, check_forward, true),
      row("ResizeBilinearGrad", bilinear_gradient, check_bilinear_gradient, false),
      row("ResizeNearestNeighbor", nearest, check_forward, true),
      row("ResizeNearestNeighborGrad", nearest_gradient, check_nearest_gradient, true),
  };
}

}  // namespace tfmetal
