// What a selftest asks of the machine itself: limits, the Objective-C runtime, the shaders.
#include <optional>

#include "plugin/device/device.h"
#include "plugin/error.h"
#include "plugin/loading.h"
#include "plugin/metal/introspection.h"
#include "plugin/quarantine.h"
#include "plugin/runtime_op.h"
#ifdef TFMETAL_HOST
#include "plugin/host/catalogue.h"
#include "plugin/host/msl/names.h"
#endif

namespace tfmetal {

namespace {

Device& first_device() {
  if (!loading().active || Device::all().empty()) {
    throw_failed_precondition("there is no Metal device: ", loading().reason);
  }
  return *Device::all()[0];
}

const RuntimeCall kLimits("device_limits", "what Metal says of the first device",
                          [](const json::Value&) -> json::Value {
                            const ns::AutoreleasePool pool;
                            const mtl::Device device = first_device().metal();
                            return json::Object{{"name", device.name()},
                                                {"macos_build", macos_build()},
                                                {"max_buffer_length", device.max_buffer_length()},
                                                {"recommended_max_working_set_size",
                                                 device.recommended_max_working_set_size()},
                                                {"max_threads_per_threadgroup",
                                                 device.max_threads_per_threadgroup().width}};
                          });

// ---- shaders ------------------------------------------------------------------------------------

const RuntimeCall kPipeline("make_pipeline", "makes the pipeline of 'shader'; what is wrong, or ''",
                            [](const json::Value& request) -> json::Value {
                              const std::string* name = request["shader"].as<std::string>();
                              if (!name) throw_invalid_argument("'shader' must be a name");
                              try {
                                first_device().pipeline(*name);
                                return "";
                              } catch (const Error& error) {
                                return error.what();
                              }
                            });

// ---- methods ------------------------------------------------------------------------------------

std::optional<std::string> types_in_protocol(const char* name, SEL selector) {
  objc_protocol* const protocol = objc_getProtocol(name);
  if (!protocol) return std::nullopt;
  for (const bool required : {true, false}) {
    const auto found = protocol_getMethodDescription(protocol, selector, required, true);
    if (found.types) return found.types;
  }
  return std::nullopt;
}

// The type encoding of a method that a class implements or a protocol declares.
std::optional<std::string> method_types(const std::string& name, bool of_class, SEL selector) {
  if (const Class found = objc_lookUpClass(name.c_str())) {
    const objc_method* method =
        of_class ? class_getClassMethod(found, selector) : class_getInstanceMethod(found, selector);
    if (method) return method_getTypeEncoding(method);
  }
  return types_in_protocol(name.c_str(), selector);
}

const std::string& text_at(const json::Array& row, size_t i) {
  const std::string* text = i < row.size() ? row[i].as<std::string>() : nullptr;
  if (!text) throw_invalid_argument("a method is [class, \"+\" or \"-\", selector]");
  return *text;
}

const RuntimeCall kMethodTypes(
    "method_types", "type encodings of 'methods', as the Objective-C runtime has them, or null",
    [](const json::Value& request) -> json::Value {
      const json::Array* methods = request["methods"].as<json::Array>();
      if (!methods) throw_invalid_argument("'methods' must be a list");
      json::Array answers;
      for (const json::Value& method : *methods) {
        const json::Array* row = method.as<json::Array>();
        if (!row) throw_invalid_argument("a method must be a list");
        const auto types = method_types(text_at(*row, 0), text_at(*row, 1) == "+",
                                        sel_registerName(text_at(*row, 2).c_str()));
        answers.push_back(types ? json::Value(*types) : json::Value());
      }
      return answers;
    });

#ifdef TFMETAL_HOST
const RuntimeCall kShaders("shaders", "the names of all shaders", [](const json::Value&) {
  json::Array names;
  for (std::string& name : host::msl::kernel_names()) names.push_back(std::move(name));
  return json::Value(std::move(names));
});

const RuntimeCall kMethodsInUse(
    "methods_in_use", "[class, kind, selector, types, macOS] of each method that the plugin uses",
    [](const json::Value&) -> json::Value {
      json::Array rows;
      host::for_each_declared([&](const host::CatalogueMethod& method) {
        rows.push_back(json::Array{std::string(method.class_name), std::string(1, method.kind),
                                   std::string(method.selector), method.encoding, method.macos});
      });
      return rows;
    });
#endif

}  // namespace

}  // namespace tfmetal
