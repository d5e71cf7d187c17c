// Command buffers and events: what encoding adds, and what the caller may ask.
#include <algorithm>
#include <cstdlib>

#include "plugin/env.h"
#include "plugin/host/classes.h"
#include "plugin/host/metal/command.h"
#include "plugin/host/metal/encoder.h"

namespace host {
namespace {

constexpr NSInteger kErrorInternal = 1;  // MTLCommandBufferErrorInternal

bool orphaned(const CommandBuffer::State& state) {
  return state.queue_state->generation != fork_generation();
}

// The command at which this buffer shall fail: each value of TF_METAL_HOST_FAIL fails one buffer,
// the first whose own label, or that of one of its commands, contains it. What follows an '@' only
// makes a value new.
std::optional<size_t> injected_failure(const CommandBuffer::State& state) {
  static std::mutex mutex;
  static auto* const spent = new std::string;
  const std::string value = tfmetal::env::text(tfmetal::env::kHostFail);
  std::lock_guard lock(mutex);
  if (value.empty()) spent->clear();
  if (value.empty() || value == *spent || state.commands.empty()) return std::nullopt;
  const std::string wanted = value.substr(0, value.find('@'));
  const auto command = std::find_if(
      state.commands.begin(), state.commands.end(),
      [&](const Command& each) { return each.label.find(wanted) != std::string_view::npos; });
  const bool found = command != state.commands.end();
  if (!found && state.label.find(wanted) == std::string::npos) return std::nullopt;
  *spent = value;
  return found ? static_cast<size_t>(command - state.commands.begin()) : 0;
}

}  // namespace

CommandBuffer::CommandBuffer(CommandQueue* queue) : state(std::make_shared<State>(queue)) {
  objc_retain(queue);
  if (orphaned(*state)) return;
  QueueState& shared = *state->queue_state;
  std::unique_lock lock(shared.mutex);
  if (shared.unfinished >= kMaxCommandBuffers && shared.in_progress == 0) {
    abort_like_apple("-[MTLCommandQueue commandBuffer] would block for ever: " +
                     std::to_string(kMaxCommandBuffers) + " buffers exist, none is committed");
  }
  shared.progress.wait(lock, [&] { return shared.unfinished < kMaxCommandBuffers; });
  ++shared.unfinished;
}

CommandBuffer::~CommandBuffer() {
  if (state->status == Status::NotEnqueued) {
    for (id resource : state->resources) objc_release(resource);
    if (!orphaned(*state)) {
      std::lock_guard lock(state->queue_state->mutex);
      --state->queue_state->unfinished;
      state->queue_state->progress.notify_all();
    }
  }
  objc_release(state->queue);
}

id new_command_buffer(CommandQueue* queue) { return make_autoreleased<CommandBuffer>(queue); }

void check_open_for_encoding(CommandBuffer* buffer, const char* selector) {
  CommandBuffer::State& state = *buffer->state;
  if (state.status != Status::NotEnqueued) {
    abort_like_apple(std::string(selector) + ": the command buffer is already committed");
  }
  if (state.encoder_open) {
    abort_like_apple(std::string(selector) +
                     ": A command encoder is already encoding to this command buffer");
  }
}

void CommandBuffer::append(Command command, const std::vector<id>& resources) {
  std::lock_guard lock(state->mutex);
  check_open_for_encoding(this, "encode");
  state->commands.push_back(std::move(command));
  for (id resource : resources) state->resources.push_back(objc_retain(resource));
}

void commit(CommandBuffer* buffer) {
  CommandBuffer::State& state = *buffer->state;
  {
    std::lock_guard lock(state.mutex);
    if (state.status != Status::NotEnqueued) {
      abort_like_apple("-[MTLCommandBuffer commit]: commit an already committed command buffer");
    }
    if (state.encoder_open) {
      abort_like_apple(
          "-[MTLCommandBuffer commit]: commit command buffer with uncommitted encoder");
    }
    state.fail_at = injected_failure(state);
    state.status = Status::Committed;
  }
  objc_retain(buffer);  // until it has finished
  submit(buffer);
}

void wait_until_completed(CommandBuffer* buffer) {
  CommandBuffer::State& state = *buffer->state;
  if (state.status == Status::NotEnqueued) {
    abort_like_apple("-[MTLCommandBuffer waitUntilCompleted]: the command buffer is not committed");
  }
  if (orphaned(state)) {  // nobody is left to complete it
    if (state.status < Status::Completed) state.status = Status::Error;
    return;
  }
  std::unique_lock lock(state.mutex);
  state.changed.wait(lock, [&] { return state.finished; });
}

void add_completed_handler(CommandBuffer* buffer, id block) {
  CommandBuffer::State& state = *buffer->state;
  if (!block) abort_like_apple("-[MTLCommandBuffer addCompletedHandler:]: nil block");
  std::lock_guard lock(state.mutex);
  if (state.status != Status::NotEnqueued) {
    abort_like_apple(
        "-[MTLCommandBuffer addCompletedHandler:]: Completed handler provided after commit call");
  }
  state.handlers.emplace_back(block);
}

void encode_signal(CommandBuffer* buffer, id event, uint64_t value) {
  auto* signaled = as<SharedEvent>(event, "encodeSignalEvent:value: event");
  if (!signaled) abort_like_apple("encodeSignalEvent:value: event is nil");
  buffer->append({"", [=] { signaled->signal(value); }}, {event});
}

void encode_wait(CommandBuffer* buffer, id event, uint64_t value) {
  auto* awaited = as<SharedEvent>(event, "encodeWaitForEvent:value: event");
  if (!awaited) abort_like_apple("encodeWaitForEvent:value: event is nil");
  buffer->append({"", [=] { awaited->wait(value); }}, {event});
}

id error_of(CommandBuffer* buffer) {
  CommandBuffer::State& state = *buffer->state;
  if (state.status != Status::Error) return nullptr;
  return make_autoreleased<Error>(kErrorInternal, state.error);
}

void SharedEvent::signal(uint64_t v) {
  std::lock_guard lock(mutex);
  if (v > value) value = v;
  changed.notify_all();
}

void SharedEvent::wait(uint64_t v) {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return value >= v; });
}

// ---- selectors: MTLCommandBuffer, and MPSCommandBuffer, which forwards to its root --------------

static CommandBuffer* target(CommandBuffer* self) { return self; }
static CommandBuffer* target(MpsCommandBuffer* self) { return self->root; }

template <class T>
struct CommandBufferMethods {
  static void commit(T* self) { host::commit(target(self)); }
  static void wait(T* self) { wait_until_completed(target(self)); }
  static mtl::CommandBufferStatus status(T* self) { return target(self)->state->status; }
  static id error(T* self) { return error_of(target(self)); }
  static double gpu_start(T* self) { return target(self)->state->gpu_start; }
  static double gpu_end(T* self) { return target(self)->state->gpu_end; }
  static void add_handler(T* self, id block) { add_completed_handler(target(self), block); }
  static void signal(T* self, id event, uint64_t v) { encode_signal(target(self), event, v); }
  static void wait_event(T* self, id event, uint64_t v) { encode_wait(target(self), event, v); }
  static id blit(T* self) { return new_blit_encoder(target(self)); }
  static id compute(T* self) { return new_compute_encoder(target(self)); }
  static void set_label(T* self, id label) {
    auto* text = as<String>(label, "setLabel:");
    target(self)->state->label = text ? text->text : "";
  }

  explicit CommandBufferMethods(const char* class_name) {
    add<&commit>(class_name, "commit");
    add<&wait>(class_name, "waitUntilCompleted");
    add<&status>(class_name, "status");
    add<&error>(class_name, "error");
    add<&gpu_start>(class_name, "GPUStartTime");
    add<&gpu_end>(class_name, "GPUEndTime");
    add<&add_handler>(class_name, "addCompletedHandler:");
    add<&signal>(class_name, "encodeSignalEvent:value:");
    add<&wait_event>(class_name, "encodeWaitForEvent:value:");
    add<&blit>(class_name, "blitCommandEncoder");
    add<&compute>(class_name, "computeCommandEncoder");
    add<&set_label>(class_name, "setLabel:");
  }
  template <auto F>
  static void add(const char* class_name, const char* selector) {
    register_method(class_name, selector, false, Thunk<F>::method());
  }
};
static const CommandBufferMethods<CommandBuffer> kMetalMethods("MTLCommandBuffer");
static const CommandBufferMethods<MpsCommandBuffer> kMpsMethods("MPSCommandBuffer");

HOST_CLASS(MTLCommandQueue, NSObject);
HOST_METHOD(MTLCommandQueue, "commandBuffer",
            [](CommandQueue* self) -> id { return new_command_buffer(self); });
HOST_METHOD(MTLCommandQueue, "setLabel:", [](CommandQueue* self, id label) -> void {
  auto* text = as<String>(label, "setLabel:");
  self->label = text ? text->text : "";
});

HOST_CLASS(MTLSharedEvent, NSObject);
HOST_METHOD(MTLSharedEvent, "signaledValue", [](SharedEvent* self) -> uint64_t {
  std::lock_guard lock(self->mutex);
  return self->value;
});
HOST_METHOD(MTLSharedEvent, "setSignaledValue:", [](SharedEvent* self, uint64_t value) -> void {
  self->signal(value);
});

}  // namespace host
