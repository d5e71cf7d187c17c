// TensorFlow's opaque stream, and the one that a kernel runs on.
#pragma once

#include "plugin/device/stream.h"
#include "plugin/tf_api.h"

struct SP_Stream_st {
  explicit SP_Stream_st(tfmetal::Device& device) : stream(device) {}
  tfmetal::Stream stream;
};

namespace tfmetal {

// Throws what TensorFlow reports when the kernel has no stream of ours.
inline Stream& stream_of(TF_OpKernelContext* context) {
  const Status status;
  SP_Stream stream = tf.TF_GetStream(context, status);
  status.check();
  return stream->stream;
}

}  // namespace tfmetal
