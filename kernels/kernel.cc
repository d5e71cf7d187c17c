#include "kernels/kernel.h"

#include <algorithm>
#include <cstring>

#include "kernels/native_call.h"
#include "plugin/device/stats.h"
#include "plugin/device/tf_stream.h"

namespace tfmetal {

namespace {

std::shared_ptr<const NodeDef> definition_of(TF_OpKernelConstruction* construction) {
  Status status;
  TF_Buffer* buffer = tf.TF_OpKernelConstruction_GetNodeDef(construction, status);
  status.check();
  const std::string bytes(static_cast<const char*>(buffer->data), buffer->length);
  tf.TF_DeleteBuffer(buffer);
  return std::make_shared<NodeDef>(NodeDef::parse(bytes));
}

}  // namespace

// ---- Kernel ------------------------------------------------------------------------------------

Kernel::Kernel(TF_OpKernelConstruction* construction)
    : op_(definition_of(construction)),
      label_(interned_label(op_.def()->op + ":" + op_.def()->name)) {
  for (const auto& [input, output] : row().inplace) {
    forwards_.resize(std::max<size_t>(forwards_.size(), static_cast<size_t>(output) + 1));
    forwards_[static_cast<size_t>(output)].push_back(input);
  }
}

namespace {

// Buffers of a launch, kept per thread: a launch is a few microseconds, an allocation a tenth of
// one.
struct Workspace {
  std::vector<int64_t> signature;
  std::vector<BufferSlice> in, out, uses;
};
Workspace& workspace() {
  thread_local Workspace w;
  return w;
}

}  // namespace

void Kernel::compute(TF_OpKernelContext* context) {
  stats().ops++;
  KernelCall call(*this, context);
  if (row().run) return row().run(call);
  const std::shared_ptr<const Prepared> prepared = prepare(call);
  const std::vector<TensorInfo>& outputs = prepared->node.outputs;
  auto& [signature, in, out, uses] = workspace();
  in.resize(call.num_inputs());
  out.resize(outputs.size());
  for (size_t i = 0; i < in.size(); ++i) in[i] = call.input_slice(i);
  call.release_inputs();
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = i < forwards_.size() && !forwards_[i].empty()
                 ? call.forward_or_allocate_output(forwards_[i], i, outputs[i])
                 : call.allocate_output(i, outputs[i]);
  }
  if (!prepared->plan) return;
  if (prepared->scratch > 0) {
    out.push_back(call.allocate_temp({TF_UINT8, {static_cast<int64_t>(prepared->scratch)}}));
  }
  uses.clear();
  for (const auto* slices : {&in, &out}) {
    for (const BufferSlice& slice : *slices) {
      if (slice.block) uses.push_back(slice);
    }
  }
  const auto encode = [&](mps::CommandBuffer to) {
    prepared->plan->encode(to, call.device(), prepared->planned, in, out, *label_);
  };
  call.stream().encode({label_, uses, prepared->bytes, 1}, std::ref(encode));
}

std::shared_ptr<const Prepared> Kernel::prepare(KernelCall& call) {
  std::vector<int64_t>& signature = workspace().signature;
  call.sign(&signature);
  if (auto prepared = recent_.find(signature)) {
    stats().hits++;
    return prepared;
  }
  auto prepared = std::make_shared<Prepared>();
  prepared->signature = signature;
  Node node = call.node();
  op_.infer(&node);
  static_cast<PlannedLaunch&>(*prepared) = op_.plan(std::move(node), call.device());
  recent_.add(prepared);
  return prepared;
}

// ---- KernelCall --------------------------------------------------------------------------------

KernelCall::KernelCall(Kernel& kernel, TF_OpKernelContext* context)
    : kernel_(kernel),
      context_(context),
      stream_(stream_of(context)),
      inputs_(kernel.num_inputs()),
      data_(kernel.num_inputs()),
      infos_(kernel.num_inputs()) {}

KernelCall::~KernelCall() {
  release_inputs();
  for (const auto& [temp, slice] : temps_) tf.TF_DeleteTensor(temp);
}

Device& KernelCall::device() const { return stream_.device(); }

void KernelCall::load(size_t i) {
  if (data_[i]) return;
  Status status;
  tf.TF_GetInput(context_, static_cast<int>(i), &inputs_[i], status);
  status.check();
  TF_Tensor* tensor = inputs_[i];
  infos_[i].dtype = tf.TF_TensorType(tensor);
  infos_[i].shape.resize(tf.TF_NumDims(tensor));
  for (size_t d = 0; d < infos_[i].shape.size(); ++d) infos_[i].shape[d] = tf.TF_Dim(tensor, d);
  static const char kNoElements = 0;
  data_[i] = tf.TF_TensorData(tensor);
  if (!data_[i]) data_[i] = &kNoElements;
}

const TensorInfo& KernelCall::input_info(size_t i) {
  load(i);
  return infos_[i];
}

const void* KernelCall::input_data(size_t i) {
  load(i);
  return data_[i];
}

BufferSlice KernelCall::input_slice(size_t i) {
  if (kernel_.is_host(i)) return {};
  load(i);
  return resolve(data_[i], infos_[i]);
}

std::string KernelCall::host_bytes(size_t i) {
  load(i);
  return std::string(static_cast<const char*>(data_[i]), infos_[i].bytes());
}

void KernelCall::sign(std::vector<int64_t>* signature) {
  signature->clear();
  for (size_t i = 0; i < num_inputs(); ++i) {
    const TensorInfo& info = input_info(i);
    signature->push_back(static_cast<int64_t>(info.rank()));
    signature->insert(signature->end(), info.shape.begin(), info.shape.end());
    if (!kernel_.is_host(i)) continue;
    const std::string bytes = host_bytes(i);
    const size_t begin = signature->size();
    signature->resize(begin + (bytes.size() + 7) / 8);
    std::memcpy(signature->data() + begin, bytes.data(), bytes.size());
  }
}

Node KernelCall::node() {
  Node node;
  node.def = kernel_.shared_def();
  node.is_host = kernel_.op_.are_host();
  for (size_t i = 0; i < num_inputs(); ++i) {
    node.inputs.push_back(input_info(i));
    const bool has_value = kernel_.is_host(i) && input_info(i).dtype != TF_RESOURCE;
    node.host.push_back(has_value ? host_bytes(i) : std::string());
  }
  return node;
}

BufferSlice KernelCall::resolve(const void* data, const TensorInfo& info) const {
  return info.count() == 0 ? BufferSlice() : device().allocator().resolve(data);
}

void KernelCall::release_inputs() {
  for (TF_Tensor*& input : inputs_) {
    if (input) tf.TF_DeleteTensor(input);
    input = nullptr;
  }
}

BufferSlice KernelCall::finish_output(TF_Tensor* tensor, const TensorInfo& info) {
  const void* data = tf.TF_TensorData(tensor);
  tf.TF_DeleteTensor(tensor);  // the context keeps the output
  return resolve(data, info);
}

namespace {

TF_Tensor* new_output(TF_OpKernelContext* context, size_t i, const TensorInfo& info) {
  Status status;
  TF_Tensor* tensor =
      tf.TF_AllocateOutput(context, static_cast<int>(i), info.dtype, info.shape.data(),
                           static_cast<int>(info.rank()), info.bytes(), status);
  status.check();
  return tensor;
}

}  // namespace

BufferSlice KernelCall::allocate_output(size_t i, const TensorInfo& info) {
  return finish_output(new_output(context_, i, info), info);
}

void* KernelCall::allocate_host_output(size_t i, const TensorInfo& info) {
  TF_Tensor* tensor = new_output(context_, i, info);
  void* data = tf.TF_TensorData(tensor);
  tf.TF_DeleteTensor(tensor);  // the context keeps the output
  return data;
}

BufferSlice KernelCall::forward_or_allocate_output(const std::vector<int>& candidates, size_t i,
                                                   const TensorInfo& info) {
  Status status;
  int forwarded = -1;
  TF_Tensor* tensor = tf.TF_ForwardInputOrAllocateOutput(
      context_, candidates.data(), static_cast<int>(candidates.size()), static_cast<int>(i),
      info.shape.data(), static_cast<int>(info.rank()), &forwarded, status);
  status.check();
  return finish_output(tensor, info);
}

void KernelCall::hand_on(size_t input, size_t i) {
  load(input);
  Status status;
  tf.TF_SetOutput(context_, static_cast<int>(i), inputs_[input], status);
  status.check();
}

BufferSlice KernelCall::allocate_temp(const TensorInfo& info) {
  Status status;
  TF_AllocatorAttributes attributes{TF_ALLOCATOR_ATTRIBUTES_STRUCT_SIZE, 0};
  TF_Tensor* tensor = tf.TF_AllocateTemp(context_, info.dtype, info.shape.data(),
                                         static_cast<int>(info.rank()), &attributes, status);
  status.check();
  temps_.emplace_back(tensor, resolve(tf.TF_TensorData(tensor), info));
  return temps_.back().second;
}

void KernelCall::release_temp(BufferSlice temp) {
  const auto found = std::ranges::find_if(temps_, [&](const auto& entry) {
    return entry.second.block == temp.block && entry.second.offset == temp.offset;
  });
  tf.TF_DeleteTensor(found->first);
  temps_.erase(found);
}

BufferSlice KernelCall::upload(const std::vector<int32_t>& numbers) {
  const BufferSlice to = allocate_temp({TF_INT32, {static_cast<int64_t>(numbers.size())}});
  stream().copy_from_host(to, numbers.data(), numbers.size() * sizeof(int32_t));
  return to;
}

void KernelCall::encode(const Node& node, const std::vector<BufferSlice>& inputs,
                        const std::vector<BufferSlice>& outputs, size_t bytes,
                        const std::function<void(NativeCall&)>& launch) {
  std::vector<BufferSlice> uses;
  for (const auto& slices : {inputs, outputs}) {
    for (const BufferSlice& slice : slices) {
      if (slice.block) uses.push_back(slice);
    }
  }
  const Label& label = kernel_.label();
  const auto encode = [&](mps::CommandBuffer to) {
    NativeCall call(device(), to, node, inputs, outputs, label);
    launch(call);
  };
  stream_.encode({&label, uses, bytes, 1}, std::ref(encode));
}

void KernelCall::synchronize() {
  stats().sync_op++;
  if (const std::optional<Error> error = stream_.synchronize()) throw *error;
}

void fail_kernel(TF_OpKernelContext* context, const std::string& label) {
  Status status;
  try {
    throw;
  } catch (const Error& e) {
    tf.TF_SetStatus(status, e.code, e.what());
  } catch (const std::bad_alloc&) {
    tf.TF_SetStatus(status, TF_RESOURCE_EXHAUSTED, (label + ": out of host memory").c_str());
  } catch (const std::exception& e) {
    tf.TF_SetStatus(status, TF_INTERNAL, (label + ": " + e.what()).c_str());
  }
  tf.TF_OpKernelContext_Failure(context, status);
}

}  // namespace tfmetal
