#include "plugin/device/stats.h"

#include <map>
#include <mutex>
#include <sstream>

namespace tfmetal {

namespace {

// Never destroyed: completion handlers may outlive static objects.
struct Fusions {
  std::mutex mutex;
  std::map<std::string, int64_t> count;
};
Fusions& fusions() {
  static Fusions& all = *new Fusions;
  return all;
}

}  // namespace

Stats& stats() {
  static Stats& all = *new Stats;
  return all;
}

void reset_stats() {
#define TFMETAL_COUNTER(name, help) stats().name = 0;
  TFMETAL_COUNTERS(TFMETAL_COUNTER)
#undef TFMETAL_COUNTER
  std::lock_guard lock(fusions().mutex);
  fusions().count.clear();
}

void count_fusion(const std::string& pattern) {
  std::lock_guard lock(fusions().mutex);
  ++fusions().count[pattern];
}

std::string stats_json() {
  std::ostringstream out;
  out << '{';
#define TFMETAL_COUNTER(name, help) out << "\"" #name "\": " << stats().name.load() << ", ";
  TFMETAL_COUNTERS(TFMETAL_COUNTER)
#undef TFMETAL_COUNTER
  out << "\"fusions\": {";
  std::lock_guard lock(fusions().mutex);
  const char* separator = "";
  for (const auto& [pattern, count] : fusions().count) {  // names are identifiers of ours
    out << separator << '"' << pattern << "\": " << count;
    separator = ", ";
  }
  out << "}}";
  return out.str();
}

}  // namespace tfmetal
