// Encoders: they collect commands and hand them to their command buffer at endEncoding.
#pragma once

#include "plugin/host/metal/command.h"

namespace host {

struct Encoder : Object {
  explicit Encoder(CommandBuffer* target);  // retains
  ~Encoder() override;
  // Aborts after endEncoding. `tells_writes`: see Command.
  void add(std::function<void()> run, const std::vector<id>& used, bool tells_writes = false);
  void check_open(const char* selector) const;
  void end();

  CommandBuffer* buffer;
  std::string_view label;         // of one of the resources
  std::vector<Command> commands;  // without label
  std::vector<id> resources;      // retained
  bool ended = false;
};

id new_blit_encoder(CommandBuffer* buffer);     // autoreleased
id new_compute_encoder(CommandBuffer* buffer);  // autoreleased

}  // namespace host
