// Ops that read or change resource variables in place: assignments, gathers, scatters.
//
// Available where TensorFlow or the shim provides the variable functions; without them the stock
// kernels run, and streams are synchronous (plugin/variables/shim_loader.h).
//
// Indices out of range: gathers give zeros and scatters skip, as TensorFlow's kernels for GPUs do.
#include <algorithm>
#include <complex>
#include <limits>
#include <type_traits>

#include "kernels/families.h"
#include "kernels/kernel.h"
#include "kernels/native/strided.h"
#include "kernels/native/variable.h"
#include "kernels/shape_oracle.h"
#include "plugin/device/tf_stream.h"
#include "plugin/variables/shim_loader.h"

namespace tfmetal {

namespace {

BufferSlice resolve(Device& device, TF_Tensor* tensor) {
  if (tf.TF_TensorElementCount(tensor) == 0) return {};
  return device.allocator().resolve(tf.TF_TensorData(tensor));
}

void copy_on_stream(TF_OpKernelContext* context, TF_Tensor* source, TF_Tensor* destination) {
  Stream& stream = stream_of(context);
  stream.copy(resolve(stream.device(), destination), resolve(stream.device(), source),
              tf.TF_TensorByteSize(source));
}

TensorInfo info_of(TF_Tensor* tensor) {
  TensorInfo info{tf.TF_TensorType(tensor), Shape(tf.TF_NumDims(tensor))};
  for (size_t axis = 0; axis < info.rank(); ++axis) {
    info.shape[axis] = tf.TF_Dim(tensor, static_cast<int>(axis));
  }
  return info;
}

}  // namespace

Variable::Variable(KernelCall& call, TF_DataType expected, VariableAccess access, bool exclusive)
    : locked_(call.context(), 0, access, exclusive, copy_on_stream),
      info(info_of(locked_.tensor())),
      slice(resolve(call.device(), locked_.tensor())) {
  if (info.dtype != expected) {
    throw_invalid_argument(call.kernel().label(), ": the variable is of type ", name_of(info.dtype),
                           ", not ", name_of(expected));
  }
}

bool variables_available() { return variable_mode() != VariableMode::kSync; }

namespace {

// Metal has neither float64 nor complex arithmetic: the host computes them, after waiting for the
// device. Moving them is moving words.
const DTypes kDouble = {TF_DOUBLE}, kComplex = {TF_COMPLEX64, TF_COMPLEX128};

bool on_host(TF_DataType dtype) {
  return dtype == TF_DOUBLE || dtype == TF_COMPLEX64 || dtype == TF_COMPLEX128;
}

// Threads of a scatter. Each goes through all indices: more threads share the writing, but read
// more (1024 took four times as long on the host). Along a row neighbours write neighbouring
// elements, up to the width of a SIMD group.
constexpr int64_t kScatterThreads = 256, kScatterLanes = 32;

Node node_of(KernelCall& call, std::vector<TensorInfo> inputs) {
  Node node;
  node.def = call.kernel().shared_def();
  node.is_host.assign(inputs.size(), false);
  node.inputs = std::move(inputs);
  return node;
}

// ---- arithmetic on the host ---------------------------------------------------------------------

template <class T>
T updated(T x, T y, VariableUpdate op) {
  switch (op) {
    case kUpdateAdd:
      return x + y;
    case kUpdateSub:
      return x - y;
    case kUpdateMul:
      return x * y;
    case kUpdateDiv:
      return x / y;
    default:
      break;
  }
  if constexpr (std::is_floating_point_v<T>) {
    if (op == kUpdateMin) return x < y || x != x ? x : y;
    if (op == kUpdateMax) return x > y || x != x ? x : y;
  }
  return y;
}

// What the shader scatter_rows does; `indices` null: the rows in order.
template <class T>
void update_rows(void* tensor, const void* indices, const void* updates, const RowArguments& a) {
  for (unsigned t = 0; t < a.count; ++t) {
    int64_t row = indices ? 0 : t;
    for (unsigned k = 0; indices && k < a.depth && row >= 0; ++k) {
      const size_t at = size_t{t} * a.depth + k;
      const int64_t index = a.long_indices ? static_cast<const int64_t*>(indices)[at]
                                           : static_cast<const int32_t*>(indices)[at];
      row = index < 0 || index >= a.extents[k] ? -1 : row * a.extents[k] + index;
    }
    if (row < 0) continue;
    T* to = static_cast<T*>(tensor) + row * a.width;
    const T* from = static_cast<const T*>(updates) + (a.scalar ? 0 : size_t{t} * a.width);
    for (unsigned i = 0; i < a.width; ++i) {
      to[i] = updated(to[i], from[a.scalar ? 0 : i], static_cast<VariableUpdate>(a.op));
    }
  }
}

void update_rows_on_host(TF_DataType dtype, void* tensor, const void* indices, const void* updates,
                         const RowArguments& a) {
  if (dtype == TF_DOUBLE) update_rows<double>(tensor, indices, updates, a);
  if (dtype == TF_COMPLEX64) update_rows<std::complex<float>>(tensor, indices, updates, a);
  if (dtype == TF_COMPLEX128) update_rows<std::complex<double>>(tensor, indices, updates, a);
}

// ---- assignments --------------------------------------------------------------------------------

void assign(KernelCall& call) {
  const bool validate = call.kernel().def().attr_bool("validate_shape", false);
  assign_variable(call.context(), 0, 1, validate, copy_on_stream);
}

template <VariableUpdate op>
void assign_update(KernelCall& call) {
  const TensorInfo value = call.input_info(1);
  const BufferSlice from = call.input_slice(1);
  const Variable variable(call, call.kernel().def().attr_type("dtype"), VariableAccess::kDense);
  if (variable.info.shape != value.shape) {
    throw_invalid_argument("Cannot update variable with shape ", to_string(variable.info.shape),
                           " using a Tensor with shape ", to_string(value.shape),
                           ", shapes must be equal.");
  }
  if (value.count() == 0) return;
  if (on_host(value.dtype)) {
    call.synchronize();
    RowArguments a = {};
    a.count = 1;
    a.width = static_cast<unsigned>(value.count());
    a.op = op;
    return update_rows_on_host(value.dtype, variable.data(), nullptr, from.contents(), a);
  }
  call.encode(node_of(call, {value}), {from}, {variable.slice}, 3 * value.bytes(),
              [&](NativeCall& native) {
                const unsigned operation = op;
                native.dispatch(shader_name("variable_update", value.dtype), value.count(),
                                {native.out(), native.in(0), NativeCall::value(operation)});
              });
}

// ---- rows chosen by indices ---------------------------------------------------------------------

// Words of a row of `elements` when they are moved, and the shader's suffix for such a word.
struct Words {
  int64_t count;
  TF_DataType dtype;
};
Words words_of(TF_DataType dtype, int64_t elements) {
  if (dtype == TF_COMPLEX128) return {2 * elements, TF_UINT64};
  switch (size_of(dtype)) {
    case 1:
      return {elements, TF_UINT8};
    case 2:
      return {elements, TF_UINT16};
    case 4:
      return {elements, TF_UINT32};
    default:
      return {elements, TF_UINT64};
  }
}

unsigned narrow(const Node& node, int64_t n) {
  if (n > std::numeric_limits<unsigned>::max()) {
    throw_invalid_argument(node.describe(), ": ", n, " elements are beyond Metal's grid");
  }
  return static_cast<unsigned>(n);
}

int64_t product(const Shape& shape, size_t begin, size_t end) {
  return element_count(Shape(shape.begin() + begin, shape.begin() + end));
}

Shape joined(const Shape& a, size_t a_begin, size_t a_end, const Shape& b, size_t b_begin) {
  Shape result(a.begin() + a_begin, a.begin() + a_end);
  result.insert(result.end(), b.begin() + b_begin, b.end());
  return result;
}

// Tuples of `depth` indices into the axes of `shape` from `first` on.
RowArguments row_arguments(const Node& node, const TensorInfo& indices, const Shape& shape,
                           size_t first, size_t depth, int64_t tuples) {
  if (depth > MAX_SHADER_RANK) {
    throw_invalid_argument(node.describe(), ": more than ", MAX_SHADER_RANK, " indexed dimensions");
  }
  RowArguments a = {};
  a.count = narrow(node, tuples);
  a.depth = static_cast<unsigned>(depth);
  a.long_indices = indices.dtype == TF_INT64;
  a.width = narrow(node, product(shape, first + depth, shape.size()));
  a.tuples_per_batch = std::max(1u, a.count);
  for (size_t k = 0; k < depth; ++k) a.extents[k] = static_cast<long>(shape[first + k]);
  return a;
}

// Where the indices are. Tuples of no indices have no memory, but a shader needs a buffer to bind.
BufferSlice index_slice(KernelCall& call, const Variable& variable) {
  const BufferSlice slice = call.input_slice(1);
  return slice.block ? slice : variable.slice;
}

void check_not_empty(const Node& node, const Shape& shape, const Shape& indices) {
  if (element_count(shape) == 0) {
    throw_invalid_argument(node.describe(), ": indices of shape ", to_string(indices),
                           " index nothing: the variable has shape ", to_string(shape));
  }
}

void gather_rows(KernelCall& call, const Node& node, const Variable& variable, RowArguments a,
                 Shape out_shape) {
  const TensorInfo out{variable.info.dtype, std::move(out_shape)};
  const BufferSlice to = call.allocate_output(0, out);
  if (out.count() == 0) return;
  check_not_empty(node, variable.info.shape, node.in(1).shape);
  const Words row = words_of(out.dtype, a.width);
  a.width = narrow(node, row.count);
  call.encode(node, {variable.slice, index_slice(call, variable)}, {to}, 2 * out.bytes(),
              [&](NativeCall& native) {
                native.dispatch(shader_name("gather_rows", row.dtype), int64_t{a.count} * a.width,
                                {native.in(0), native.in(1), native.out(), NativeCall::value(a)});
              });
}

void gather(KernelCall& call) {
  const TensorInfo indices = call.input_info(1);
  const Variable variable(call, call.kernel().def().attr_type("dtype"), VariableAccess::kSparse,
                          /*exclusive=*/false);
  const Shape& shape = variable.info.shape;
  const Node node = node_of(call, {variable.info, indices});
  int64_t batch_dims = node.def->attr_int("batch_dims", 0);
  if (batch_dims < 0) batch_dims += static_cast<int64_t>(indices.rank());
  const size_t batch = static_cast<size_t>(batch_dims);
  if (shape.empty()) throw_invalid_argument("params must be at least 1 dimensional");
  if (batch_dims < 0 || batch > indices.rank() || batch >= shape.size() ||
      !std::equal(shape.begin(), shape.begin() + batch, indices.shape.begin())) {
    throw_invalid_argument(node.describe(), ": batch_dims is ", batch_dims,
                           ", the batch dimensions of both must be equal");
  }
  RowArguments a = row_arguments(node, indices, shape, batch, 1, indices.count());
  a.tuples_per_batch = std::max(1u, narrow(node, product(indices.shape, batch, indices.rank())));
  a.rows_per_batch = static_cast<long>(shape[batch]);
  gather_rows(call, node, variable, a, joined(indices.shape, 0, indices.rank(), shape, batch + 1));
}

// For the Nd ops: how many axes the last dimension of `indices` indexes.
size_t tuple_depth(const Node& node, const TensorInfo& indices, const Shape& shape) {
  if (indices.rank() == 0) throw_invalid_argument(node.describe(), ": indices must be a vector");
  const int64_t depth = indices.shape.back();
  if (depth > static_cast<int64_t>(shape.size())) {
    throw_invalid_argument("index innermost dimension length must be <= params rank; saw: ", depth,
                           " vs. ", shape.size());
  }
  return static_cast<size_t>(depth);
}

void gather_nd(KernelCall& call) {
  const TensorInfo indices = call.input_info(1);
  const Variable variable(call, call.kernel().def().attr_type("dtype"), VariableAccess::kSparse,
                          /*exclusive=*/false);
  const Shape& shape = variable.info.shape;
  const Node node = node_of(call, {variable.info, indices});
  const size_t depth = tuple_depth(node, indices, shape);
  const size_t outer = indices.rank() - 1;
  gather_rows(call, node, variable,
              row_arguments(node, indices, shape, 0, depth, product(indices.shape, 0, outer)),
              joined(indices.shape, 0, outer, shape, depth));
}

void scatter_rows(KernelCall& call, const Node& node, const Variable& variable, RowArguments a,
                  VariableUpdate op) {
  if (a.count == 0 || a.width == 0) return;
  check_not_empty(node, variable.info.shape, node.in(0).shape);
  const TF_DataType dtype = variable.info.dtype;
  a.op = op;
  // A scalar of two words cannot be moved word by word.
  const bool moves = op == kUpdateAssign && !(a.scalar && dtype == TF_COMPLEX128);
  if (on_host(dtype) && !moves) {
    const void *indices = call.input_data(1), *updates = call.input_data(2);
    call.synchronize();
    return update_rows_on_host(dtype, variable.data(), indices, updates, a);
  }
  const Words row = moves ? words_of(dtype, a.width) : Words{a.width, dtype};
  a.width = narrow(node, row.count);
  a.lanes = static_cast<unsigned>(std::min<int64_t>(a.width, kScatterLanes));
  int64_t rows = 1;
  for (unsigned k = 0; k < a.depth; ++k) rows *= a.extents[k];
  a.buckets = static_cast<unsigned>(std::min<int64_t>(rows, kScatterThreads / a.lanes));
  call.encode(node, {index_slice(call, variable), call.input_slice(2)}, {variable.slice},
              3 * node.in(1).bytes(), [&](NativeCall& native) {
                native.dispatch(shader_name("scatter_rows", row.dtype),
                                int64_t{a.lanes} * a.buckets,
                                {native.out(), native.in(0), native.in(1), NativeCall::value(a)});
              });
}

template <VariableUpdate op>
void scatter(KernelCall& call) {
  const TensorInfo indices = call.input_info(1), updates = call.input_info(2);
  const Variable variable(call, call.kernel().def().attr_type("dtype"), VariableAccess::kSparse);
  const Shape& shape = variable.info.shape;
  const Node node = node_of(call, {indices, updates});
  // A variable without axes has one row; the only index is 0.
  const Shape rows = shape.empty() ? Shape{1} : shape;
  const bool scalar = updates.rank() == 0;
  if (!scalar && updates.shape != joined(indices.shape, 0, indices.rank(), rows, 1)) {
    throw_invalid_argument(
        "Must have updates.shape = indices.shape + params.shape[1:] or updates.shape = [], got "
        "updates.shape ",
        to_string(updates.shape), ", indices.shape ", to_string(indices.shape), ", params.shape ",
        to_string(shape));
  }
  RowArguments a = row_arguments(node, indices, rows, 0, 1, indices.count());
  a.scalar = scalar;
  scatter_rows(call, node, variable, a, op);
}

template <VariableUpdate op>
void scatter_nd(KernelCall& call) {
  const TensorInfo indices = call.input_info(1), updates = call.input_info(2);
  const Variable variable(call, call.kernel().def().attr_type("T"), VariableAccess::kSparse);
  const Shape& shape = variable.info.shape;
  const Node node = node_of(call, {indices, updates});
  if (shape.empty()) throw_invalid_argument("Output must be at least 1-D, got shape: []");
  const size_t depth = tuple_depth(node, indices, shape);
  const size_t outer = indices.rank() - 1;
  if (updates.shape != joined(indices.shape, 0, outer, shape, depth)) {
    throw_invalid_argument("Must have updates.shape = indices.shape[:-1] + ref.shape[", depth,
                           ":], got updates.shape ", to_string(updates.shape), ", indices.shape ",
                           to_string(indices.shape), ", ref.shape ", to_string(shape));
  }
  scatter_rows(call, node, variable,
               row_arguments(node, indices, shape, 0, depth, product(indices.shape, 0, outer)), op);
}

// ---- assignment to a slice ----------------------------------------------------------------------

// begin, end and strides, checked by TensorFlow: StridedSlice of the variable's shape.
Node slice_node(KernelCall& call, const TensorInfo& variable) {
  NodeDef def = call.kernel().def();
  def.op = "StridedSlice";
  Node node;
  node.def = std::make_shared<const NodeDef>(std::move(def));
  node.inputs = {variable, call.input_info(1), call.input_info(2), call.input_info(3)};
  node.is_host = {false, true, true, true};
  node.host = {"", call.host_bytes(1), call.host_bytes(2), call.host_bytes(3)};
  infer_outputs(&node);
  return node;
}

// Fills in where the elements of the slice are, and those of `value` broadcast to it.
SliceAssignArguments slice_arguments(const Node& node, const StridedView& view,
                                     const Shape& value) {
  SliceAssignArguments a = {};
  a.offset = static_cast<long>(view.offset);
  const size_t rank = view.extents.size();
  const size_t missing = rank - std::min(rank, value.size());
  bool fits = value.size() <= rank;
  std::vector<int64_t> from(rank, 0);
  int64_t stride = 1;
  for (size_t axis = rank; fits && axis-- > missing;) {
    const int64_t extent = value[axis - missing];
    if (extent != 1) from[axis] = stride;
    fits = extent == 1 || extent == view.extents[axis];
    stride *= extent;
  }
  if (!fits) {
    throw_invalid_argument("Cannot broadcast input shape ", to_string(value), " into final shape ",
                           to_string(view.extents));
  }
  for (size_t axis = 0; axis < rank; ++axis) {
    if (view.extents[axis] == 1) continue;
    if (a.rank == MAX_SHADER_RANK) {
      throw_invalid_argument(node.describe(), ": more than ", MAX_SHADER_RANK, " dimensions");
    }
    a.extents[a.rank] = narrow(node, view.extents[axis]);
    a.to_strides[a.rank] = static_cast<long>(view.strides[axis]);
    a.from_strides[a.rank++] = static_cast<long>(from[axis]);
  }
  return a;
}

// One more axis: the two words of a complex128.
void split_words(const Node& node, SliceAssignArguments* a) {
  if (a->rank == MAX_SHADER_RANK) {
    throw_invalid_argument(node.describe(), ": more than ", MAX_SHADER_RANK, " dimensions");
  }
  a->offset *= 2;
  for (unsigned k = 0; k < a->rank; ++k) {
    a->to_strides[k] *= 2;
    a->from_strides[k] *= 2;
  }
  a->to_strides[a->rank] = a->from_strides[a->rank] = 1;
  a->extents[a->rank++] = 2;
}

void assign_slice(KernelCall& call) {
  const TensorInfo value = call.input_info(4);
  const Variable variable(call, call.kernel().def().attr_type("T"), VariableAccess::kDense);
  const Node slice = slice_node(call, variable.info);
  const StridedView view = strided_slice_view(slice, variable.info.shape, slice.host_ints(1),
                                              slice.host_ints(2), slice.host_ints(3));
  const int64_t count = element_count(view.extents);
  if (count == 0) return;
  SliceAssignArguments a = slice_arguments(slice, view, value.shape);
  const Words words = words_of(value.dtype, count);
  if (words.count != count) split_words(slice, &a);
  call.encode(node_of(call, {value}), {call.input_slice(4)}, {variable.slice}, 2 * value.bytes(),
              [&](NativeCall& native) {
                native.dispatch(shader_name("assign_slice", words.dtype), words.count,
                                {native.out(), native.in(0), NativeCall::value(a)});
              });
}

// ---- rows of the op table -----------------------------------------------------------------------

OpRow row(const char* op, Run run, DTypes dtypes, const char* attr = "dtype",
          const char* resource = "resource") {
  return {.op = op,
          .types = {{attr, std::move(dtypes)}},
          .host = {{resource, HostUse::kArg}},
          .run = run,
          .cluster = ClusterPolicy::kNever,
          .available = variables_available};
}

OpRow indexed(OpRow r) {
  r.types.push_back({"Tindices", kIndex});
  return r;
}

OpRow slice_row(const DTypes& dtypes) {
  OpRow r = row("ResourceStridedSliceAssign", assign_slice, dtypes, "T", "ref");
  r.types.push_back({"Index", kIndex});
  for (const char* name : {"begin", "end", "strides"}) r.host.push_back({name, HostUse::kArg});
  return r;
}

}  // namespace

std::vector<OpRow> variable_ops() {
  // TensorFlow keeps int32 variables on the host.
  const DTypes ordered = kFloats + kDeviceInts + kDouble;
  const DTypes numbers = ordered + kComplex;
  const DTypes any = numbers + DTypes{TF_BOOL};
  return {
      row("AssignVariableOp", assign, any),
      row("AssignAddVariableOp", assign_update<kUpdateAdd>, numbers),
      row("AssignSubVariableOp", assign_update<kUpdateSub>, numbers),
      indexed(row("ResourceGather", gather, any)),
      indexed(row("ResourceGatherNd", gather_nd, any)),
      indexed(row("ResourceScatterAdd", scatter<kUpdateAdd>, numbers)),
      indexed(row("ResourceScatterSub", scatter<kUpdateSub>, numbers)),
      indexed(row("ResourceScatterMul", scatter<kUpdateMul>, numbers)),
      indexed(row("ResourceScatterDiv", scatter<kUpdateDiv>, numbers)),
      indexed(row("ResourceScatterMin", scatter<kUpdateMin>, ordered)),
      indexed(row("ResourceScatterMax", scatter<kUpdateMax>, ordered)),
      indexed(row("ResourceScatterUpdate", scatter<kUpdateAssign>, any)),
      indexed(row("ResourceScatterNdAdd", scatter_nd<kUpdateAdd>, numbers, "T", "ref")),
      indexed(row("ResourceScatterNdSub", scatter_nd<kUpdateSub>, numbers, "T", "ref")),
      indexed(row("ResourceScatterNdMin", scatter_nd<kUpdateMin>, ordered, "T", "ref")),
      indexed(row("ResourceScatterNdMax", scatter_nd<kUpdateMax>, ordered, "T", "ref")),
      indexed(row("ResourceScatterNdUpdate", scatter_nd<kUpdateAssign>, any, "T", "ref")),
      slice_row(any),
  };
}

}  // namespace tfmetal
