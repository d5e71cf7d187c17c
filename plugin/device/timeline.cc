#include "plugin/device/timeline.h"

#include <pthread.h>

#include <algorithm>
#include <exception>

#include "plugin/device/device.h"
#include "plugin/device/encoder.h"
#include "plugin/device/recorder.h"
#include "plugin/device/stats.h"
#include "plugin/env.h"
#include "plugin/log.h"

namespace tfmetal {

namespace {

// One buffer runs while the next is queued behind it, so that the GPU never idles in between.
constexpr long kBuffersAhead = 2;
// A Metal queue holds 64 command buffers, then making another blocks; MPSGraph makes some itself.
constexpr long kMaxBuffersInFlight = 24;

std::mutex last_use_mutex;
thread_local int encode_depth = 0;
std::atomic<bool> in_forked_child{false};

struct EncodingScope {
  EncodingScope() { ++encode_depth; }
  ~EncodingScope() { --encode_depth; }
};

// "MatMul:a/b, Relu:a/c": each label once, in order.
std::string list_labels(const std::vector<const Label*>& labels) {
  std::string text;
  for (auto label = labels.begin(); label != labels.end(); ++label) {
    if (std::find(labels.begin(), label, *label) != label) continue;
    if (!text.empty()) text += ", ";
    text += (*label)->text();
  }
  return text;
}

}  // namespace

bool encoding_on_this_thread() { return encode_depth > 0; }

bool forked() { return in_forked_child.load(std::memory_order_relaxed); }

void check_not_forked() {
  if (forked()) throw_failed_precondition(kForkedMessage);
}

void watch_for_fork() {
  static const int installed =
      pthread_atfork(nullptr, nullptr, [] { in_forked_child.store(true); });
  (void)installed;
}

Ticket last_use_of(const Block& block) {
  std::lock_guard lock(last_use_mutex);
  return block.last_use;
}

void fill_after_last_use(Block& block, uint8_t value) {
  static const Label& label = *new Label("fill");
  const Ticket last = last_use_of(block);
  const BufferSlice slice{&block, 0};
  last.timeline->encode({&label, {&slice, 1}, block.size, 1}, [&](mps::CommandBuffer buffer) {
    const Encoder encoder(buffer.blit_encoder(), label);
    encoder->fill(block.buffer, {0, block.size}, value);
  });
}

// Holds mutex_ and, after giving it up, does what completion handlers asked for meanwhile.
class Timeline::Lock {
 public:
  explicit Lock(Timeline& timeline) : timeline_(timeline), lock_(timeline.mutex_) {}
  ~Lock() {
    lock_.unlock();
    timeline_.run_commit_requests();
  }

 private:
  Timeline& timeline_;
  std::unique_lock<std::mutex> lock_;
};

Timeline::Timeline(Device& device, int index)
    : index_(index),
      device_(device.ordinal()),
      ops_per_commit_(std::max(1L, env::integer(env::kOpsPerCommit))),
      bytes_per_commit_(static_cast<size_t>(std::max(1L, env::integer(env::kBytesPerCommit)))),
      queue_(device.metal().new_command_queue()),
      event_(device.metal().new_shared_event()),
      callbacks_(device.metal()) {}

Timeline::~Timeline() {
  if (forked()) return;
  drain();
  while (handlers_.load() > 0) std::this_thread::yield();
}

void Timeline::reuse() {
  const Lock unused(*this);
  pending_.clear();
  std::lock_guard lock(state_mutex_);
  poison_.clear();
  waits_.clear();
}

// ---- encoding ----

// Also those that were reached: their error may still have to be raised.
std::vector<Ticket> Timeline::uses_elsewhere(std::span<const BufferSlice> uses) const {
  std::vector<Ticket> result;
  std::lock_guard lock(last_use_mutex);
  for (const BufferSlice& use : uses) {
    const Ticket& last = use.block->last_use;
    if (last.timeline && last.timeline != this) result.push_back(last);
  }
  return result;
}

void Timeline::encode(const EncodeInfo& info, const Encode& encode) {
  check_not_forked();
  throttle();
  for (;;) {
    std::vector<Ticket> uncommitted;
    {
      const Lock lock(*this);
      std::lock_guard encoding(Device::mutex());
      const std::vector<Ticket> after = uses_elsewhere(info.uses);
      for (const Ticket& ticket : after) {
        if (!ticket.timeline->committed(ticket.value)) uncommitted.push_back(ticket);
      }
      if (uncommitted.empty()) return encode_locked(info, after, encode);
    }
    // Their timelines' locks must not be taken while holding this one's.
    for (const Ticket& ticket : uncommitted) ticket.timeline->commit_through(ticket.value);
  }
}

void Timeline::encode_locked(const EncodeInfo& info, const std::vector<Ticket>& after,
                             const Encode& encode) {
  const EncodingScope scope;
  const ns::AutoreleasePool pool;
  const bool record = Recorder::instance().on();
  const bool waits = !std::all_of(after.begin(), after.end(), tfmetal::reached);
  if (open_ && (record || waits)) commit();  // what came before need not wait, too
  Open& work = open();
  for (const Ticket& ticket : after) {
    if (waits) work.buffer.root().encode_wait(ticket.timeline->event_, ticket.value);
    remember_wait(ticket);
  }
  const auto root = mtl::Ref<mtl::CommandBuffer>::retain(work.buffer.root());
  std::exception_ptr error;
  try {
    encode(work.buffer);
  } catch (...) {
    error = std::current_exception();  // part of it may have been encoded
  }
  if (!(work.buffer.root() == root)) work.parts.push_back(root);
  {
    std::lock_guard lock(last_use_mutex);
    for (const BufferSlice& use : info.uses) use.block->last_use = {this, committed_.load() + 1};
  }
  work.labels.push_back(info.label);
  work.bytes += info.bytes;
  ++work.ops;
  work.recorded = record;
  stats().encodes += info.dispatches;
  if (record || should_commit()) commit();
  if (error) std::rethrow_exception(error);
}

// The open buffer; a new one waits for what this timeline depends on.
Timeline::Open& Timeline::open() {
  drop_reached_dependencies();
  const uint64_t callback = callbacks_.last();
  const bool after_callback = callbacks_encoded_ < callback && !callbacks_.done(callback);
  if (open_ && (after_callback || !pending_.empty())) commit();
  if (!open_) {
    open_.emplace();
    open_->buffer = mtl::Ref<mps::CommandBuffer>::retain(mps::CommandBuffer::from_queue(queue_));
  }
  for (const auto& [timeline, dependency] : pending_) {
    open_->buffer.root().encode_wait(timeline->event_, dependency.value);
    remember_wait({timeline, dependency.value});
  }
  pending_.clear();
  if (after_callback) open_->buffer.root().encode_wait(callbacks_.event(), callback);
  callbacks_encoded_ = callback;
  return *open_;
}

bool Timeline::should_commit() const {
  return in_flight_count_.load() < kBuffersAhead || open_->ops >= ops_per_commit_ ||
         open_->bytes >= bytes_per_commit_;
}

void Timeline::commit() {
  const ns::AutoreleasePool pool;
  const auto submission = std::make_shared<Submission>();
  submission->value = committed_.load() + 1;
  submission->work = std::move(*open_);
  open_.reset();
  const mtl::Ref<mps::CommandBuffer> buffer = submission->work.buffer;  // outlives the handler
  const mtl::CommandBuffer root = buffer.root();
  submission->ops = list_labels(submission->work.labels);
  root.set_label(submission->ops);
  root.encode_signal(event_, submission->value);
  root.add_completed_handler(
      [this, submission](mtl::CommandBuffer last) { completed(*submission, last); });
  {
    std::lock_guard lock(state_mutex_);
    in_flight_.push_back(submission);
  }
  ++in_flight_count_;
  ++handlers_;
  ++stats().commits;
  root.commit();
  committed_.store(submission->value);
}

// Blocks while the queue is nearly full, before any lock is taken.
void Timeline::throttle() {
  if (in_flight_count_.load() < kMaxBuffersInFlight) return;
  std::unique_lock lock(state_mutex_);
  progress_.wait(lock, [&] { return in_flight_count_.load() < kMaxBuffersInFlight; });
}

// ---- completion, on threads of Metal's ----

void Timeline::completed(Submission& submission, mtl::CommandBuffer last) {
  {
    const ns::AutoreleasePool pool;
    std::optional<std::string> reason;
    auto inspect = [&](mtl::CommandBuffer part) {
      if (part.status() != mtl::CommandBufferStatus::Error || reason) return;
      reason = part.error() ? part.error().description() : "unknown error";
    };
    for (const auto& part : submission.work.parts) inspect(part);
    inspect(last);
    std::optional<Error> error;
    if (reason) {
      ++stats().errors;
      error.emplace(TF_INTERNAL, concat("the GPU failed to run a command buffer with: ",
                                        submission.ops, ". Metal says: ", *reason));
      TFMETAL_LOG(kInfo, error->what());
    } else if (submission.work.recorded) {
      const auto& parts = submission.work.parts;
      const mtl::CommandBuffer first = parts.empty() ? last : mtl::CommandBuffer(parts.front());
      Recorder::instance().add(submission.work.labels.front()->text(), first.gpu_start_time(),
                               last.gpu_end_time(), index_, device_);
    }
    submission.work = Open();
    finish(submission, std::move(error));
    // A failed buffer need not have signaled, and an earlier one that failed may just have set
    // the event back. Not before the error is known to whom that sets going.
    if (event_.signaled_value() < submission.value) event_.set_signaled_value(submission.value);
    commit_requested_.store(true);
    run_commit_requests();
  }
  --handlers_;
}

void Timeline::finish(Submission& submission, std::optional<Error> error) {
  std::lock_guard lock(state_mutex_);
  submission.done = true;
  if (error) poison_.emplace(submission.value, *error);
  // Handlers of one queue come in order, but nobody promises it.
  while (!in_flight_.empty() && in_flight_.front()->done) {
    completed_.store(in_flight_.front()->value);
    in_flight_.pop_front();
    --in_flight_count_;
  }
  progress_.notify_all();
}

// Work-conserving: commits the open buffer when the queue runs dry. Whoever holds mutex_ comes
// here after giving it up, so a request is never lost.
void Timeline::run_commit_requests() {
  while (commit_requested_.load() && mutex_.try_lock()) {
    {
      std::lock_guard lock(mutex_, std::adopt_lock);
      commit_requested_.store(false);
      if (open_ && in_flight_count_.load() < kBuffersAhead) commit();
    }
  }
}

// ---- tickets ----

void Timeline::commit_through(uint64_t value) {
  if (committed(value)) return;
  const Lock lock(*this);
  if (open_ && !committed(value)) commit();
}

void Timeline::drop_reached_dependencies() {
  std::erase_if(pending_, [&](const auto& entry) {
    const Ticket ticket{entry.first, entry.second.value};
    if (!tfmetal::reached(ticket)) return false;
    remember_wait(ticket);
    return true;
  });
}

Ticket Timeline::record() {
  if (forked()) return {};
  const ns::AutoreleasePool pool;
  const Lock lock(*this);
  drop_reached_dependencies();
  const auto binding = std::count_if(pending_.begin(), pending_.end(),
                                     [](const auto& entry) { return entry.second.binding; });
  const uint64_t callback = callbacks_.last();
  const bool after_callback = callbacks_encoded_ < callback && !callbacks_.done(callback);
  if (binding == 1 && !after_callback && !open_ && reached(committed_.load())) {
    for (const auto& [timeline, dependency] : pending_) {
      if (dependency.binding) return {timeline, dependency.value};
    }
  }
  if (binding || after_callback) open();  // an empty buffer that waits
  if (open_) commit();
  return {this, committed_.load()};
}

void Timeline::wait_for(Ticket ticket) {
  if (!ticket.timeline || ticket.timeline == this || forked()) return;
  ticket.timeline->commit_through(ticket.value);
  const Lock lock(*this);
  Dependency& dependency = pending_[ticket.timeline];
  dependency.value = std::max(dependency.value, ticket.value);
  dependency.binding = true;
}

// The open buffer, or the next one, starts after `ticket`.
void Timeline::remember_wait(Ticket ticket) {
  std::lock_guard lock(state_mutex_);
  std::deque<Wait>& waits = waits_[ticket.timeline];
  const uint64_t at = committed_.load() + 1;
  if (!waits.empty() && ticket.value <= waits.back().value) return;
  waits.push_back({at, ticket.value});
  while (waits.size() > 1 && reached(waits[1].at)) waits.pop_front();
}

std::vector<Ticket> Timeline::waits_of(uint64_t value) {
  std::lock_guard lock(state_mutex_);
  const uint64_t until = std::max(value, completed_.load());
  std::vector<Ticket> tickets;
  for (const auto& [timeline, waits] : waits_) {
    const auto wait = std::find_if(waits.rbegin(), waits.rend(),
                                   [&](const Wait& each) { return each.at <= until; });
    if (wait != waits.rend()) tickets.push_back({timeline, wait->value});
  }
  return tickets;
}

void Timeline::begin_host_work() {
  check_not_forked();
  std::vector<HostCallbacks*> callbacks{&callbacks_};
  {
    const Lock lock(*this);
    drop_reached_dependencies();
    for (auto& [timeline, dependency] : pending_) {
      callbacks.push_back(&timeline->callbacks_);
      dependency.binding = false;
    }
  }
  for (HostCallbacks* each : callbacks) each->wait(each->last());
}

void Timeline::host_callback(std::function<void()> callback) {
  check_not_forked();
  const Lock lock(*this);
  drop_reached_dependencies();
  if (open_) commit();
  std::vector<Ticket> after{{this, committed_.load()}};
  for (const auto& [timeline, dependency] : pending_) after.push_back({timeline, dependency.value});
  callbacks_.add(std::move(after), std::move(callback));
}

void Timeline::wait(uint64_t value) {
  if (reached(value) || forked()) return;
  commit_through(value);
  std::unique_lock lock(state_mutex_);
  progress_.wait(lock, [&] { return reached(value); });
}

std::vector<Ticket> Timeline::drain() {
  if (forked()) return {};
  std::vector<Ticket> tickets;
  uint64_t callback;
  {
    const Lock lock(*this);
    if (open_) commit();
    tickets.push_back({this, committed_.load()});
    for (const auto& [timeline, dependency] : pending_) {
      tickets.push_back({timeline, dependency.value});
    }
    callback = callbacks_.last();
  }
  for (const Ticket& ticket : tickets) ticket.timeline->wait(ticket.value);
  callbacks_.wait(callback);
  return tickets;
}

// The first error up to a value stands for the others; later ones are raised by what needs them.
std::optional<Error> Timeline::take_poison(uint64_t up_to) {
  std::lock_guard lock(state_mutex_);
  const auto end = poison_.upper_bound(up_to);
  if (end == poison_.begin()) return std::nullopt;
  std::optional<Error> error(std::in_place, poison_.begin()->second);
  poison_.erase(poison_.begin(), end);
  return error;
}

std::optional<Error> Timeline::take_poison(std::vector<Ticket> tickets) {
  std::map<Timeline*, uint64_t> visited;
  while (!tickets.empty()) {
    const Ticket ticket = tickets.back();
    tickets.pop_back();
    if (!ticket.timeline) continue;
    const auto [known, is_new] = visited.try_emplace(ticket.timeline, ticket.value);
    if (!is_new && known->second >= ticket.value) continue;
    known->second = ticket.value;
    // The device went past it, but its completion handler may still have to run.
    ticket.timeline->wait(ticket.value);
    if (auto error = ticket.timeline->take_poison(ticket.value)) return error;
    for (const Ticket& other : ticket.timeline->waits_of(ticket.value)) tickets.push_back(other);
  }
  return std::nullopt;
}

}  // namespace tfmetal
