// Arguments of kernels/msl/image.metal.
#pragma once

#include "kernels/msl/arguments.h"

#define IMAGE_CHANNELS 8  // of the gradient of CropAndResize: channels per thread
#define IMAGE_THREADS 64  // that share a box

struct CropArguments {
  unsigned type;  // an ElementType: of the image
  unsigned batch, height, width, channels, boxes, crop_height, crop_width;
  unsigned nearest;
  float outside;
};

enum TransformFill {
  kFillConstant = 0,
  kFillReflect = 1,
  kFillWrap = 2,
  kFillNearest = 3,
};

struct TransformArguments {
  unsigned type;  // an ElementType
  unsigned height, width, channels, out_height, out_width;
  unsigned fill;  // a TransformFill
  unsigned bilinear;
  unsigned per_image;  // a transform for each image, else one for all
};
