// TensorFlow's element types, as MPSGraph and the shaders name them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "plugin/metal/mps.h"
#include "tensorflow/c/tf_datatype.h"

namespace tfmetal {

struct DTypeInfo {
  TF_DataType dtype;
  mps::DataType mps;   // Invalid where MPSGraph has no such type
  const char* name;    // TensorFlow's
  const char* shader;  // suffix of shader functions, MSL's spelling of the type
  size_t size;         // bytes of an element
};

// Throws Internal for a type that no kernel of ours registers.
const DTypeInfo& info(TF_DataType dtype);
inline size_t size_of(TF_DataType dtype) { return info(dtype).size; }
inline mps::DataType to_mps(TF_DataType dtype) { return info(dtype).mps; }
std::string name_of(TF_DataType dtype);  // any type, for messages

bool is_float(TF_DataType dtype);          // float32, float16, bfloat16
bool is_reduced_float(TF_DataType dtype);  // float16, bfloat16
bool is_integer(TF_DataType dtype);

// The lists that rows of the op table are written with.
using DTypes = std::vector<TF_DataType>;
extern const DTypes kFloats;      // float32, float16, bfloat16
extern const DTypes kIntegers;    // signed and unsigned, 8 to 64 bits
extern const DTypes kDeviceInts;  // integers that stock TensorFlow does not keep on the host
extern const DTypes kIndex;       // int32, int64
DTypes operator+(const DTypes& a, const DTypes& b);

}  // namespace tfmetal
