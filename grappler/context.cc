// What passes ask TensorFlow about a graph (pass.h).
#include "grappler/graphdef/wire.h"
#include "grappler/pass.h"
#include "plugin/tf_api.h"

namespace tfmetal {
namespace {

// Field numbers of OpInfo.TensorProperties (tensorflow/core/grappler/costs/op_performance_data).
enum Field { kDtype = 1, kShape = 2 };

OutputInfo parse_properties(std::string_view bytes) {
  OutputInfo info{TF_DataType(0), {}};
  std::string shape;
  for (WireReader r(bytes); r.next();) {
    if (r.is(kDtype, WireType::kVarint)) info.dtype = data_type(r.varint());
    if (r.is(kShape, WireType::kBytes)) shape += r.bytes();
  }
  info.shape = PartialShape::parse(shape);
  return info;
}

struct DeleteBuffer {
  void operator()(TF_Buffer* buffer) const { tf.TF_DeleteBuffer(buffer); }
};

std::unordered_set<std::string> nodes_to_preserve(const TF_GrapplerItem* item) {
  if (!tf.TF_GetNodesToPreserveListSize || !tf.TF_GetNodesToPreserveList)
    throw_failed_precondition("TensorFlow does not say which nodes to preserve");
  Status status;
  int count = 0;
  size_t storage_size = 0;
  tf.TF_GetNodesToPreserveListSize(item, &count, &storage_size, status);
  status.check();
  std::vector<char> storage(storage_size);
  std::vector<char*> values(size_t(count), nullptr);
  std::vector<size_t> lengths(size_t(count), 0);
  tf.TF_GetNodesToPreserveList(item, values.data(), lengths.data(), count, storage.data(),
                               storage_size, status);
  status.check();
  std::unordered_set<std::string> names;
  for (size_t i = 0; i < values.size(); ++i) names.emplace(values[i], lengths[i]);
  return names;
}

std::vector<OutputInfo> output_properties(TF_GraphProperties* properties, const char* node) {
  Status status;
  int count = 0;
  tf.TF_GetOutputPropertiesListSize(properties, node, &count, status);
  if (!status.ok() || count <= 0) return {};
  std::vector<std::unique_ptr<TF_Buffer, DeleteBuffer>> owned;
  std::vector<TF_Buffer*> buffers;
  for (int i = 0; i < count; ++i) {
    owned.emplace_back(tf.TF_NewBuffer());
    buffers.push_back(owned.back().get());
  }
  tf.TF_GetOutputPropertiesList(properties, node, buffers.data(), count, status);
  if (!status.ok()) return {};
  std::vector<OutputInfo> out;
  for (const TF_Buffer* buffer : buffers)
    out.push_back(parse_properties({static_cast<const char*>(buffer->data), buffer->length}));
  return out;
}

}  // namespace

std::string_view device_type_of(std::string_view device) {
  constexpr std::string_view kMark = "/device:";
  const size_t start = device.rfind(kMark);
  if (start == device.npos) return {};
  const std::string_view rest = device.substr(start + kMark.size());
  return rest.substr(0, rest.find(':'));
}

void Context::DeleteProperties::operator()(TF_GraphProperties* properties) const {
  tf.TF_DeleteGraphProperties(properties);
}

Context::Context(const TF_GrapplerItem* item, std::string device_type, Switches switches)
    : item_(item), device_type_(std::move(device_type)), switches_(std::move(switches)) {
  if (item_) preserved_ = nodes_to_preserve(item_);
}

void Context::infer() {
  inferred_ = true;
  const bool offered = tf.TF_NewGraphProperties && tf.TF_DeleteGraphProperties &&
                       tf.TF_InferStatically && tf.TF_GetOutputPropertiesListSize &&
                       tf.TF_GetOutputPropertiesList;
  if (!item_ || !offered) return;
  properties_.reset(tf.TF_NewGraphProperties(item_));
  Status status;
  // No assumptions: what is inferred holds for every execution that succeeds.
  tf.TF_InferStatically(properties_.get(), 0, 0, 0, 0, status);
  if (!status.ok()) properties_.reset();
}

std::optional<OutputInfo> Context::output_info(const GraphNode& node, int port) {
  if (!inferred_) infer();
  if (!properties_ || port < 0) return std::nullopt;
  const auto [entry, is_new] = outputs_.try_emplace(node.name());
  if (is_new) entry->second = output_properties(properties_.get(), node.name().c_str());
  if (size_t(port) >= entry->second.size()) return std::nullopt;
  return entry->second[size_t(port)];
}

}  // namespace tfmetal
