#include "kernels/op_instance.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "kernels/op_def.h"
#include "kernels/shape_oracle.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// What outlives its kernels, one of each text: labels in command buffers, attributes in cache keys.
template <class T>
const T* intern(const std::string& text) {
  static std::mutex mutex;
  static auto* const all = new std::map<std::string, T>();
  std::lock_guard lock(mutex);
  return &all->try_emplace(text, text).first->second;
}

// For shapes that broadcast to `out`: per axis of `out`, which inputs are broadcast along it.
std::vector<bool> broadcast_pattern(const std::vector<TensorInfo>& inputs, const Shape& out,
                                    size_t axis) {
  std::vector<bool> pattern;
  for (const TensorInfo& input : inputs) {
    const size_t missing = out.size() - input.rank();
    pattern.push_back(axis < missing || input.shape[axis - missing] != out[axis]);
  }
  return pattern;
}

// Merges neighbouring axes that every input treats alike, so that [8,4,4]+[8,4,4] and [128]+[128]
// share a plan and high ranks fit.
void collapse(Node* node) {
  const Shape out = node->out().shape;
  Shape merged;
  std::vector<std::vector<bool>> patterns;
  for (size_t axis = 0; axis < out.size(); ++axis) {
    if (out[axis] == 1) continue;
    std::vector<bool> pattern = broadcast_pattern(node->inputs, out, axis);
    if (!patterns.empty() && patterns.back() == pattern) {
      merged.back() *= out[axis];
    } else {
      merged.push_back(out[axis]);
      patterns.push_back(std::move(pattern));
    }
  }
  if (merged.empty()) {
    merged = {1};
    patterns.push_back(std::vector<bool>(node->inputs.size(), false));
  }
  for (size_t i = 0; i < node->inputs.size(); ++i) {
    Shape& shape = node->inputs[i].shape;
    shape = merged;
    for (size_t axis = 0; axis < merged.size(); ++axis) {
      if (patterns[axis][i]) shape[axis] = 1;
    }
  }
  for (TensorInfo& output : node->outputs) output.shape = merged;
}

}  // namespace

const Label* interned_label(const std::string& text) { return intern<Label>(text); }

void append_number(std::string* key, int64_t number) {
  key->append(reinterpret_cast<const char*>(&number), sizeof number);
}

void append_shape(std::string* key, const Shape& shape) {
  append_number(key, static_cast<int64_t>(shape.size()));
  for (int64_t extent : shape) append_number(key, extent);
}

void append_text(std::string* key, const std::string& text) {
  append_number(key, static_cast<int64_t>(text.size()));
  key->append(text);
}

bool all_empty(const std::vector<TensorInfo>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [](const TensorInfo& t) { return t.count() == 0; });
}

OpInstance::OpInstance(std::shared_ptr<const NodeDef> def, const OpRow* row)
    : row_(row), def_(std::move(def)) {
  if (!row_) throw_internal("no row of the op table serves ", def_->op);
  std::string text;
  append_number(&text, reinterpret_cast<int64_t>(row_));
  if (!row_->run) attributes_ = intern<std::string>(text + canonical_attributes(*def_));
  for (const std::string& name : input_names(*def_)) {
    const auto host = std::find_if(row_->host.begin(), row_->host.end(),
                                   [&](const HostInput& h) { return h.name == name; });
    is_host_.push_back(host != row_->host.end());
    is_key_.push_back(is_host_.back() && host->use == HostUse::kKey);
  }
}

void OpInstance::infer(Node* node) const {
  if (!row_->infer || !row_->infer(node)) infer_outputs(node);
  if (row_->check) row_->check(*node);
}

PlannedLaunch OpInstance::plan(Node node, const Device& device) const {
  PlannedLaunch launch;
  launch.node = node;
  launch.planned = std::move(node);
  Node& planned = launch.planned;
  for (const auto* tensors : {&launch.node.inputs, &launch.node.outputs}) {
    for (const TensorInfo& tensor : *tensors) launch.bytes += tensor.bytes();
  }
  if (all_empty(planned.outputs)) return launch;
  if (row_->elementwise && !planned.constant_result) collapse(&planned);
  std::string key;
  append_number(&key, device.ordinal());  // an executable is encoded under one device's lock only
  append_key(planned, &key);
  for (const TensorInfo& input : planned.inputs) append_shape(&key, input.shape);
  launch.plan = PlanCache::instance().get(key, [&] { return Plan::build(*row_, planned); });
  if (row_->scratch) launch.scratch = row_->scratch(planned);
  return launch;
}

void OpInstance::append_key(const Node& node, std::string* key) const {
  append_number(key, reinterpret_cast<int64_t>(attributes_));  // row (so, op) and attributes
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (is_key_[i]) append_text(key, node.host[i]);
  }
}

}  // namespace tfmetal
