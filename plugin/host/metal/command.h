// Command queues, command buffers and events: how work gets from the host to the worker thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "plugin/host/block.h"
#include "plugin/host/metal.h"
#include "plugin/metal/metal.h"

namespace host {

using Status = mtl::CommandBufferStatus;

// Counts forks of this process: what belongs to an older generation has lost its threads.
unsigned fork_generation();

// Metal's default: commandBuffer blocks while this many of a queue's buffers are not completed.
constexpr int kMaxCommandBuffers = 64;

// What the threads of a queue share with it; outlives the queue object until they have ended.
struct QueueState {
  const unsigned generation = fork_generation();
  std::mutex mutex;
  std::condition_variable work, handlers, progress;  // for worker, notifier, everybody else
  std::deque<CommandBuffer*> committed;              // to be executed
  std::deque<CommandBuffer*> executed;               // whose handlers are to be called
  bool has_worker = false, has_notifier = false, stop = false;
  int unfinished = 0;   // buffers that exist and have not been executed
  int in_progress = 0;  // committed and not finished, handlers included
};

struct CommandQueue : Object {
  static constexpr const char* kClass = "MTLCommandQueue";
  CommandQueue();
  ~CommandQueue() override;
  std::shared_ptr<QueueState> state;
  std::string label;
};

struct SharedEvent : Object {
  static constexpr const char* kClass = "MTLSharedEvent";
  void signal(uint64_t v);  // the value never decreases
  void wait(uint64_t v);
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t value = 0;
};

struct CommandBuffer::State {
  explicit State(CommandQueue* q) : queue(q), queue_state(q->state) {}
  CommandQueue* queue;  // retained by the command buffer
  std::shared_ptr<QueueState> queue_state;
  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<Status> status{Status::NotEnqueued};
  bool finished = false;  // handlers have returned
  bool encoder_open = false;
  std::string label;
  std::vector<Command> commands;
  std::vector<id> resources;  // retained
  std::vector<BlockRef<id>> handlers;
  std::optional<size_t> fail_at;  // index of the command that shall fail (TF_METAL_HOST_FAIL)
  std::string error;              // why status is Error
  double gpu_start = 0, gpu_end = 0;
};

// Checks shared by all that add to a buffer. Aborts as append() does.
void check_open_for_encoding(CommandBuffer* buffer, const char* selector);

// Hands a committed buffer to the worker thread.
void submit(CommandBuffer* buffer);

void commit(CommandBuffer* buffer);
void wait_until_completed(CommandBuffer* buffer);
void add_completed_handler(CommandBuffer* buffer, id block);
void encode_signal(CommandBuffer* buffer, id event, uint64_t value);
void encode_wait(CommandBuffer* buffer, id event, uint64_t value);
id error_of(CommandBuffer* buffer);          // autoreleased NSError, nil when there is none
id new_command_buffer(CommandQueue* queue);  // autoreleased

}  // namespace host
