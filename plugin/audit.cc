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

const RuntimeCall kLimits("device_limits", "what Metal says of a device",
                          [](const json::Value& request) -> json::Value {
                            const ns::AutoreleasePool pool;
                            const mtl::Device device = device_of(request).metal();
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
                              const auto& name = request["shader"].get<std::string>();
                              try {
                                device_of(request).pipeline(name);
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

const RuntimeCall kMethodTypes(
    "method_types", "type encodings of 'methods', as the Objective-C runtime has them, or null",
    [](const json::Value& request) -> json::Value {
      json::Array answers;
      for (const json::Value& method : request["methods"].get<json::Array>()) {
        const auto& row = method.get<json::Array>();  // class, "+" or "-", selector
        if (row.size() != 3) throw_invalid_argument("not [class, kind, selector]: ", method.dump());
        const auto types = method_types(row[0].get<std::string>(), row[1].get<std::string>() == "+",
                                        sel_registerName(row[2].get<std::string>().c_str()));
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
