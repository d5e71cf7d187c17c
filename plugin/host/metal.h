// Host versions of the Metal classes. A command buffer is a list of closures; its queue's worker
// thread runs them in order after commit.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "plugin/host/chaos.h"
#include "plugin/host/foundation.h"

namespace host {

struct Buffer : Object {
  static constexpr const char* kClass = "MTLBuffer";
  explicit Buffer(size_t length);
  ~Buffer() override;
  char* bytes = nullptr;  // page aligned
  size_t length = 0;
};

// What a queue executes. `label` names the encoder in errors and for TF_METAL_HOST_FAIL; it is part
// of a resource of the command buffer.
struct Command {
  std::string_view label;
  std::function<void()> run;
  bool tells_writes = false;  // calls forget_operands_at() for each buffer that it writes
};

struct CommandQueue;  // plugin/host/metal/command.h

struct CommandBuffer : Object {
  static constexpr const char* kClass = "MTLCommandBuffer";
  explicit CommandBuffer(CommandQueue* queue);  // retains
  ~CommandBuffer() override;
  // Appends work. `resources` are retained until the buffer completed, as Metal does.
  // Aborts when the buffer was committed already or an encoder is open.
  void append(Command command, const std::vector<id>& resources);
  struct State;
  std::shared_ptr<State> state;
};

// MPSCommandBuffer: forwards to a root command buffer, which MPSGraph may commit and replace.
struct MpsCommandBuffer : Object {
  static constexpr const char* kClass = "MPSCommandBuffer";
  explicit MpsCommandBuffer(CommandBuffer* first);  // retains
  ~MpsCommandBuffer() override;
  CommandBuffer* root;
  // Commits root and continues in a new buffer of the same queue. Chaos mode does it at random.
  void commit_and_continue();
  void maybe_commit_and_continue();
};

}  // namespace host
