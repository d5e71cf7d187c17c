// Whether this copy of the plugin serves the process, decided each time TensorFlow loads it.
//
// A failing SE_InitPlugin aborts the process, so the plugin never fails: it declines by registering
// a platform of an unused name without devices, and says once why and what to do.
#pragma once

#include <string>

namespace tfmetal {

struct Loading {
  bool active = false;
  bool second_copy = false;  // another load serves this process: register nothing
  std::string reason;        // why not, and what to do; empty when active
  std::string platform;      // names to register; unused ones unless active
  std::string type;
  int device_count = 0;
};

// Decides for the load that is going on. Warns when it declines. Never throws. The result lives
// for ever: TensorFlow keeps pointers into it.
const Loading& begin_loading();

// The load that is going on: the latest decision.
const Loading& current_loading();

// The first decision of this library: what Python asks about. Inactive before SE_InitPlugin.
const Loading& loading();

// Where this library was loaded from.
const std::string& library_path();

}  // namespace tfmetal
