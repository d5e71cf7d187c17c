// Messages to stderr. Warnings always; the rest from TF_METAL_LOG on (plugin/env.cc).
#pragma once

#include <string>

namespace tfmetal {

enum class LogLevel { kWarning = 0, kInfo = 1, kVerbose = 2 };

bool log_enabled(LogLevel level);
void log_line(LogLevel level, const std::string& message);
// Prints a warning the first time it is called with this text in this process.
void warn_once(const std::string& message);

}  // namespace tfmetal

// The message is built only when it will be printed.
#define TFMETAL_LOG(level, message)                               \
  do {                                                            \
    if (::tfmetal::log_enabled(::tfmetal::LogLevel::level))       \
      ::tfmetal::log_line(::tfmetal::LogLevel::level, (message)); \
  } while (0)
