// Diagonals of matrices, bands, one-hot vectors, ranges and other constants.
#include <cstring>

#include "kernels/families.h"
#include "kernels/msl/matrix_arguments.h"
#include "kernels/native/rows.h"
#include "kernels/native/strided.h"
#include "plugin/error.h"
#include "plugin/tf_api.h"

namespace tfmetal {

namespace {

const DTypes kAny = kFloats + kIntegers + DTypes{TF_BOOL, TF_COMPLEX64};

// ---- diagonals ----------------------------------------------------------------------------------

// Which diagonals: input `k` of the later versions; the main one in the first version.
void read_diagonals(const Node& node, size_t k, DiagonalArguments* a) {
  if (k >= node.inputs.size()) return;
  const std::vector<int64_t> range = node.host_ints(k);
  a->low = static_cast<int>(range.front());
  a->high = static_cast<int>(range.back());
}

DiagonalArguments diagonal_arguments(const Node& node, const Shape& matrices, size_t k,
                                     int64_t length) {
  DiagonalArguments a = {};
  a.rows = narrow(node, matrices[matrices.size() - 2]);
  a.columns = narrow(node, matrices.back());
  a.length = narrow(node, length);
  read_diagonals(node, k, &a);
  const std::string align = node.def->attr_string("align", "LEFT_LEFT");
  a.left_super = align.starts_with("LEFT");
  a.left_sub = align.ends_with("LEFT");
  return a;
}

void matrix_diag_part(NativeCall& call) {
  const Node& node = call.node;
  const TensorInfo& out = node.out();
  const uint64_t zero = 0;
  const DiagonalArguments a = diagonal_arguments(node, node.in(0).shape, 1, out.shape.back());
  call.dispatch(strided_shader("diagonal_part", out.dtype), out.count(),
                {call.in(0), node.inputs.size() > 2 ? call.in(2) : NativeCall::value(zero),
                 call.out(), NativeCall::value(a)});
}

void matrix_diag(NativeCall& call) {
  const Node& node = call.node;
  const TensorInfo& out = node.out();
  const uint64_t zero = 0;
  const DiagonalArguments a = diagonal_arguments(node, out.shape, 1, node.in(0).shape.back());
  call.dispatch(strided_shader("diagonal_set", out.dtype), out.count(),
                {node.inputs.size() > 4 ? call.in(4) : NativeCall::value(zero), call.in(0),
                 call.out(), NativeCall::value(a)});
}

void matrix_set_diag(NativeCall& call) {
  const Node& node = call.node;
  const TensorInfo& out = node.out();
  DiagonalArguments a = diagonal_arguments(node, out.shape, 2, node.in(1).shape.back());
  a.keep = 1;
  call.dispatch(strided_shader("diagonal_set", out.dtype), out.count(),
                {call.in(0), call.in(1), call.out(), NativeCall::value(a)});
}

// Of tensors: the diagonal of one matrix with the elements of the tensor.
void tensor_diag(NativeCall& call) {
  const TensorInfo& out = call.node.out();
  const uint64_t zero = 0;
  const int64_t n = call.node.in(0).count();
  const DiagonalArguments a = diagonal_arguments(call.node, {n, n}, 1, n);
  call.dispatch(strided_shader("diagonal_set", out.dtype), out.count(),
                {NativeCall::value(zero), call.in(0), call.out(), NativeCall::value(a)});
}

void tensor_diag_part(NativeCall& call) {
  const TensorInfo& out = call.node.out();
  const uint64_t zero = 0;
  const int64_t n = out.count();
  const DiagonalArguments a = diagonal_arguments(call.node, {n, n}, 1, n);
  call.dispatch(strided_shader("diagonal_part", out.dtype), n,
                {call.in(0), NativeCall::value(zero), call.out(), NativeCall::value(a)});
}

void band_part(NativeCall& call) {
  const TensorInfo& out = call.node.out();
  const size_t rank = out.rank();
  const BandArguments a = {
      narrow(call.node, out.shape[rank - 2]), narrow(call.node, out.shape[rank - 1]),
      static_cast<long>(call.node.host_int(1)), static_cast<long>(call.node.host_int(2))};
  call.dispatch(strided_shader("band_part", out.dtype), out.count(),
                {call.in(0), call.out(), NativeCall::value(a)});
}

void check_band(const Node& node) {
  if (tensorflow_since(2, 23)) return;  // takes more than there are
  const Shape& shape = node.in(0).shape;
  for (size_t i = 1; i <= 2; ++i) {
    const int64_t extent = shape[shape.size() - 3 + i], number = node.host_int(i);
    if (number > extent) {
      throw_invalid_argument(node.describe(), ": ", i == 1 ? "num_lower" : "num_upper",
                             " must be negative or less or equal to number of ",
                             i == 1 ? "rows" : "columns", " (", extent, ") got: ", number);
    }
  }
}

// ---- constants ----------------------------------------------------------------------------------

void one_hot(NativeCall& call) {
  const Node& node = call.node;
  const TensorInfo& out = node.out();
  const int64_t axis = node.def->attr_int("axis", -1);
  const size_t at = axis < 0 ? out.rank() - 1 : static_cast<size_t>(axis);
  const OneHotArguments a = {narrow(node, out.shape[at]),
                             narrow(node, product(out.shape, at + 1, out.rank())),
                             index_type(node.in(0).dtype)};
  call.dispatch(strided_shader("one_hot", out.dtype), out.count(),
                {call.in(0), call.in(2), call.in(3), call.out(), NativeCall::value(a)});
}

// A host scalar of float32 or bfloat16, which is the upper half of a float32.
float float_of(TF_DataType dtype, const std::string& bytes) {
  float value = 0;
  char* to = reinterpret_cast<char*>(&value) + (dtype == TF_BFLOAT16 ? 2 : 0);
  std::memcpy(to, bytes.data(), bytes.size());
  return value;
}

void range(NativeCall& call) {
  const Node& node = call.node;
  const TensorInfo& out = node.out();
  RangeArguments a = {};
  if (is_float(out.dtype)) {
    a.start = float_of(out.dtype, node.host[0]);
    a.delta = float_of(out.dtype, node.host[2]);
  } else {
    a.whole_start = static_cast<long>(node.host_int(0));
    a.whole_delta = static_cast<long>(node.host_int(2));
  }
  call.dispatch(shader_name(is_float(out.dtype) ? "float_range" : "integer_range", out.dtype),
                out.count(), {call.out(), NativeCall::value(a)});
}

// Zeros also where the memory may be left as it is: results are the same each time.
void empty(NativeCall& call) { call.clear(call.outputs[0], call.node.out().bytes()); }

// ---- rows of the op table -----------------------------------------------------------------------

OpRow row(const char* op, Launch launch, std::vector<HostInput> host = {}) {
  return {.op = op,
          .types = T(kAny),
          .host = std::move(host),
          .launch = launch,
          .precision = Precision::kClear};
}

}  // namespace

std::vector<OpRow> matrix_ops() {
  using enum HostUse;
  const std::vector<HostInput> k = {{"k", kKey}};
  const std::vector<HostInput> sized = {{"k", kKey}, {"num_rows", kKey}, {"num_cols", kKey}};
  OpRow band = row("MatrixBandPart", band_part, {{"num_lower", kArg}, {"num_upper", kArg}});
  band.types.push_back({"Tindex", kIndex});
  band.check = check_band;
  OpRow hot = row("OneHot", one_hot, {{"depth", kKey}});
  hot.types.push_back({"TI", kIndex + DTypes{TF_INT8, TF_UINT8}});
  return {
      row("MatrixDiag", matrix_diag),
      row("MatrixDiagV2", matrix_diag, sized),
      row("MatrixDiagV3", matrix_diag, sized),
      row("MatrixDiagPart", matrix_diag_part),
      row("MatrixDiagPartV2", matrix_diag_part, k),
      row("MatrixDiagPartV3", matrix_diag_part, k),
      row("MatrixSetDiag", matrix_set_diag),
      row("MatrixSetDiagV2", matrix_set_diag, k),
      row("MatrixSetDiagV3", matrix_set_diag, k),
      row("Diag", tensor_diag),
      row("DiagPart", tensor_diag_part),
      band,
      hot,
      {.op = "Range",
       .types = T({TF_FLOAT, TF_BFLOAT16, TF_INT64}, "Tidx"),  // what shape and CPU kernel take
       .host = {{"start", kArg}, {"limit", kArg}, {"delta", kArg}},
       .launch = range},
      {.op = "Empty", .types = T(kAny, "dtype"), .host = {{"shape", kKey}}, .launch = empty},
  };
}

}  // namespace tfmetal
