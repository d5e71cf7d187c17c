#include "grappler/graphdef/tensor_proto.h"

#include <bit>
#include <cmath>

#include "grappler/graphdef/wire.h"

namespace tfmetal {
namespace {

// Field numbers of tensorflow/core/framework/tensor.proto and tensor_shape.proto.
enum ShapeField { kDim = 2, kUnknownRank = 3, kDimSize = 1 };
enum TensorField { kDtype = 1, kShape = 2, kContent = 4, kStringVal = 8 };

// How TensorProto stores the values of a type when they are not in tensor_content.
enum class Storage { kFloat, kDouble, kVarint, kByte };
enum class Meaning { kSigned, kUnsigned, kFloat, kHalf, kBfloat16, kDouble, kOther };

struct TypeRow {
  int dtype;
  size_t size;  // bytes of one element
  int field;    // of TensorProto
  Storage storage;
  Meaning meaning;
};

constexpr TypeRow kTypes[] = {
    {TF_FLOAT, 4, 5, Storage::kFloat, Meaning::kFloat},
    {TF_DOUBLE, 8, 6, Storage::kDouble, Meaning::kDouble},
    {TF_INT32, 4, 7, Storage::kVarint, Meaning::kSigned},
    {TF_UINT8, 1, 7, Storage::kVarint, Meaning::kUnsigned},
    {TF_INT16, 2, 7, Storage::kVarint, Meaning::kSigned},
    {TF_INT8, 1, 7, Storage::kVarint, Meaning::kSigned},
    {TF_COMPLEX64, 8, 9, Storage::kFloat, Meaning::kOther},
    {TF_INT64, 8, 10, Storage::kVarint, Meaning::kSigned},
    {TF_BOOL, 1, 11, Storage::kVarint, Meaning::kUnsigned},
    {TF_QINT8, 1, 7, Storage::kVarint, Meaning::kOther},
    {TF_QUINT8, 1, 7, Storage::kVarint, Meaning::kOther},
    {TF_QINT32, 4, 7, Storage::kVarint, Meaning::kOther},
    {TF_BFLOAT16, 2, 13, Storage::kVarint, Meaning::kBfloat16},
    {TF_QINT16, 2, 7, Storage::kVarint, Meaning::kOther},
    {TF_QUINT16, 2, 7, Storage::kVarint, Meaning::kOther},
    {TF_UINT16, 2, 7, Storage::kVarint, Meaning::kUnsigned},
    {TF_COMPLEX128, 16, 12, Storage::kDouble, Meaning::kOther},
    {TF_HALF, 2, 13, Storage::kVarint, Meaning::kHalf},
    {TF_UINT32, 4, 16, Storage::kVarint, Meaning::kUnsigned},
    {TF_UINT64, 8, 17, Storage::kVarint, Meaning::kUnsigned},
    {TF_FLOAT8_E5M2, 1, 18, Storage::kByte, Meaning::kOther},
    {TF_FLOAT8_E4M3FN, 1, 18, Storage::kByte, Meaning::kOther},
    {TF_INT4, 1, 7, Storage::kVarint, Meaning::kSigned},
    {TF_UINT4, 1, 7, Storage::kVarint, Meaning::kUnsigned},
};

const TypeRow& type_row(TF_DataType dtype) {
  for (const TypeRow& row : kTypes)
    if (row.dtype == int(dtype)) return row;
  throw_invalid_argument("Constant of type ", int(dtype), " has no elements of fixed size");
}

size_t byte_size(const TypeRow& row, const PartialShape& shape, size_t max_bytes) {
  const std::optional<int64_t> elements = shape.elements();
  if (!elements) throw_invalid_argument("Constant without a complete shape");
  if (uint64_t(*elements) > max_bytes / row.size)
    throw Error(TF_RESOURCE_EXHAUSTED,
                concat("Constant of ", *elements, " elements is more than ", max_bytes, " bytes"));
  return size_t(*elements) * row.size;
}

template <class T>
void append_raw(std::string& out, const std::vector<T>& values, size_t bytes_each) {
  for (const T& value : values) out.append(reinterpret_cast<const char*>(&value), bytes_each);
}

// The values listed one by one, as the bytes of a tensor.
std::string listed_values(const TypeRow& row, std::string_view proto) {
  std::vector<float> floats;
  std::vector<double> doubles;
  std::vector<uint64_t> varints;
  std::string out;
  for (WireReader r(proto); r.next();) {
    switch (row.storage) {
      case Storage::kFloat:
        read_repeated(r, row.field, floats);
        break;
      case Storage::kDouble:
        read_repeated(r, row.field, doubles);
        break;
      case Storage::kVarint:
        read_repeated(r, row.field, varints);
        break;
      case Storage::kByte:
        if (r.is(row.field, WireType::kBytes)) out = r.bytes();
        break;
    }
  }
  if (row.dtype == TF_BOOL)
    for (uint64_t& value : varints) value = value != 0;
  append_raw(out, floats, sizeof(float));
  append_raw(out, doubles, sizeof(double));
  append_raw(out, varints, row.size);
  return out;
}

double half_to_double(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  return sign * (exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24));
}

template <class T>
T load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

int64_t load_int(const TypeRow& row, const char* at) {
  const bool negative = row.meaning == Meaning::kSigned && at[row.size - 1] < 0;
  int64_t value = negative ? -1 : 0;
  std::memcpy(&value, at, row.size);
  return value;
}

double load_double(const TypeRow& row, const char* at) {
  switch (row.meaning) {
    case Meaning::kFloat:
      return load<float>(at);
    case Meaning::kDouble:
      return load<double>(at);
    case Meaning::kHalf:
      return half_to_double(load<uint16_t>(at));
    case Meaning::kBfloat16:
      return std::bit_cast<float>(uint32_t(load<uint16_t>(at)) << 16);
    default:
      if (row.dtype == TF_UINT64) return double(load<uint64_t>(at));
      return double(load_int(row, at));
  }
}

template <class T, class Load>
std::vector<T> convert(const TypeRow& row, const std::string& data, Load load_one) {
  std::vector<T> out;
  out.reserve(data.size() / row.size);
  for (size_t i = 0; i < data.size(); i += row.size) out.push_back(load_one(row, &data[i]));
  return out;
}

}  // namespace

std::optional<int64_t> PartialShape::elements() const {
  if (unknown_rank) return std::nullopt;
  bool empty = false;
  for (const int64_t dim : dims) {
    if (dim < 0) return std::nullopt;
    empty |= dim == 0;
  }
  if (empty) return 0;
  int64_t product = 1;
  for (const int64_t dim : dims) {
    if (product > INT64_MAX / dim) return std::nullopt;
    product *= dim;
  }
  return product;
}

PartialShape PartialShape::parse(std::string_view bytes) {
  PartialShape shape;
  for (WireReader r(bytes); r.next();) {
    if (r.is(kUnknownRank, WireType::kVarint)) shape.unknown_rank = r.varint() != 0;
    if (!r.is(kDim, WireType::kBytes)) continue;
    int64_t size = 0;
    for (WireReader dim(r.bytes()); dim.next();)
      if (dim.is(kDimSize, WireType::kVarint)) size = int64_t(dim.varint());
    shape.dims.push_back(size);
  }
  return shape;
}

std::string PartialShape::serialized() const {
  WireWriter out;
  for (const int64_t size : dims) {
    WireWriter dim;
    if (size) dim.varint(kDimSize, uint64_t(size));
    out.bytes(kDim, dim.str());
  }
  if (unknown_rank) out.varint(kUnknownRank, 1);
  return out.take();
}

TensorProto TensorProto::parse(std::string_view bytes) {
  TensorProto tensor;
  std::string shape;  // parts of a repeated message merge, which is to read them in sequence
  for (WireReader r(bytes); r.next();) {
    if (r.is(kDtype, WireType::kVarint)) tensor.dtype_ = data_type(r.varint());
    if (r.is(kShape, WireType::kBytes)) shape += r.bytes();
  }
  tensor.shape_ = PartialShape::parse(shape);
  tensor.bytes_ = bytes;
  return tensor;
}

void TensorProto::check(std::string_view bytes) {
  for (WireReader r(bytes); r.next();)
    if (r.is(kShape, WireType::kBytes)) PartialShape::parse(r.bytes());
}

TensorProto TensorProto::make(TF_DataType dtype, const std::vector<int64_t>& dims,
                              std::string_view content) {
  const PartialShape shape{.dims = dims};
  const size_t size = byte_size(type_row(dtype), shape, SIZE_MAX);
  if (content.size() != size)
    throw_invalid_argument("Constant has ", content.size(), " bytes, not ", size);
  WireWriter out;
  out.varint(kDtype, uint64_t(dtype)).bytes(kShape, shape.serialized());
  if (!content.empty()) out.bytes(kContent, content);
  return parse(out.str());
}

std::string TensorProto::data(size_t max_bytes) const {
  const TypeRow& row = type_row(dtype_);
  const size_t size = byte_size(row, shape_, max_bytes);
  std::string_view content;
  for (WireReader r(bytes_); r.next();)
    if (r.is(kContent, WireType::kBytes)) content = r.bytes();
  if (!content.empty()) {
    if (content.size() != size)
      throw_invalid_argument("Constant has ", content.size(), " bytes, its shape says ", size);
    return std::string(content);
  }
  std::string out = listed_values(row, bytes_);
  out.resize(std::min(out.size() / row.size * row.size, size));
  const std::string last =
      out.empty() ? std::string(row.size, 0) : out.substr(out.size() - row.size);
  out.reserve(size);
  while (out.size() < size) out += last;
  return out;
}

std::vector<int64_t> TensorProto::ints() const {
  const TypeRow& row = type_row(dtype_);
  if (row.meaning != Meaning::kSigned && row.meaning != Meaning::kUnsigned)
    throw_invalid_argument("Constant of type ", int(dtype_), " is not of integers");
  return convert<int64_t>(row, data(), load_int);
}

std::vector<double> TensorProto::doubles() const {
  const TypeRow& row = type_row(dtype_);
  if (row.meaning == Meaning::kOther)
    throw_invalid_argument("Constant of type ", int(dtype_), " is not of real numbers");
  return convert<double>(row, data(), load_double);
}

std::vector<std::string> TensorProto::strings() const {
  if (dtype_ != TF_STRING)
    throw_invalid_argument("Constant of type ", int(dtype_), " is no string");
  std::vector<std::string> out;
  for (WireReader r(bytes_); r.next();)
    if (r.is(kStringVal, WireType::kBytes)) out.emplace_back(r.bytes());
  const std::optional<int64_t> elements = shape_.elements();
  if (!elements || uint64_t(*elements) > kMaxTensorBytes / sizeof(std::string))
    throw_invalid_argument("String constant without a usable shape");
  const std::string last = out.empty() ? "" : out.back();
  out.resize(size_t(*elements), last);
  return out;
}

}  // namespace tfmetal
