// Crops of boxes, and projective transforms.
#include "kernels/families.h"
#include "kernels/msl/image_arguments.h"
#include "kernels/native/elements.h"
#include "kernels/native/node_call.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// An index of an image out of range is an error, which takes a look at the indices. TensorFlow has
// them in host memory or copies them; here the host waits for what makes them.
void check_owners(const NodeCall& n, size_t input, int64_t batch) {
  const int64_t count = n.node.in(input).count();
  if (count == 0) return;
  n.call.synchronize();
  const auto* owners = reinterpret_cast<const int32_t*>(n.in[input].contents());
  for (int64_t i = 0; i < count; ++i) {
    if (owners[i] < 0 || owners[i] >= batch) {
      throw_out_of_range(n.node.describe(),
                         ": box_index has values outside [0, batch_size): ", owners[i]);
    }
  }
}

// `image` and `crops` are [batch or boxes, height, width, channels].
CropArguments crop_arguments(const Node& node, const Shape& image, const Shape& crops,
                             TF_DataType dtype) {
  const auto n = [](int64_t extent) { return static_cast<unsigned>(extent); };
  CropArguments c = {};
  c.type = element_type(dtype);
  c.batch = n(image[0]);
  c.height = n(image[1]);
  c.width = n(image[2]);
  c.channels = n(image[3]);
  c.boxes = n(crops[0]);
  c.crop_height = n(crops[1]);
  c.crop_width = n(crops[2]);
  c.nearest = node.def->attr_string("method", "bilinear") == "nearest";
  c.outside = node.def->attr_float("extrapolation_value", 0);
  return c;
}

void crop_and_resize(KernelCall& call) {
  NodeCall n(call);
  const Shape& image = n.node.in(0).shape;
  if (image[1] <= 0 || image[2] <= 0) {
    throw_invalid_argument(n.node.describe(), ": image dimensions must be positive");
  }
  check_owners(n, 2, image[0]);
  n.allocate();
  const CropArguments c = crop_arguments(n.node, image, n.node.out().shape, n.node.in(0).dtype);
  n.dispatch("crop_and_resize", n.node.out().count(), {n.in[0], n.in[1], n.in[2]}, {n.out[0]}, c);
}

void crop_and_resize_grad_image(KernelCall& call) {
  NodeCall n(call);
  const Shape &image = n.node.out().shape, &crops = n.node.in(0).shape;
  if (image[1] <= 0 || image[2] <= 0) {
    throw_invalid_argument(n.node.describe(), ": image dimensions must be positive");
  }
  check_owners(n, 2, image[0]);
  n.allocate();
  if (n.node.in(0).count() == 0) return n.clear(n.out[0], n.node.out().bytes());
  const CropArguments c = crop_arguments(n.node, image, crops, n.node.out().dtype);
  const int64_t groups = (image[3] + IMAGE_CHANNELS - 1) / IMAGE_CHANNELS;
  n.dispatch("crop_and_resize_grad_image", image[0] * image[1] * image[2] * groups,
             {n.in[0], n.in[1], n.in[2]}, {n.out[0]}, c);
}

void crop_and_resize_grad_boxes(KernelCall& call) {
  NodeCall n(call);
  const Shape &image = n.node.in(1).shape, &crops = n.node.in(0).shape;
  check_owners(n, 3, image[0]);
  n.allocate();
  if (n.node.in(0).count() == 0) return n.clear(n.out[0], n.node.out().bytes());
  const CropArguments c = crop_arguments(n.node, image, crops, n.node.in(1).dtype);
  n.dispatch("crop_and_resize_grad_boxes", crops[0] * IMAGE_THREADS,
             {n.in[0], n.in[1], n.in[2], n.in[3]}, {n.out[0]}, c, IMAGE_THREADS);
}

TransformFill fill_mode(const Node& node) {
  const std::string mode = node.def->attr_string("fill_mode", "CONSTANT");
  if (mode == "REFLECT") return kFillReflect;
  if (mode == "WRAP") return kFillWrap;
  return mode == "NEAREST" ? kFillNearest : kFillConstant;
}

void projective_transform(NativeCall& call) {
  const Node& node = call.node;
  const Shape &in = node.in(0).shape, &out = node.out().shape;
  const auto n = [](int64_t extent) { return static_cast<unsigned>(extent); };
  TransformArguments a = {};
  a.type = element_type(node.out().dtype);
  a.height = n(in[1]);
  a.width = n(in[2]);
  a.channels = n(in[3]);
  a.out_height = n(out[1]);
  a.out_width = n(out[2]);
  a.fill = fill_mode(node);
  a.bilinear = node.def->attr_string("interpolation") == "BILINEAR";
  a.per_image = node.in(1).shape[0] > 1;
  const float zero = 0;
  call.dispatch("projective_transform", node.out().count(),
                {call.in(0), call.in(1), node.inputs.size() > 3 ? call.in(3) : call.value(zero),
                 call.out(), NativeCall::value(a)});
}

void check_transform(const Node& node) {
  const Shape &images = node.in(0).shape, &transforms = node.in(1).shape;
  const bool fits = transforms.size() == 2 && transforms[1] == 8 &&
                    (transforms[0] == 1 || transforms[0] == images[0]);
  if (!fits) {
    throw_invalid_argument(node.describe(), ": Input transform should be num_images x 8 or 1 x 8");
  }
}

}  // namespace

std::vector<OpRow> image_ops() {
  using enum HostUse;
  const DTypes pixels = {TF_FLOAT, TF_HALF,  TF_INT8,  TF_INT16,
                         TF_INT32, TF_INT64, TF_UINT8, TF_UINT16};
  const DTypes movable = {TF_FLOAT, TF_HALF, TF_BFLOAT16, TF_INT32, TF_INT64, TF_UINT8};
  return {
      {.op = "CropAndResize",
       .types = T(pixels),
       .host = {{"crop_size", kArg}},
       .run = crop_and_resize,
       .cluster = ClusterPolicy::kNever},
      {.op = "CropAndResizeGradImage",
       .types = T({TF_FLOAT, TF_HALF}),
       .host = {{"image_size", kArg}},
       .run = crop_and_resize_grad_image,
       .cluster = ClusterPolicy::kNever},
      {.op = "CropAndResizeGradBoxes",
       .types = T(pixels),
       .run = crop_and_resize_grad_boxes,
       .cluster = ClusterPolicy::kNever},
      {.op = "ImageProjectiveTransformV2",
       .types = T(movable, "dtype"),
       .host = {{"output_shape", kArg}},
       .launch = projective_transform,
       .check = check_transform},
      {.op = "ImageProjectiveTransformV3",
       .types = T(movable, "dtype"),
       .host = {{"output_shape", kArg}},
       .launch = projective_transform,
       .check = check_transform},
  };
}

}  // namespace tfmetal
