#include "plugin/host/parallel.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "plugin/host/classes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace host {
namespace {

// Parts per thread: a thread that was held up leaves its parts to the others.
constexpr size_t kPartsPerThread = 4;

// Tells the processor that this thread only looks.
void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks for a short while before the caller goes to sleep: to wake a thread takes longer than many
// a job.
template <class Condition>
void spin(const Condition& condition) {
  constexpr auto kPatience = std::chrono::microseconds(30);
  constexpr int kLooks = 16;  // between two looks at the clock
  const auto end = std::chrono::steady_clock::now() + kPatience;
  do {
    for (int i = 0; i < kLooks; ++i) {
      if (condition()) return;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
}

struct Job {
  size_t n, part, parts;
  const std::function<void(size_t, size_t)>* body;
  unsigned long mode;
  std::atomic<size_t> next{0};  // the part to be taken next
  std::mutex mutex;
  std::condition_variable finished;
  size_t done = 0;                    // parts that have run
  std::atomic<size_t> done_parts{0};  // the same, for those who look without the mutex
  std::exception_ptr error;

  void run() {
    for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < parts;) {
      std::exception_ptr thrown;
      try {
        (*body)(i* part, std::min(n, (i + 1) * part));
      } catch (...) {
        thrown = std::current_exception();
      }
      std::lock_guard lock(mutex);
      if (thrown && !error) error = thrown;
      if (++done == parts) finished.notify_all();
      done_parts.store(done, std::memory_order_release);
    }
  }
  void wait() {
    spin([&] { return done_parts.load(std::memory_order_acquire) == parts; });
    std::unique_lock lock(mutex);
    finished.wait(lock, [&] { return done == parts; });
    if (error) std::rethrow_exception(error);
  }
};

// Its threads live as long as the process.
class Pool {
 public:
  Pool() {
    for (size_t i = 1; i < parallelism(); ++i) std::thread([this] { work(); }).detach();
  }
  void offer(const std::shared_ptr<Job>& job) {
    {
      std::lock_guard lock(mutex_);
      jobs_.push_back(job);
      offers_.fetch_add(1, std::memory_order_release);
    }
    available_.notify_all();
  }
  void withdraw(const std::shared_ptr<Job>& job) {
    std::lock_guard lock(mutex_);
    jobs_.erase(std::find(jobs_.begin(), jobs_.end(), job));
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      std::shared_ptr<Job> job;
      for (auto& candidate : jobs_) {
        if (candidate->next.load(std::memory_order_relaxed) < candidate->parts) job = candidate;
        if (job) break;
      }
      const unsigned offers = offers_.load(std::memory_order_relaxed);
      if (!job) {
        available_.wait(lock);
        continue;
      }
      lock.unlock();
      set_floating_point_mode(job->mode);
      job->run();
      spin([&] { return offers_.load(std::memory_order_acquire) != offers; });
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable available_;
  std::atomic<unsigned> offers_{0};
  std::deque<std::shared_ptr<Job>> jobs_;
};

std::atomic<Pool*> current_pool{nullptr};

Pool& pool() {
  // A forked child has no threads: it starts a pool of its own.
  [[maybe_unused]] static const int at_fork =
      pthread_atfork(nullptr, nullptr, [] { current_pool = nullptr; });
  Pool* found = current_pool.load(std::memory_order_acquire);
  if (found) return *found;
  std::lock_guard lock(runtime_mutex());  // free in a forked child
  found = current_pool.load(std::memory_order_relaxed);
  if (!found) current_pool.store(found = new Pool, std::memory_order_release);
  return *found;
}

}  // namespace

size_t parallelism() {
  static const size_t threads = std::max(1u, std::thread::hardware_concurrency());
  return threads;
}

void parallel_for(size_t n, size_t grain, const std::function<void(size_t, size_t)>& body) {
  if (n == 0) return;
  const size_t parts_wanted = parallelism() * kPartsPerThread;
  const size_t part = std::max(std::max<size_t>(grain, 1), (n + parts_wanted - 1) / parts_wanted);
  const size_t parts = (n + part - 1) / part;
  if (parts == 1 || parallelism() == 1) return body(0, n);
  auto job = std::make_shared<Job>();
  job->n = n, job->part = part, job->parts = parts, job->body = &body;
  job->mode = floating_point_mode();
  pool().offer(job);
  job->run();
  pool().withdraw(job);
  job->wait();
}

#if defined(__x86_64__)

unsigned long floating_point_mode() { return _mm_getcsr(); }
void set_floating_point_mode(unsigned long mode) { _mm_setcsr(static_cast<unsigned>(mode)); }
void flush_denormals() {
  constexpr unsigned kFlushToZero = 1 << 15, kDenormalsAreZero = 1 << 6;
  _mm_setcsr(_mm_getcsr() | kFlushToZero | kDenormalsAreZero);
}

#elif defined(__aarch64__)

unsigned long floating_point_mode() {
  unsigned long mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
void set_floating_point_mode(unsigned long mode) { asm volatile("msr fpcr, %0" ::"r"(mode)); }
void flush_denormals() {
  constexpr unsigned long kFlushToZero = 1ul << 24;
  set_floating_point_mode(floating_point_mode() | kFlushToZero);
}

#endif

}  // namespace host
