// The one kernel wrapper that all ops share: it reads the inputs, finds or builds the plan,
// allocates the outputs and encodes. Lowerings and launches never see TensorFlow.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "kernels/native_call.h"
#include "kernels/op_instance.h"
#include "plugin/tf_api.h"

namespace tfmetal {

// What a kernel has prepared last, by the signature of its inputs: ranks, extents and the values of
// those on the host.
template <class T>  // has such a signature
class Recent {
 public:
  // Null when there is none.
  std::shared_ptr<const T> find(const std::vector<int64_t>& signature) const {
    std::lock_guard lock(mutex_);
    for (const auto& entry : entries_) {
      if (entry->signature == signature) return entry;
    }
    return nullptr;
  }
  void add(std::shared_ptr<const T> entry) {
    std::lock_guard lock(mutex_);
    if (entries_.size() < kCapacity) {
      entries_.push_back(std::move(entry));
    } else {
      entries_[next_victim_++ % kCapacity] = std::move(entry);
    }
  }

 private:
  // A training step has one set of shapes per node, a last partial batch makes two; more than this
  // and the shape function runs again (10 us).
  static constexpr size_t kCapacity = 16;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<const T>> entries_;
  size_t next_victim_ = 0;
};

// A launch, and the inputs that it is for.
struct Prepared : PlannedLaunch {
  std::vector<int64_t> signature;
};

// One kernel instance of TensorFlow: a node of a graph, or an op and attributes in eager mode.
class Kernel {
 public:
  explicit Kernel(TF_OpKernelConstruction* construction);

  void compute(TF_OpKernelContext* context);

  const OpRow& row() const { return op_.row(); }
  const NodeDef& def() const { return *op_.def(); }
  const std::shared_ptr<const NodeDef>& shared_def() const { return op_.def(); }
  const Label& label() const { return *label_; }
  bool is_host(size_t input) const { return op_.is_host(input); }
  size_t num_inputs() const { return op_.num_inputs(); }

  // What the op keeps from one execution of this kernel to the next, such as a generator of random
  // numbers: a State(const NodeDef&), made at first use. It guards itself.
  template <class State>
  State& state() {
    std::lock_guard lock(mutex_);
    if (!state_) state_ = std::make_shared<State>(def());
    return *static_cast<State*>(state_.get());
  }

 private:
  friend class KernelCall;
  std::shared_ptr<const Prepared> prepare(KernelCall& call);

  const OpInstance op_;
  const Label* label_;
  std::vector<std::vector<int>> forwards_;  // per output: the inputs whose memory it may take

  Recent<Prepared> recent_;
  std::mutex mutex_;  // of state_
  std::shared_ptr<void> state_;
};

// One execution of a kernel. Owns the input handles until they are released.
class KernelCall {
 public:
  KernelCall(Kernel& kernel, TF_OpKernelContext* context);
  ~KernelCall();
  KernelCall(const KernelCall&) = delete;
  KernelCall& operator=(const KernelCall&) = delete;

  Kernel& kernel() const { return kernel_; }
  TF_OpKernelContext* context() const { return context_; }
  Stream& stream() const { return stream_; }
  Device& device() const;

  size_t num_inputs() const { return inputs_.size(); }
  const TensorInfo& input_info(size_t i);
  const void* input_data(size_t i);
  // Where a device input is; a null block for host inputs and inputs without elements.
  BufferSlice input_slice(size_t i);
  std::string host_bytes(size_t i);
  // Fills the signature of the inputs (see Recent).
  void sign(std::vector<int64_t>* signature);
  // A node of all inputs, and of the values of those on the host but resources; without outputs.
  Node node();
  // Gives the input handles back, so that outputs can take over the inputs' memory. Pointers and
  // slices read before stay valid: TensorFlow holds the inputs during the call.
  void release_inputs();

  // Returns where the output is (a null block when it has no elements).
  BufferSlice allocate_output(size_t i, const TensorInfo& info);
  // As above, in the memory of one of `candidates` (inputs) when TensorFlow allows it.
  BufferSlice forward_or_allocate_output(const std::vector<int>& candidates, size_t i,
                                         const TensorInfo& info);
  // The output is that input itself.
  void hand_on(size_t input, size_t i);
  // Memory of an output that the row lists as in host memory.
  void* allocate_host_output(size_t i, const TensorInfo& info);
  // Device memory until the end of this call, or until it is given back earlier: work encoded later
  // may then use it.
  BufferSlice allocate_temp(const TensorInfo& info);
  void release_temp(BufferSlice temp);
  // Numbers for a shader, in such memory.
  BufferSlice upload(const std::vector<int32_t>& numbers);

  // Encodes native work that uses `slices`, with a NativeCall over `node`.
  void encode(const Node& node, const std::vector<BufferSlice>& inputs,
              const std::vector<BufferSlice>& outputs, size_t bytes,
              const std::function<void(NativeCall&)>& launch);

  // Waits until the work encoded so far is done, so that the host can read its results. Throws what
  // went wrong on the device.
  void synchronize();

 private:
  void load(size_t i);  // fetches an input on first use
  BufferSlice resolve(const void* data, const TensorInfo& info) const;
  BufferSlice finish_output(TF_Tensor* tensor, const TensorInfo& info);

  Kernel& kernel_;
  TF_OpKernelContext* context_;
  Stream& stream_;
  std::vector<TF_Tensor*> inputs_;
  std::vector<std::pair<TF_Tensor*, BufferSlice>> temps_;
  std::vector<const void*> data_;
  std::vector<TensorInfo> infos_;
};

// Reports an exception to TensorFlow as the failure of this kernel. Call inside a catch block.
void fail_kernel(TF_OpKernelContext* context, const std::string& label);

}  // namespace tfmetal
