#include "plugin/host/metal/encoder.h"

#include <cstring>

namespace host {

Encoder::Encoder(CommandBuffer* target) : buffer(target) {
  {
    std::lock_guard lock(buffer->state->mutex);
    check_open_for_encoding(buffer, "new command encoder");
    buffer->state->encoder_open = true;
  }
  objc_retain(buffer);
}

Encoder::~Encoder() {
  if (!ended) abort_like_apple("Command encoder released without endEncoding");
  objc_release(buffer);
}

void Encoder::check_open(const char* selector) const {
  if (ended) abort_like_apple(std::string(selector) + ": the encoder has ended encoding");
}

void Encoder::add(std::function<void()> run, const std::vector<id>& used, bool tells_writes) {
  commands.push_back({{}, std::move(run), tells_writes});
  for (id resource : used) resources.push_back(objc_retain(resource));
}

void Encoder::end() {
  check_open("endEncoding");
  ended = true;
  std::lock_guard lock(buffer->state->mutex);
  buffer->state->encoder_open = false;
  for (Command& command : commands) {
    command.label = label;
    buffer->state->commands.push_back(std::move(command));
  }
  auto& kept = buffer->state->resources;
  kept.insert(kept.end(), resources.begin(), resources.end());
  commands.clear();
  resources.clear();
}

HOST_CLASS(MTLCommandEncoder, NSObject);
HOST_METHOD(MTLCommandEncoder, "endEncoding", [](Encoder* self) -> void { self->end(); });
HOST_METHOD(MTLCommandEncoder, "setLabel:", [](Encoder* self, id label) -> void {
  auto* text = as<String>(label, "setLabel:");
  self->label = {};
  if (!text) return;
  self->label = text->text;
  self->resources.push_back(objc_retain(text));
});

// ---- blit --------------------------------------------------------------------------------------

namespace {

struct BlitEncoder : Encoder {
  static constexpr const char* kClass = "MTLBlitCommandEncoder";
  using Encoder::Encoder;
};

constexpr size_t kBlitAlignment = 4;         // Apple's documentation of the copies' parameters
constexpr size_t kLargestBlit = 0xffffffff;  // pytorch#124335

// [offset, offset + size) must lie in the buffer; empty ranges are refused as Metal's validation
// does.
Buffer* checked_range(id object, size_t offset, size_t size, const char* what) {
  auto* buffer = as<Buffer>(object, what);
  if (!buffer) abort_like_apple(std::string(what) + " is nil");
  if (size > kLargestBlit) {
    abort_like_apple(std::string(what) + ": a Mac leaves blits of 4 GiB and more undone");
  }
  if (size == 0) abort_like_apple(std::string(what) + ": size must be greater than 0");
  if (offset > buffer->length || size > buffer->length - offset) {
    abort_like_apple(std::string(what) + ": offset " + std::to_string(offset) + " + size " +
                     std::to_string(size) + " exceeds the buffer length " +
                     std::to_string(buffer->length));
  }
  if ((offset | size) % kBlitAlignment != 0) {
    abort_like_apple(std::string(what) + ": offset " + std::to_string(offset) + " and size " +
                     std::to_string(size) + " must be multiples of 4 on macOS");
  }
  return buffer;
}

void copy(BlitEncoder* self, id from, NSUInteger from_offset, id to, NSUInteger to_offset,
          NSUInteger size) {
  self->check_open("copyFromBuffer:");
  const Buffer* source = checked_range(from, from_offset, size, "copyFromBuffer: source");
  const Buffer* target = checked_range(to, to_offset, size, "copyFromBuffer: destination");
  if (from == to && from_offset < to_offset + size && to_offset < from_offset + size) {
    abort_like_apple("copyFromBuffer: source and destination ranges overlap");
  }
  self->add([=] { std::memcpy(target->bytes + to_offset, source->bytes + from_offset, size); },
            {from, to});
}

void fill(BlitEncoder* self, id object, ns::Range range, uint8_t value) {
  self->check_open("fillBuffer:range:value:");
  const Buffer* buffer =
      checked_range(object, range.location, range.length, "fillBuffer:range:value:");
  self->add([=] { std::memset(buffer->bytes + range.location, value, range.length); }, {object});
}

}  // namespace

id new_blit_encoder(CommandBuffer* buffer) { return make_autoreleased<BlitEncoder>(buffer); }

HOST_CLASS(MTLBlitCommandEncoder, MTLCommandEncoder);
HOST_METHOD(MTLBlitCommandEncoder, "copyFromBuffer:sourceOffset:toBuffer:destinationOffset:size:",
            [](BlitEncoder* self, id from, NSUInteger from_offset, id to, NSUInteger to_offset,
               NSUInteger size) -> void { copy(self, from, from_offset, to, to_offset, size); });
HOST_METHOD(MTLBlitCommandEncoder, "fillBuffer:range:value:",
            [](BlitEncoder* self, id buffer, ns::Range range, uint8_t value) -> void {
              fill(self, buffer, range, value);
            });

}  // namespace host
