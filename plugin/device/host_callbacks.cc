#include "plugin/device/host_callbacks.h"

#include <utility>

#include "plugin/device/timeline.h"
#include "plugin/log.h"

namespace tfmetal {

HostCallbacks::HostCallbacks(mtl::Device device) : event_(device.new_shared_event()) {}

HostCallbacks::~HostCallbacks() {
  if (!thread_.joinable()) return;
  if (forked()) {
    thread_.detach();  // it does not exist in this process
    return;
  }
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

uint64_t HostCallbacks::add(std::vector<Ticket> after, std::function<void()> callback) {
  std::lock_guard lock(mutex_);
  const uint64_t number = last_.load() + 1;
  queue_.push_back({number, std::move(after), std::move(callback)});
  last_.store(number);
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  changed_.notify_all();
  return number;
}

void HostCallbacks::wait(uint64_t number) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done(number); });
}

void HostCallbacks::run() {
  for (;;) {
    Entry entry;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      entry = std::move(queue_.front());
      queue_.pop_front();
    }
    for (const Ticket& ticket : entry.after) ticket.timeline->wait(ticket.value);
    try {
      entry.callback();
    } catch (const std::exception& e) {
      log_line(LogLevel::kWarning, std::string("error: a host callback threw: ") + e.what());
    }
    entry.callback = nullptr;  // its captures go before anybody is told
    const ns::AutoreleasePool pool;
    event_.set_signaled_value(entry.number);
    std::lock_guard lock(mutex_);
    done_.store(entry.number);
    changed_.notify_all();
  }
}

}  // namespace tfmetal
