// What Python sees of the variable mode: tensorflow_metal_py.variable_mode().
#include "plugin/runtime_op.h"
#include "plugin/variables/shim_loader.h"

namespace tfmetal {

namespace {

const RuntimeCall kVariableMode("variable_mode",
                                "how variables are updated: mode (api, shim or sync) and reason",
                                [](const json::Value&) -> json::Value {
                                  return json::Object{{"mode", name(variable_mode())},
                                                      {"reason", variable_mode_reason()}};
                                });

}  // namespace

}  // namespace tfmetal
