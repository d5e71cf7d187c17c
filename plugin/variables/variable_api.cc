#include "plugin/variables/variable_api.h"

#include <cstdlib>
#include <exception>
#include <initializer_list>

#include "plugin/variables/shim_loader.h"

namespace tfmetal {

namespace {

// TensorFlow's callbacks carry no user data and no status, so the kernel's function and what it
// threw ride on the calling thread for the duration of one call into TensorFlow.
template <class Function>
class Call {
 public:
  explicit Call(Function function) : function_(function), outer_(current()) { current() = this; }
  ~Call() { current() = outer_; }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // After the call: throws what the kernel's function threw, or what TensorFlow reported.
  void check(const Status& status) const {
    if (failure_) std::rethrow_exception(failure_);
    status.check();
  }

  // Runs the kernel's function unless the tensors are empty. A failure fails the context, so that
  // the shim stops, and is kept, because TensorFlow's own functions go on.
  template <class... Tensors>
  static void run(TF_OpKernelContext* context, TF_Tensor* first, Tensors*... others) {
    Call& call = *current();
    try {
      // TensorFlow's own functions pass null for a variable that holds no value.
      if (!first || (!others || ...)) throw_failed_precondition("the variable has no value");
      if (!call.failure_ && tf.TF_TensorElementCount(first) > 0) {
        call.function_(context, first, others...);
      }
    } catch (const std::exception& e) {
      call.failure_ = std::current_exception();
      const auto* error = dynamic_cast<const Error*>(&e);
      Status status;
      tf.TF_SetStatus(status, error ? error->code : TF_INTERNAL, e.what());
      tf.TF_OpKernelContext_Failure(context, status);
    }
  }

 private:
  static Call*& current() {
    static thread_local Call* call = nullptr;
    return call;
  }

  const Function function_;
  Call* const outer_;
  std::exception_ptr failure_;
};

void delete_tensors(std::initializer_list<TF_Tensor*> tensors) {
  for (TF_Tensor* tensor : tensors) {
    if (tensor) tf.TF_DeleteTensor(tensor);
  }
}

// Copy callbacks own their tensors in every version, as the header says.
void copy_callback(TF_OpKernelContext* context, TF_Tensor* source, TF_Tensor* destination) {
  Call<CopyTensor>::run(context, source, destination);
  delete_tensors({source, destination});
}

// Variant callbacks own theirs up to 2.19 and in the shim. The versions that export the functions
// again (seen in the nightly of 2.23) delete the tensors after the callback; their header still
// says that the callback does.
bool variant_callbacks_own() {
  constexpr int kFirstMinorThatDeletes = 20;
  static const bool own = [] {
    char* end = nullptr;
    const long major = std::strtol(tf.TF_Version(), &end, 10);
    const long minor = *end ? std::strtol(end + 1, nullptr, 10) : 0;
    return variable_mode() != VariableMode::kCApi || (major == 2 && minor < kFirstMinorThatDeletes);
  }();
  return own;
}

void add_callback(TF_OpKernelContext* context, TF_Tensor* a, TF_Tensor* b, TF_Tensor* sum) {
  Call<AddTensors>::run(context, a, b, sum);
  if (variant_callbacks_own()) delete_tensors({a, b, sum});
}

void zero_callback(TF_OpKernelContext* context, TF_Tensor* like, TF_Tensor* zeros) {
  Call<ZeroTensor>::run(context, like, zeros);
  if (variant_callbacks_own()) delete_tensors({like, zeros});
}

}  // namespace

LockedVariable::LockedVariable(TF_OpKernelContext* context, int input, VariableAccess access,
                               bool exclusive, CopyTensor copy) {
  const bool sparse = access == VariableAccess::kSparse;
  const Call<CopyTensor> call(copy);
  Status status;
  tf.TF_MaybeLockVariableInputMutexesInOrder(context, exclusive, sparse, &input, 1, copy_callback,
                                             &lock_, status);
  try {
    call.check(status);
    tf.TF_GetInputTensorFromVariable(context, input, exclusive, /*isVariantType=*/false, sparse,
                                     copy_callback, &tensor_, status);
    call.check(status);
    // TensorFlow's own functions leave an OK status; the context has the reason and keeps it.
    if (!tensor_) throw_failed_precondition("the variable in input ", input, " is not available");
  } catch (...) {
    release();
    throw;
  }
}

LockedVariable::~LockedVariable() { release(); }

void LockedVariable::release() {
  delete_tensors({tensor_});
  if (lock_) tf.TF_ReleaseVariableInputLockHolder(lock_);
}

void assign_variable(TF_OpKernelContext* context, int variable, int value, bool validate_shape,
                     CopyTensor copy) {
  const Call<CopyTensor> call(copy);
  Status status;
  tf.TF_AssignVariable(context, variable, value, validate_shape, copy_callback, status);
  call.check(status);
}

void add_variants(TF_OpKernelContext* context, AddTensors add) {
  const Call<AddTensors> call(add);
  Status status;
  tf.TF_AddNVariant(context, add_callback, status);
  call.check(status);
}

void zeros_like_variant(TF_OpKernelContext* context, ZeroTensor zero) {
  const Call<ZeroTensor> call(zero);
  Status status;
  tf.TF_ZerosLikeVariant(context, zero_callback, status);
  call.check(status);
}

}  // namespace tfmetal
