#include "plugin/host/chaos.h"

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "plugin/env.h"

namespace host {
namespace {

// One delay in kDelayOneIn places lasts up to kMaxDelay: long enough for other threads to overtake,
// short enough that a test suite in chaos mode takes a few times as long.
constexpr unsigned kDelayOneIn = 8;
constexpr std::chrono::microseconds kMaxDelay{1000};

long seed() { return tfmetal::env::integer(tfmetal::env::kHostChaos); }

std::mt19937& generator() {
  static std::atomic<unsigned> threads{0};
  thread_local std::mt19937 engine(static_cast<unsigned>(seed()) * 1000003u + threads++);
  return engine;
}

}  // namespace

bool chaos_mode() { return seed() != 0; }

bool chaos(unsigned n) { return chaos_mode() && generator()() % n == 0; }

void chaos_delay() {
  if (!chaos(kDelayOneIn)) return;
  std::this_thread::sleep_for(kMaxDelay * (generator()() % 1024) / 1024);
}

}  // namespace host
