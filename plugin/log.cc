#include "plugin/log.h"

#include <cstdio>
#include <mutex>
#include <set>

#include "plugin/env.h"

namespace tfmetal {

bool log_enabled(LogLevel level) { return static_cast<int>(level) <= env::integer(env::kLog); }

void log_line(LogLevel level, const std::string& message) {
  static const char kLetter[] = {'W', 'I', 'V'};
  std::fprintf(stderr, "tensorflow-metal-py %c: %s\n", kLetter[static_cast<int>(level)],
               message.c_str());
}

void warn_once(const std::string& message) {
  static std::mutex mutex;
  static std::set<std::string> said;
  {
    std::lock_guard lock(mutex);
    if (!said.insert(message).second) return;
  }
  log_line(LogLevel::kWarning, message);
}

}  // namespace tfmetal
