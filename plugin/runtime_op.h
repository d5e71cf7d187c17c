// MetalRuntime(request: uint8) -> response: uint8: the one way from Python into the plugin.
//
// Request and response are JSON texts as vectors of bytes. A request is an object whose "call"
// names a row of the table; the rest of it are the arguments. It runs on the CPU, without any
// device too. Unknown calls and malformed requests are InvalidArgument.
#pragma once

#include <string>

#include "plugin/json.h"

namespace tfmetal {

class Device;

// A row of the table: define one at namespace scope next to what it reports.
//   static const RuntimeCall call("stats", "counters", [](const json::Value&) { ... });
struct RuntimeCall {
  using Function = json::Value (*)(const json::Value& request);
  RuntimeCall(const char* name, const char* help, Function function);

  const char* name;
  const char* help;
  Function function;
};

// The device that the request means: "device" is its ordinal, 0 when absent. Throws InvalidArgument
// when there is no such device.
Device& device_of(const json::Value& request = {});

// Answers one request text. Throws tfmetal::Error.
std::string answer_request(std::string_view request);

// Registers op and kernel with TensorFlow, unless it lacks the functions to do so.
void register_runtime_op();

}  // namespace tfmetal
