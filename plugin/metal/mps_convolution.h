// Descriptors of MPSGraph's convolutions. Padding is always explicit, which covers every style of
// TensorFlow, and weights have TensorFlow's layout.
#pragma once

#include "plugin/metal/mps.h"

namespace mpsg {

enum class Layout : NSUInteger {  // MPSGraphTensorNamedDataLayout
  NCHW = 0,
  NHWC = 1,
  OIHW = 2,
  HWIO = 3,
  NCDHW = 7,
  NDHWC = 8,
  OIDHW = 9,
  DHWIO = 10,
};
enum class PaddingStyle : NSUInteger { Explicit = 0, TFValid = 1, TFSame = 2 };

// One spatial axis; X is the width, Y the height, Z the depth.
struct WindowAxis {
  NSUInteger stride = 1, dilation = 1, before = 0, after = 0;
};

struct Convolution2D : ns::Object {
  using ns::Object::Object;
  static Convolution2D make(WindowAxis x, WindowAxis y, NSUInteger groups, Layout data) {
    return ns::send<Convolution2D>(
        objc_getClass("MPSGraphConvolution2DOpDescriptor"),
        OBJC_SEL("descriptorWithStrideInX:strideInY:dilationRateInX:dilationRateInY:groups:"
                 "paddingLeft:paddingRight:paddingTop:paddingBottom:paddingStyle:dataLayout:"
                 "weightsLayout:"),
        x.stride, y.stride, x.dilation, y.dilation, groups, x.before, x.after, y.before, y.after,
        PaddingStyle::Explicit, data, Layout::HWIO);
  }
};

struct Depthwise2D : ns::Object {
  using ns::Object::Object;
  static Depthwise2D make(WindowAxis x, WindowAxis y, Layout data) {
    return ns::send<Depthwise2D>(
        objc_getClass("MPSGraphDepthwiseConvolution2DOpDescriptor"),
        OBJC_SEL("descriptorWithStrideInX:strideInY:dilationRateInX:dilationRateInY:paddingLeft:"
                 "paddingRight:paddingTop:paddingBottom:paddingStyle:dataLayout:weightsLayout:"),
        x.stride, y.stride, x.dilation, y.dilation, x.before, x.after, y.before, y.after,
        PaddingStyle::Explicit, data, Layout::HWIO);
  }
};

struct Convolution3D : ns::Object {
  using ns::Object::Object;
  static Convolution3D make(WindowAxis x, WindowAxis y, WindowAxis z, NSUInteger groups,
                            Layout data) {
    return ns::send<Convolution3D>(
        objc_getClass("MPSGraphConvolution3DOpDescriptor"),
        OBJC_SEL("descriptorWithStrideInX:strideInY:strideInZ:dilationRateInX:dilationRateInY:"
                 "dilationRateInZ:groups:paddingLeft:paddingRight:paddingTop:paddingBottom:"
                 "paddingFront:paddingBack:paddingStyle:dataLayout:weightsLayout:"),
        x.stride, y.stride, z.stride, x.dilation, y.dilation, z.dilation, groups, x.before, x.after,
        y.before, y.after, z.before, z.after, PaddingStyle::Explicit, data, Layout::DHWIO);
  }
};

}  // namespace mpsg
