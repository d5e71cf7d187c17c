// AddN and ZerosLike of variants, that is of TensorLists and Optionals: what the gradient of a loop
// sums up and starts from. Without them every element would go to the CPU and back.
#include <complex>

#include "kernels/families.h"
#include "kernels/kernel.h"
#include "kernels/msl/arguments.h"
#include "plugin/device/tf_stream.h"
#include "plugin/variables/shim_loader.h"
#include "plugin/variables/variable_api.h"

namespace tfmetal {

namespace {

// Never destroyed: work may be in flight while the process exits.
const Label& kAddLabel = *new Label("AddN of variants");

template <class T>
void add_on_host(const void* a, const void* b, void* sum, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    static_cast<T*>(sum)[i] = static_cast<const T*>(a)[i] + static_cast<const T*>(b)[i];
  }
}

// Metal has no such arithmetic. Returns whether `dtype` is such a type.
bool add_without_metal(Stream& stream, TF_DataType dtype, const void* a, const void* b, void* sum,
                       int64_t count) {
  const auto add = dtype == TF_DOUBLE       ? &add_on_host<double>
                   : dtype == TF_COMPLEX64  ? &add_on_host<std::complex<float>>
                   : dtype == TF_COMPLEX128 ? &add_on_host<std::complex<double>>
                                            : nullptr;
  if (!add) return false;
  if (const std::optional<Error> error = stream.synchronize()) throw Error(*error);
  add(a, b, sum, count);
  return true;
}

void add_elements(TF_OpKernelContext* context, TF_Tensor* a, TF_Tensor* b, TF_Tensor* sum) {
  Stream& stream = stream_of(context);
  Allocator& memory = stream.device().allocator();
  const TF_DataType dtype = tf.TF_TensorType(a);
  const int64_t count = tf.TF_TensorElementCount(a);
  const void *x = tf.TF_TensorData(a), *y = tf.TF_TensorData(b);
  void* z = tf.TF_TensorData(sum);
  if (add_without_metal(stream, dtype, x, y, z, count)) return;
  const BufferSlice in[] = {memory.resolve(x), memory.resolve(y)};
  const BufferSlice out[] = {memory.resolve(z)};
  const BufferSlice uses[] = {in[0], in[1], out[0]};
  BroadcastArguments arguments = {};
  arguments.op = kOperationAdd;
  arguments.rank = 1;
  arguments.extents[0] = static_cast<unsigned>(count);
  arguments.a_strides[0] = arguments.b_strides[0] = 1;
  const char* shader = is_float(dtype) ? "float_arithmetic" : "integer_arithmetic";
  NodeDef def;
  def.op = "AddN";
  Node node;
  node.def = std::make_shared<const NodeDef>(std::move(def));
  node.outputs = {{dtype, {count}}};
  stream.encode({&kAddLabel, uses, 3 * tf.TF_TensorByteSize(a), 1}, [&](mps::CommandBuffer to) {
    NativeCall call(stream.device(), to, node, in, out, kAddLabel);
    call.dispatch(shader_name(shader, dtype), count,
                  {call.in(0), call.in(1), call.out(), NativeCall::value(arguments)});
  });
}

void zero_elements(TF_OpKernelContext* context, TF_Tensor*, TF_Tensor* zeros) {
  Stream& stream = stream_of(context);
  stream.fill(stream.device().allocator().resolve(tf.TF_TensorData(zeros)), 0,
              tf.TF_TensorByteSize(zeros));
}

OpRow row(const char* op, Run run) {
  return {.op = op,
          .types = T({TF_VARIANT}),
          .run = run,
          .cluster = ClusterPolicy::kNever,
          .available = [] { return variable_mode() != VariableMode::kSync; }};
}

}  // namespace

std::vector<OpRow> variant_ops() {
  return {
      row("AddN", [](KernelCall& call) { add_variants(call.context(), add_elements); }),
      row("ZerosLike", [](KernelCall& call) { zeros_like_variant(call.context(), zero_elements); }),
  };
}

}  // namespace tfmetal
