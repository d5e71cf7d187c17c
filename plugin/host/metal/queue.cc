// The two threads of a queue: a worker, which executes command buffers in the order of commit, and
// a notifier, which calls completed handlers, so that a slow handler does not hold up the GPU.
#include <pthread.h>

#include <chrono>
#include <cstdlib>
#include <list>
#include <thread>

#include "plugin/host/classes.h"
#include "plugin/host/metal/command.h"
#include "plugin/host/mps_graph/kept_operands.h"
#include "plugin/host/parallel.h"

namespace host {
namespace {

std::atomic<unsigned> generation{0};
[[maybe_unused]] const int fork_handler =
    pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1); });

// At process exit, work that was committed is finished before static objects go away. Work that
// waits for an event that nobody signals is given up after this time.
constexpr std::chrono::seconds kExitPatience{2};

std::list<std::weak_ptr<QueueState>>& queues() {  // guarded by runtime_mutex()
  static auto* const all = new std::list<std::weak_ptr<QueueState>>;
  return *all;
}

void drain_at_exit() {
  const auto deadline = std::chrono::steady_clock::now() + kExitPatience;
  std::vector<std::shared_ptr<QueueState>> alive;
  {
    std::lock_guard lock(runtime_mutex());
    for (auto& queue : queues()) {
      if (auto state = queue.lock()) alive.push_back(std::move(state));
    }
  }
  for (auto& state : alive) {
    if (state->generation != fork_generation()) continue;
    std::unique_lock lock(state->mutex);
    state->progress.wait_until(lock, deadline, [&] { return state->in_progress == 0; });
  }
}

void remember(const std::shared_ptr<QueueState>& state) {
  std::lock_guard lock(runtime_mutex());
  [[maybe_unused]] static const int registered = std::atexit(&drain_at_exit);
  queues().remove_if([](const auto& queue) { return queue.expired(); });
  queues().push_back(state);
}

double seconds_now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// Runs the commands up to the first that fails. What follows a failure, signals included, does not
// happen, as on a GPU.
void execute(CommandBuffer::State& buffer) {
  forget_operands();
  for (const Command& command : buffer.commands) {
    chaos_delay();
    if (!command.tells_writes) forget_operands();
    if (buffer.fail_at == static_cast<size_t>(&command - buffer.commands.data())) {
      buffer.error = "injected failure";
    } else {
      try {
        command.run();
      } catch (const std::exception& e) {
        buffer.error = e.what();
      }
    }
    if (!buffer.error.empty()) {
      buffer.error =
          "Execution of the command buffer was aborted due to an error during "
          "execution, encoder '" +
          std::string(command.label) + "': " + buffer.error;
      return;
    }
  }
}

// Everything that the buffer holds is let go before anybody learns that it has finished: after
// waitUntilCompleted nothing is left but what the caller owns.
void finish(CommandBuffer* buffer) {
  const std::shared_ptr<CommandBuffer::State> state = buffer->state;
  const std::shared_ptr<QueueState> queue = state->queue_state;
  for (const auto& handler : state->handlers) {
    chaos_delay();
    handler(buffer);
  }
  state->handlers.clear();
  objc_release(buffer);  // commit retained it
  {
    std::lock_guard lock(state->mutex);
    state->finished = true;
    state->changed.notify_all();
  }
  if (queue->generation != fork_generation()) return;
  std::lock_guard lock(queue->mutex);
  --queue->in_progress;
  queue->progress.notify_all();
}

void run_notifier(std::shared_ptr<QueueState> queue) {
  std::unique_lock lock(queue->mutex);
  for (;;) {
    queue->handlers.wait(lock, [&] { return queue->stop || !queue->executed.empty(); });
    if (queue->executed.empty()) return;
    CommandBuffer* buffer = queue->executed.front();
    queue->executed.pop_front();
    lock.unlock();
    chaos_delay();
    {
      objc::AutoreleasePool pool;
      finish(buffer);
    }
    lock.lock();
  }
}

void run_worker(std::shared_ptr<QueueState> queue) {
  flush_denormals();
  std::unique_lock lock(queue->mutex);
  for (;;) {
    queue->work.wait(lock, [&] { return queue->stop || !queue->committed.empty(); });
    if (queue->committed.empty()) return;
    CommandBuffer* buffer = queue->committed.front();
    queue->committed.pop_front();
    lock.unlock();
    CommandBuffer::State& state = *buffer->state;
    bool notify;
    {
      objc::AutoreleasePool pool;
      state.status = Status::Scheduled;
      state.gpu_start = seconds_now();
      execute(state);
      state.gpu_end = seconds_now();
      state.commands.clear();
      for (id resource : state.resources) objc_release(resource);
      state.resources.clear();
      notify = !state.handlers.empty();
      state.status = state.error.empty() ? Status::Completed : Status::Error;
      if (!notify) finish(buffer);
    }
    lock.lock();
    --queue->unfinished;
    queue->progress.notify_all();
    if (!notify) continue;
    queue->executed.push_back(buffer);
    if (!queue->has_notifier) {
      queue->has_notifier = true;
      std::thread(&run_notifier, queue).detach();
    }
    queue->handlers.notify_one();
  }
}

}  // namespace

unsigned fork_generation() { return generation.load(std::memory_order_relaxed); }

CommandQueue::CommandQueue() : state(std::make_shared<QueueState>()) { remember(state); }

// Every command buffer retains its queue, so nothing is left to do. The threads are not joined:
// this may be one of them.
CommandQueue::~CommandQueue() {
  if (state->generation != fork_generation()) return;
  std::lock_guard lock(state->mutex);
  state->stop = true;
  state->work.notify_all();
  state->handlers.notify_all();
}

void submit(CommandBuffer* buffer) {
  const std::shared_ptr<QueueState> queue = buffer->state->queue_state;
  if (queue->generation != fork_generation()) {  // its worker was lost in a fork
    buffer->state->error = "Metal command queues do not survive a fork";
    buffer->state->status = Status::Error;
    std::thread([buffer] {
      objc::AutoreleasePool pool;
      finish(buffer);
    }).detach();
    return;
  }
  std::lock_guard lock(queue->mutex);
  ++queue->in_progress;
  queue->committed.push_back(buffer);
  if (!queue->has_worker) {
    queue->has_worker = true;
    std::thread(&run_worker, queue).detach();
  }
  queue->work.notify_one();
}

}  // namespace host
