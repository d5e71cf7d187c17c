// The variable functions of tensorflow/c/kernels_experimental.h, for TensorFlow wheels that declare
// but do not export them (2.19 on Linux, 2.20, 2.21).
//
// Built once per TensorFlow minor by tools/build_shim.py against that wheel's public headers,
// linked to its libtensorflow_framework and loaded by plugin/variables/shim_loader.cc. It is
// ordinary custom-op C++: nothing here reaches into private parts of TensorFlow. RTTI must be on
// (resources are compared by the hash of their type's name).
//
// Contract, stricter than that of TensorFlow's own functions, which fail the kernel's context
// behind an OK status and abort the process when a variable is gone:
//   * every error is in `status`; the caller passes it to TF_OpKernelContext_Failure;
//   * outputs are null unless `status` is OK;
//   * callbacks own the tensors they get and do not throw; one that fails says so with
//     TF_OpKernelContext_Failure, and the operation stops there with that status;
//   * inputs are resource handles; reference variables (TF1) are refused.
#include <algorithm>
#include <array>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/c/kernels_experimental.h"
#include "tensorflow/c/tf_tensor_internal.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/variant.h"
#include "tensorflow/core/kernels/data/optional_ops_util.h"
#include "tensorflow/core/kernels/tensor_list.h"
#include "tensorflow/core/kernels/tensor_list_util.h"
#include "tensorflow/core/kernels/variant_ops_util.h"

#ifndef TFMETAL_SHIM_TF_VERSION
#error "build with tools/build_shim.py, which defines the version of the headers"
#endif

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::Var;
using tensorflow::Variant;
using VarPtr = tensorflow::core::RefCountPtr<Var>;

// (context, source, destination)
using CopyCallback = void (*)(TF_OpKernelContext*, TF_Tensor*, TF_Tensor*);
using UpdateCallback = void (*)(TF_OpKernelContext*, TF_Tensor*, TF_Tensor*, int);
using AddCallback = void (*)(TF_OpKernelContext*, TF_Tensor*, TF_Tensor*, TF_Tensor*);

// Variables that a kernel has locked, exclusively or shared. Opaque to the kernel.
struct TF_VariableInputLockHolder {
  std::vector<VarPtr> vars;  // kept alive until the locks are gone
  std::vector<tensorflow::mutex*> exclusive, shared;

  ~TF_VariableInputLockHolder() {
    for (tensorflow::mutex* mutex : exclusive) mutex->unlock();
    for (tensorflow::mutex* mutex : shared) mutex->unlock_shared();
  }
};

namespace {

OpKernelContext* from_c(TF_OpKernelContext* context) {
  return reinterpret_cast<OpKernelContext*>(context);
}
TF_OpKernelContext* to_c(OpKernelContext* context) {
  return reinterpret_cast<TF_OpKernelContext*>(context);
}

// Stores the outcome of `body` in `status`. No exception crosses the C boundary.
template <class Body>
void report(TF_Status* status, Body body) noexcept {
  absl::Status result;
  try {
    result = body();
  } catch (const std::bad_alloc&) {
    result = absl::ResourceExhaustedError("out of host memory");
  } catch (const std::exception& e) {
    result = absl::InternalError(e.what());
  }
  TF_SetStatus(status, static_cast<TF_Code>(result.code()), std::string(result.message()).c_str());
}

struct DeleteTensor {
  void operator()(TF_Tensor* tensor) const { TF_DeleteTensor(tensor); }
};

// Calls `callback`, which takes over one handle per tensor. Returns what became of the context:
// callbacks have no status of their own.
template <size_t N, class Callback>
absl::Status call(OpKernelContext* context, const std::array<const Tensor*, N>& tensors,
                  Callback callback) {
  std::array<std::unique_ptr<TF_Tensor, DeleteTensor>, N> handles;
  for (size_t i = 0; i < N; ++i) {
    absl::Status status;
    handles[i].reset(tensorflow::TF_TensorFromTensor(*tensors[i], &status));
    if (!status.ok()) return status;
  }
  std::apply([&](auto&... handle) { callback(to_c(context), handle.release()...); }, handles);
  return context->status();
}

absl::Status allocate_like(OpKernelContext* context, const Tensor& like, Tensor* out) {
  tensorflow::AllocatorAttributes attributes;
  attributes.set_on_host(like.dtype() == tensorflow::DT_VARIANT);
  return context->allocate_temp(like.dtype(), like.shape(), out, attributes);
}

absl::Status duplicate(OpKernelContext* context, const Tensor& from, CopyCallback copy,
                       Tensor* to) {
  if (absl::Status status = allocate_like(context, from, to); !status.ok()) return status;
  if (from.dtype() == tensorflow::DT_VARIANT) {
    std::copy_n(static_cast<const Variant*>(from.data()), from.NumElements(),
                static_cast<Variant*>(to->data()));
    return absl::OkStatus();
  }
  return call<2>(context, {&from, to}, copy);
}

// --- Variables -----------------------------------------------------------------------------------

absl::Status find_handle(OpKernelContext* context, int input, tensorflow::ResourceHandle* handle) {
  if (input < 0 || input >= context->num_inputs() ||
      context->input_dtype(input) != tensorflow::DT_RESOURCE) {
    return absl::InvalidArgumentError(absl::StrCat("Input ", input, " is no resource handle"));
  }
  return tensorflow::HandleFromInput(context, input, handle);
}

absl::Status find_variable(OpKernelContext* context, int input, VarPtr* var) {
  tensorflow::ResourceHandle handle;
  if (absl::Status status = find_handle(context, input, &handle); !status.ok()) return status;
  return tensorflow::LookupResource(context, handle, var);
}

// Gives the variable a buffer that nobody else reads. Its mutex is held exclusively.
absl::Status own_buffer(OpKernelContext* context, Var* var, CopyCallback copy) {
  Tensor* tensor = var->tensor();
  if (tensor->RefCountIsOne()) return absl::OkStatus();
  Tensor fresh;
  absl::Status status = duplicate(context, *tensor, copy, &fresh);
  if (status.ok()) *tensor = std::move(fresh);
  return status;
}

// Switches to copy-on-read: from now on every dense read copies, so rows may change in place.
absl::Status allow_sparse_access(OpKernelContext* context, Var* var, bool lock_held,
                                 CopyCallback copy) {
  if (var->copy_on_read_mode.load()) return absl::OkStatus();
  if (!lock_held) {
    tensorflow::mutex_lock lock(*var->mu());
    return allow_sparse_access(context, var, true, copy);
  }
  absl::Status status = own_buffer(context, var, copy);
  if (status.ok()) var->copy_on_read_mode.store(true);
  return status;
}

absl::Status check_assignable(Var* var, const Tensor& value, bool validate_shape) {
  const Tensor& current = *var->tensor();
  const bool untyped = current.dtype() == tensorflow::DT_INVALID && !var->is_initialized;
  if (!untyped && current.dtype() != value.dtype()) {
    return absl::InvalidArgumentError(
        absl::StrCat("Trying to assign variable with wrong dtype. Expected ",
                     tensorflow::DataTypeString(current.dtype()), " got ",
                     tensorflow::DataTypeString(value.dtype())));
  }
  if (validate_shape && var->is_initialized && !current.shape().IsSameSize(value.shape())) {
    return absl::InvalidArgumentError(
        absl::StrCat("Trying to assign to variable with tensor with wrong shape. Expected ",
                     current.shape().DebugString(), " got ", value.shape().DebugString()));
  }
  return absl::OkStatus();
}

absl::Status assign(OpKernelContext* context, int input, int value_input, bool validate_shape,
                    CopyCallback copy) {
  const Tensor& value = context->input(value_input);
  tensorflow::ResourceHandle handle;
  if (absl::Status status = find_handle(context, input, &handle); !status.ok()) return status;
  VarPtr var;
  absl::Status status =
      tensorflow::LookupOrCreateResource<Var>(context, handle, &var, [&value](Var** created) {
        *created = new Var(value.dtype());
        return absl::OkStatus();
      });
  if (!status.ok()) return status;
  tensorflow::mutex_lock lock(*var->mu());
  status = check_assignable(var.get(), value, validate_shape);
  if (!status.ok()) return status;
  if (var->copy_on_read_mode.load()) {  // nothing may alias the variable
    Tensor fresh;
    status = duplicate(context, value, copy, &fresh);
    if (!status.ok()) return status;
    *var->tensor() = std::move(fresh);
  } else {
    *var->tensor() = value;
  }
  var->is_initialized = true;
  return absl::OkStatus();
}

absl::Status assign_update(OpKernelContext* context, int input, int value_input, int op,
                           CopyCallback copy, UpdateCallback update) {
  VarPtr var;
  if (absl::Status status = find_variable(context, input, &var); !status.ok()) return status;
  const Tensor& value = context->input(value_input);
  tensorflow::mutex_lock lock(*var->mu());
  const Tensor& current = *var->tensor();
  if (current.dtype() != value.dtype() || !current.shape().IsSameSize(value.shape())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Cannot update variable with shape ", current.shape().DebugString(),
        " using a Tensor with shape ", value.shape().DebugString(), ", shapes must be equal."));
  }
  absl::Status status = own_buffer(context, var.get(), copy);
  if (!status.ok()) return status;
  return call<2>(context, {&current, &value},
                 [&](TF_OpKernelContext* c, TF_Tensor* variable, TF_Tensor* delta) {
                   update(c, variable, delta, op);
                 });
}

absl::Status lock_variables(OpKernelContext* context, bool exclusive, bool sparse,
                            const int* inputs, size_t count, CopyCallback copy,
                            TF_VariableInputLockHolder* holder) {
  std::vector<tensorflow::mutex*> mutexes;
  for (size_t i = 0; i < count; ++i) {
    VarPtr var;
    absl::Status status = find_variable(context, inputs[i], &var);
    if (status.ok() && sparse) status = allow_sparse_access(context, var.get(), false, copy);
    if (!status.ok()) return status;
    mutexes.push_back(var->mu());
    holder->vars.push_back(std::move(var));
  }
  // By address, each once: no two kernels can wait for each other.
  std::sort(mutexes.begin(), mutexes.end());
  mutexes.erase(std::unique(mutexes.begin(), mutexes.end()), mutexes.end());
  auto& held = exclusive ? holder->exclusive : holder->shared;
  held.reserve(mutexes.size());
  for (tensorflow::mutex* mutex : mutexes) {
    exclusive ? mutex->lock() : mutex->lock_shared();
    held.push_back(mutex);
  }
  return absl::OkStatus();
}

absl::Status variable_tensor(OpKernelContext* context, int input, bool lock_held, bool sparse,
                             CopyCallback copy, TF_Tensor** out) {
  VarPtr var;
  absl::Status status = find_variable(context, input, &var);
  if (!status.ok()) return status;
  status = sparse ? allow_sparse_access(context, var.get(), lock_held, copy)
                  : own_buffer(context, var.get(), copy);
  if (status.ok()) *out = tensorflow::TF_TensorFromTensor(*var->tensor(), &status);
  return status;
}

// --- Variants: TensorList and Optional -----------------------------------------------------------

absl::Status unsupported(const Variant& variant) {
  return absl::UnimplementedError(
      absl::StrCat("No device kernel for a variant of type ", variant.TypeName()));
}

absl::Status zeros_like(OpKernelContext* context, const Variant& in, Variant* out,
                        CopyCallback zeros);

absl::Status zeros_like(OpKernelContext* context, const Tensor& in, Tensor* out,
                        CopyCallback zeros) {
  if (in.dtype() == tensorflow::DT_INVALID) {  // an element that was never written
    *out = Tensor(tensorflow::DT_INVALID);
    return absl::OkStatus();
  }
  if (absl::Status status = allocate_like(context, in, out); !status.ok()) return status;
  if (in.dtype() != tensorflow::DT_VARIANT) return call<2>(context, {&in, out}, zeros);
  for (int64_t i = 0; i < in.NumElements(); ++i) {
    absl::Status status = zeros_like(context, static_cast<const Variant*>(in.data())[i],
                                     static_cast<Variant*>(out->data()) + i, zeros);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status zeros_like(OpKernelContext* context, const Variant& in, Variant* out,
                        CopyCallback zeros) {
  const auto element = [zeros](OpKernelContext* c, const Tensor& x, Tensor* y) {
    return zeros_like(c, x, y, zeros);
  };
  using Optional = tensorflow::data::OptionalVariant;
  if (const auto* list = in.get<tensorflow::TensorList>()) {
    *out = tensorflow::TensorList();
    return tensorflow::TensorListZerosLike(context, *list, out->get<tensorflow::TensorList>(),
                                           element);
  }
  if (const auto* optional = in.get<Optional>()) {
    *out = Optional();
    return tensorflow::data::OptionalZerosLike(context, *optional, out->get<Optional>(), element);
  }
  return unsupported(in);
}

absl::Status add(OpKernelContext* context, const Variant& a, const Variant& b, Variant* out,
                 AddCallback add_tensors);

absl::Status add(OpKernelContext* context, const Tensor& a, const Tensor& b, Tensor* out,
                 AddCallback add_tensors) {
  // An element that was never written counts as zero.
  if (a.dtype() == tensorflow::DT_INVALID || b.dtype() == tensorflow::DT_INVALID) {
    *out = a.dtype() == tensorflow::DT_INVALID ? b : a;
    return absl::OkStatus();
  }
  if (a.dtype() != b.dtype() || a.shape() != b.shape()) {
    return absl::InvalidArgumentError(absl::StrCat("Cannot add elements of shape ",
                                                   a.shape().DebugString(), " and ",
                                                   b.shape().DebugString()));
  }
  if (absl::Status status = allocate_like(context, a, out); !status.ok()) return status;
  if (a.dtype() != tensorflow::DT_VARIANT) return call<3>(context, {&a, &b, out}, add_tensors);
  for (int64_t i = 0; i < a.NumElements(); ++i) {
    absl::Status status = add(context, static_cast<const Variant*>(a.data())[i],
                              static_cast<const Variant*>(b.data())[i],
                              static_cast<Variant*>(out->data()) + i, add_tensors);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status add(OpKernelContext* context, const Variant& a, const Variant& b, Variant* out,
                 AddCallback add_tensors) {
  const auto element = [add_tensors](OpKernelContext* c, const Tensor& x, const Tensor& y,
                                     Tensor* z) { return add(c, x, y, z, add_tensors); };
  using List = tensorflow::TensorList;
  using Optional = tensorflow::data::OptionalVariant;
  if (a.get<List>() && b.get<List>()) {
    *out = List();
    return tensorflow::TensorListBinaryAdd(context, *a.get<List>(), *b.get<List>(),
                                           out->get<List>(), element);
  }
  if (a.get<Optional>() && b.get<Optional>()) {
    *out = Optional();
    return tensorflow::data::OptionalBinaryAdd(context, *a.get<Optional>(), *b.get<Optional>(),
                                               out->get<Optional>(), element);
  }
  return unsupported(a.get<List>() || a.get<Optional>() ? b : a);
}

}  // namespace

// --- The C functions; tensorflow/c/kernels_experimental.h declares and describes them ------------

// The TensorFlow version of the headers, as TF_Version() spells it.
extern "C" TF_CAPI_EXPORT const char* tfmetal_shim_tf_version() { return TFMETAL_SHIM_TF_VERSION; }

void TF_AssignVariable(TF_OpKernelContext* context, int input, int value, bool validate_shape,
                       CopyCallback copy, TF_Status* status) {
  report(status, [&] { return assign(from_c(context), input, value, validate_shape, copy); });
}

void TF_AssignUpdateVariable(TF_OpKernelContext* context, int input, int value, int op, int,
                             CopyCallback copy, UpdateCallback update, TF_Status* status) {
  report(status, [&] { return assign_update(from_c(context), input, value, op, copy, update); });
}

// `inputs` may name a variable twice. Without `do_lock` the mutexes are taken shared.
void TF_MaybeLockVariableInputMutexesInOrder(TF_OpKernelContext* context, bool do_lock, bool sparse,
                                             const int* inputs, size_t count, CopyCallback copy,
                                             TF_VariableInputLockHolder** out, TF_Status* status) {
  *out = nullptr;
  report(status, [&] {
    auto holder = std::make_unique<TF_VariableInputLockHolder>();
    absl::Status result =
        lock_variables(from_c(context), do_lock, sparse, inputs, count, copy, holder.get());
    if (result.ok()) *out = holder.release();
    return result;
  });
}

void TF_ReleaseVariableInputLockHolder(TF_VariableInputLockHolder* holder) { delete holder; }

void TF_GetInputTensorFromVariable(TF_OpKernelContext* context, int input, bool lock_held, bool,
                                   bool sparse, CopyCallback copy, TF_Tensor** out,
                                   TF_Status* status) {
  *out = nullptr;
  report(status,
         [&] { return variable_tensor(from_c(context), input, lock_held, sparse, copy, out); });
}

void TF_AddNVariant(TF_OpKernelContext* context, AddCallback add_tensors, TF_Status* status) {
  report(status, [&] {
    tensorflow::AddNVariant(from_c(context),
                            [add_tensors](OpKernelContext* c, const Variant& a, const Variant& b,
                                          Variant* out) { return add(c, a, b, out, add_tensors); });
    return from_c(context)->status();  // AddNVariant reports there
  });
}

void TF_ZerosLikeVariant(TF_OpKernelContext* context, CopyCallback zeros, TF_Status* status) {
  report(status, [&] {
    const Tensor& in = from_c(context)->input(0);
    if (in.dtype() != tensorflow::DT_VARIANT || in.dims() != 0) {
      return absl::InvalidArgumentError("ZerosLike of a variant needs a scalar");
    }
    Tensor out(tensorflow::cpu_allocator(), tensorflow::DT_VARIANT, tensorflow::TensorShape({}));
    absl::Status result = zeros_like(from_c(context), *static_cast<const Variant*>(in.data()),
                                     static_cast<Variant*>(out.data()), zeros);
    if (result.ok()) from_c(context)->set_output(0, out);
    return result;
  });
}
