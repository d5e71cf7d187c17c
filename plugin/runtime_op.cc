#include "plugin/runtime_op.h"

#include <cstring>
#include <map>
#include <memory>

#include "grappler/fallbacks.h"
#include "plugin/device/device.h"
#include "plugin/device/stats.h"
#include "plugin/env.h"
#include "plugin/loading.h"
#include "plugin/log.h"
#include "plugin/op_definition.h"
#include "plugin/tf_api.h"
#include "plugin/variables/shim_loader.h"

namespace tfmetal {

namespace {

constexpr const char* kOpName = "MetalRuntime";

using Calls = std::map<std::string_view, const RuntimeCall*>;
Calls& calls() {
  static auto* table = new Calls;  // filled by static initialisers, so built on first use
  return *table;
}

std::string known_calls() {
  std::string names;
  for (const auto& [name, call] : calls()) names += (names.empty() ? "" : ", ") + std::string(name);
  return names;
}

// ---- the calls about loading, devices, memory and settings --------------------------------------

size_t device_count() { return loading().active ? Device::all().size() : 0; }

const RuntimeCall kCalls("calls", "what can be called, and what it answers",
                         [](const json::Value&) -> json::Value {
                           json::Object rows;
                           for (const auto& [name, call] : calls()) {
                             rows.emplace_back(std::string(name), call->help);
                           }
                           return rows;
                         });

const RuntimeCall kLoading("loading", "whether the plugin is active, and why not",
                           [](const json::Value&) -> json::Value {
                             const Loading& load = loading();
                             const char* version = tf.TF_Version ? tf.TF_Version() : "";
                             return json::Object{
                                 {"active", load.active},     {"reason", load.reason},
                                 {"platform", load.platform}, {"type", load.type},
                                 {"library", library_path()}, {"version", TFMETAL_VERSION},
                                 {"tensorflow", version}};
                           });

const RuntimeCall kDevices("devices", "name and memory of each device", [](const json::Value&) {
  json::Array rows;
  for (size_t i = 0; i < device_count(); ++i) {
    const Device& device = *Device::all()[i];
    rows.push_back(json::Object{
        {"ordinal", device.ordinal()},
        {"type", loading().type},
        {"name", device.name()},
        {"macos", concat(macos_version().major, ".", macos_version().minor)},
#ifdef TFMETAL_HOST
        {"simulated", true}
#else
                                {"simulated", false}
#endif
    });
  }
  return json::Value(rows);
});

const RuntimeCall kStats("stats", "counters since the start or the last reset_stats",
                         [](const json::Value&) -> json::Value { return json::Raw{stats_json()}; });

const RuntimeCall kResetStats("reset_stats", "sets the counters to zero",
                              [](const json::Value&) -> json::Value {
                                reset_stats();
                                reset_fallbacks();
                                return nullptr;
                              });

const RuntimeCall kMemoryInfo("memory_info", "bytes of a device: current, peak, reserved, limit...",
                              [](const json::Value& request) -> json::Value {
                                const MemoryInfo info = device_of(request).allocator().info();
                                return json::Object{
                                    {"current", info.in_use},    {"peak", info.peak},
                                    {"reserved", info.reserved}, {"limit", info.limit},
                                    {"largest", info.largest},   {"allocations", info.allocations}};
                              });

const RuntimeCall kResetMemoryStats("reset_memory_stats",
                                    "sets the peak of a device to the current",
                                    [](const json::Value& request) -> json::Value {
                                      device_of(request).allocator().reset_peak();
                                      return nullptr;
                                    });

const RuntimeCall kEnvironment("environment", "every environment variable, its value and meaning",
                               [](const json::Value&) {
                                 json::Array rows;
                                 for (const env::Variable* row : env::table()) {
                                   rows.push_back(json::Object{{"name", row->name},
                                                               {"value", env::text(*row)},
                                                               {"default", row->fallback},
                                                               {"help", row->help}});
                                 }
                                 return json::Value(rows);
                               });

const RuntimeCall kVariableMode("variable_mode", "how variables are updated, and why so",
                                [](const json::Value&) -> json::Value {
                                  return json::Object{{"mode", name(variable_mode())},
                                                      {"reason", variable_mode_reason()}};
                                });

// ---- the op -------------------------------------------------------------------------------------

struct TensorDeleter {
  void operator()(TF_Tensor* tensor) const { tf.TF_DeleteTensor(tensor); }
};
using Tensor = std::unique_ptr<TF_Tensor, TensorDeleter>;

void compute(TF_OpKernelContext* context) {
  Status status;
  TF_Tensor* raw = nullptr;
  tf.TF_GetInput(context, 0, &raw, status);
  const Tensor request(raw);
  status.check();
  const std::string answer =
      answer_request({static_cast<const char*>(tf.TF_TensorData(raw)), tf.TF_TensorByteSize(raw)});
  const int64_t size = static_cast<int64_t>(answer.size());
  const Tensor response(
      tf.TF_AllocateOutput(context, 0, TF_UINT8, &size, 1, answer.size(), status));
  status.check();
  std::memcpy(tf.TF_TensorData(response.get()), answer.data(), answer.size());
}

void compute_and_report(void*, TF_OpKernelContext* context) {
  Status status;
  try {
    return compute(context);
  } catch (const Error& e) {
    tf.TF_SetStatus(status, e.code, concat(kOpName, ": ", e.what()).c_str());
  } catch (const std::exception& e) {
    tf.TF_SetStatus(status, TF_INTERNAL, concat(kOpName, ": ", e.what()).c_str());
  }
  tf.TF_OpKernelContext_Failure(context, status);
}

void register_op() {
  // The answer's length is known only at run time.
  define_op({kOpName, {}, {"request: uint8"}, {"response: uint8"}, unknown_shape, true});
}

void register_cpu_kernel() {
  Status status;
  TF_KernelBuilder* builder =
      tf.TF_NewKernelBuilder(kOpName, "CPU", nullptr, &compute_and_report, nullptr);
  tf.TF_RegisterKernelBuilder(kOpName, builder, status);
  status.check();
}

}  // namespace

RuntimeCall::RuntimeCall(const char* name, const char* help, Function function)
    : name(name), help(help), function(function) {
  calls()[name] = this;
}

Device& device_of(const json::Value& request) {
  const json::Value& argument = request["device"];
  const int64_t wanted = argument.is_null() ? 0 : argument.get<int64_t>();
  if (wanted < 0 || wanted >= static_cast<int64_t>(device_count())) {
    throw_invalid_argument("there is no Metal device ", wanted, "; this process has ",
                           device_count(), loading().active ? "" : ", because ", loading().reason);
  }
  return *Device::all()[wanted];
}

std::string answer_request(std::string_view text) {
  const json::Value request = json::parse(text);
  const std::string* name = request["call"].as<std::string>();
  if (!name) throw_invalid_argument("a request is an object with a 'call': ", known_calls());
  const auto row = calls().find(*name);
  if (row == calls().end()) {
    throw_invalid_argument("unknown call '", *name, "'; known are: ", known_calls());
  }
  return row->second->function(request).dump();
}

void register_runtime_op() {
  if (load_tf_api() != nullptr) return;  // already said when loading was declined
  register_op();
  register_cpu_kernel();
}

}  // namespace tfmetal
