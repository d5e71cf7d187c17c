#include "plugin/device/stream.h"

#include <cstring>

#include "plugin/device/blit.h"
#include "plugin/device/device.h"
#include "plugin/device/stats.h"
#include "plugin/log.h"
#include "plugin/variables/shim_loader.h"

namespace tfmetal {

namespace {

// Never destroyed: work may be in flight while the process exits.
const Label& kFillLabel = *new Label("fill");
constexpr size_t kPatternBytes = 4;

}  // namespace

Stream::Stream(Device& device) : Stream(device, synchronous()) {}
Stream::Stream(Device& device, bool sync)
    : device_(device), timeline_(device.acquire_timeline()), sync_(sync) {}

Stream::~Stream() {
  if (forked()) return;
  wait();
  if (const auto lost = take_poison()) {
    log_line(LogLevel::kWarning, std::string("error that nobody asked for: ") + lost->what());
  }
  device_.release_timeline(timeline_);
}

void Stream::encode(const EncodeInfo& info, const std::function<void(mps::CommandBuffer)>& encode) {
  check_not_forked();
  if (const auto poison = take_poison()) throw Error(*poison);
  timeline_.encode(info, encode);
  if (!sync_) return;
  if (const auto poison = synchronize()) throw Error(*poison);
}

Ticket Stream::record() { return timeline_.record(); }
void Stream::wait_for(Ticket ticket) { timeline_.wait_for(ticket); }
void Stream::host_callback(std::function<void()> callback) {
  timeline_.host_callback(std::move(callback));
}

void Stream::wait() { timeline_.drain(); }
void Stream::wait(Ticket ticket) {
  if (ticket.timeline) ticket.timeline->wait(ticket.value);
}
std::optional<Error> Stream::synchronize() {
  check_not_forked();
  return Timeline::take_poison(timeline_.drain());
}
std::optional<Error> Stream::synchronize(Ticket ticket) {
  check_not_forked();
  wait(ticket);
  return Timeline::take_poison({ticket});
}

void Stream::copy_from_host(BufferSlice to, const void* from, size_t size) {
  if (size == 0) return;
  timeline_.begin_host_work();
  stats().bytes_htod += static_cast<int64_t>(size);
  const Ticket last_use = last_use_of(*to.block);
  void* staging = reached(last_use) ? nullptr : device_.allocator().allocate_idle(size);
  if (!staging) {
    wait(last_use);
    std::memcpy(to.contents(), from, size);
    return;
  }
  try {
    std::memcpy(staging, from, size);
    encode_copy(to, device_.allocator().resolve(staging), size);
  } catch (...) {
    device_.allocator().deallocate(staging);
    throw;
  }
  device_.allocator().deallocate(staging);
}

std::optional<Error> Stream::copy_to_host(void* to, BufferSlice from, size_t size) {
  if (size == 0) return std::nullopt;
  check_not_forked();
  ++stats().sync_dtoh;
  stats().bytes_dtoh += static_cast<int64_t>(size);
  std::vector<Ticket> done = timeline_.drain();
  done.push_back(last_use_of(*from.block));
  wait(done.back());
  if (auto poison = Timeline::take_poison(std::move(done))) return poison;
  std::memcpy(to, from.contents(), size);
  return std::nullopt;
}

void Stream::copy(BufferSlice to, BufferSlice from, size_t size) {
  if (size == 0) return;
  stats().bytes_dtod += static_cast<int64_t>(size);
  encode_copy(to, from, size);
}

void Stream::encode_copy(BufferSlice to, BufferSlice from, size_t size) {
  const BufferSlice uses[] = {to, from};
  timeline_.encode({&copy_label(), uses, 2 * size, 1}, [&](mps::CommandBuffer buffer) {
    tfmetal::encode_copy(device_, buffer, copy_label(), to, from, size);
  });
}

void Stream::fill(BufferSlice to, uint8_t value, size_t size) {
  if (size == 0) return;
  timeline_.encode({&kFillLabel, {&to, 1}, size, 1}, [&](mps::CommandBuffer buffer) {
    encode_fill(device_, buffer, kFillLabel, to, value, size);
  });
}

void Stream::fill32(BufferSlice to, uint32_t value, size_t size) {
  if (size == 0) return;
  if ((to.offset | size) % kPatternBytes != 0) {
    throw_internal("fill of ", size, " bytes at offset ", to.offset, " by a 32-bit pattern");
  }
  timeline_.encode({&kFillLabel, {&to, 1}, size, 1}, [&](mps::CommandBuffer buffer) {
    encode_fill32(device_, buffer, kFillLabel, to, value, size);
  });
}

// ---- without a stream ----

void Stream::copy_from_host_now(BufferSlice to, const void* from, size_t size) {
  check_not_forked();
  stats().bytes_htod += static_cast<int64_t>(size);
  wait(last_use_of(*to.block));
  std::memcpy(to.contents(), from, size);
}

std::optional<Error> Stream::copy_to_host_now(void* to, BufferSlice from, size_t size) {
  ++stats().sync_dtoh;
  stats().bytes_dtoh += static_cast<int64_t>(size);
  if (auto poison = synchronize(last_use_of(*from.block))) return poison;
  std::memcpy(to, from.contents(), size);
  return std::nullopt;
}

std::optional<Error> Stream::copy_now(BufferSlice to, BufferSlice from, size_t size) {
  stats().bytes_dtod += static_cast<int64_t>(size);
  if (auto poison = synchronize(last_use_of(*from.block))) return poison;
  wait(last_use_of(*to.block));
  std::memcpy(to.contents(), from.contents(), size);
  return std::nullopt;
}

}  // namespace tfmetal
