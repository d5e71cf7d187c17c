#include "kernels/dtype.h"

#include <algorithm>

#include "plugin/error.h"

namespace tfmetal {

namespace {

const DTypeInfo kTable[] = {
    {TF_FLOAT, mps::DataType::Float32, "float32", "float", 4},
    {TF_HALF, mps::DataType::Float16, "float16", "half", 2},
    {TF_BFLOAT16, mps::DataType::BFloat16, "bfloat16", "bfloat", 2},
    {TF_INT8, mps::DataType::Int8, "int8", "char", 1},
    {TF_INT16, mps::DataType::Int16, "int16", "short", 2},
    {TF_INT32, mps::DataType::Int32, "int32", "int", 4},
    {TF_INT64, mps::DataType::Int64, "int64", "long", 8},
    {TF_UINT8, mps::DataType::UInt8, "uint8", "uchar", 1},
    {TF_UINT16, mps::DataType::UInt16, "uint16", "ushort", 2},
    {TF_UINT32, mps::DataType::UInt32, "uint32", "uint", 4},
    {TF_UINT64, mps::DataType::UInt64, "uint64", "ulong", 8},
    {TF_BOOL, mps::DataType::Bool, "bool", "bool", 1},
    {TF_COMPLEX64, mps::DataType::ComplexFloat32, "complex64", "float2", 8},
    // Variables of these are kept and moved, and computed on the host.
    {TF_DOUBLE, mps::DataType::Invalid, "float64", "double", 8},
    {TF_COMPLEX128, mps::DataType::Invalid, "complex128", "double2", 16},
};

}  // namespace

const DTypes kFloats = {TF_FLOAT, TF_HALF, TF_BFLOAT16};
const DTypes kIntegers = {TF_INT8,  TF_INT16,  TF_INT32,  TF_INT64,
                          TF_UINT8, TF_UINT16, TF_UINT32, TF_UINT64};
const DTypes kDeviceInts = {TF_INT8, TF_INT16, TF_INT64, TF_UINT8, TF_UINT16, TF_UINT32, TF_UINT64};
const DTypes kIndex = {TF_INT32, TF_INT64};

DTypes operator+(const DTypes& a, const DTypes& b) {
  DTypes sum = a;
  sum.insert(sum.end(), b.begin(), b.end());
  return sum;
}

const DTypeInfo& info(TF_DataType dtype) {
  for (const DTypeInfo& row : kTable) {
    if (row.dtype == dtype) return row;
  }
  throw_internal("no Metal kernel works on TensorFlow data type ", static_cast<int>(dtype));
}

std::string name_of(TF_DataType dtype) {
  for (const DTypeInfo& row : kTable) {
    if (row.dtype == dtype) return row.name;
  }
  if (dtype == TF_STRING) return "string";
  if (dtype == TF_RESOURCE) return "resource";
  if (dtype == TF_VARIANT) return "variant";
  return concat("dtype ", static_cast<int>(dtype));
}

bool is_float(TF_DataType dtype) { return dtype == TF_FLOAT || is_reduced_float(dtype); }
bool is_reduced_float(TF_DataType dtype) { return dtype == TF_HALF || dtype == TF_BFLOAT16; }
bool is_integer(TF_DataType dtype) {
  return std::find(kIntegers.begin(), kIntegers.end(), dtype) != kIntegers.end();
}

}  // namespace tfmetal
