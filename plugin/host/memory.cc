// Reference counts, zombies, autorelease pools and blocks.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include "plugin/host/block.h"
#include "plugin/host/classes.h"

#if defined(__SANITIZE_ADDRESS__)
#define HOST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HOST_ASAN 1
#endif
#endif

// What _NSConcreteStackBlock and _NSConcreteMallocBlock are to Apple's runtime: marks of a block.
extern "C" {
void* _NSConcreteStackBlock[32];
void* _NSConcreteMallocBlock[32];
}

namespace host {
namespace {

constexpr long kZombie = -0x2bad0bad;  // reference count of a freed object

// The last freed objects, kept so that a message to one of them is recognised. Under
// AddressSanitizer memory is freed at once: its own quarantine knows more.
constexpr size_t kZombies = 1024;
std::array<std::atomic<void*>, kZombies> zombies;
std::atomic<size_t> next_zombie{0};

// The class of the object that this thread is destroying, for operator delete.
thread_local Class dying_class = nullptr;

struct Zombie : objc_object {};

void dealloc(id object) {
  const Class outer = dying_class;
  dying_class = object->isa;
  delete object;
  dying_class = outer;
}

std::atomic<long> leaked{0};

thread_local std::vector<id> pool_objects;    // autoreleased, oldest first
thread_local std::vector<size_t> pool_marks;  // where each pool of this thread begins

}  // namespace

bool is_block(const void* object) {
  return *static_cast<void* const*>(object) == _NSConcreteMallocBlock;
}

void abort_use_after_free(const objc_object* object, const char* what) {
  const char* name = object->isa ? class_of(object)->name.c_str() : "object";
  abort_like_apple(std::string(what) + " sent to a deallocated " + name);
}

long autoreleased_without_pool() { return leaked; }

}  // namespace host

objc_object::~objc_object() {
  if (isa) host::class_of(this)->live.fetch_sub(1, std::memory_order_relaxed);
}

void* objc_object::operator new(size_t size) { return ::operator new(size); }

void objc_object::operator delete(void* memory) {
#ifdef HOST_ASAN
  ::operator delete(memory);
#else
  auto* zombie = ::new (memory) host::Zombie;
  zombie->isa = host::dying_class;
  zombie->references.store(host::kZombie, std::memory_order_relaxed);
  const size_t slot = host::next_zombie.fetch_add(1, std::memory_order_relaxed) % host::kZombies;
  ::operator delete(host::zombies[slot].exchange(memory, std::memory_order_acq_rel));
#endif
}

extern "C" {

id objc_retain(id object) {
  if (!object) return nullptr;
  if (host::is_block(object)) return static_cast<id>(_Block_copy(object));
  if (object->references.fetch_add(1, std::memory_order_relaxed) <= 0) {
    host::abort_use_after_free(object, "retain");
  }
  return object;
}

void objc_release(id object) {
  if (!object) return;
  if (host::is_block(object)) return _Block_release(object);
  const long before = object->references.fetch_sub(1, std::memory_order_acq_rel);
  if (before <= 0) host::abort_use_after_free(object, "release");
  if (before == 1) host::dealloc(object);
}

id objc_autorelease(id object) {
  if (!object) return nullptr;
  if (host::pool_marks.empty()) {
    ++host::leaked;
    std::fprintf(stderr,
                 "*** host: %p of class %s autoreleased with no pool in place - just leaking\n",
                 static_cast<void*>(object), host::class_name(object));
  } else {
    host::pool_objects.push_back(object);
  }
  return object;
}

void* objc_autoreleasePoolPush() {
  host::pool_marks.push_back(host::pool_objects.size());
  return reinterpret_cast<void*>(host::pool_marks.size());
}

// Also ends the pools that were pushed after `token` and not popped, as Apple's runtime does.
void objc_autoreleasePoolPop(void* token) {
  const size_t depth = reinterpret_cast<size_t>(token);
  if (depth == 0 || depth > host::pool_marks.size()) {
    host::abort_like_apple("invalid or prematurely-freed autorelease pool");
  }
  const size_t mark = host::pool_marks[depth - 1];
  while (host::pool_objects.size() > mark) {  // a dealloc may autorelease more
    id object = host::pool_objects.back();
    host::pool_objects.pop_back();
    objc_release(object);
  }
  host::pool_marks.resize(depth - 1);
}

// ---- blocks (https://clang.llvm.org/docs/Block-ABI-Apple.html) ----------------------------------

struct BlockDescriptor {
  unsigned long reserved, size;
  void (*copy)(void*, const void*);
  void (*dispose)(const void*);
};
struct BlockHeader {
  void* isa;
  int flags;
  int reserved;
  void* invoke;
  const BlockDescriptor* descriptor;
};

// Bits of `flags`.
static constexpr int kReferenceMask = 0xfffe;  // the count, in steps of 2
static constexpr int kReferenceStep = 2;
static constexpr int kNeedsFree = 1 << 24;
static constexpr int kHasCopyDispose = 1 << 25;

void* _Block_copy(const void* source) {
  if (!source) return nullptr;
  auto* block = static_cast<BlockHeader*>(const_cast<void*>(source));
  if (block->isa == _NSConcreteMallocBlock) {
    __atomic_add_fetch(&block->flags, kReferenceStep, __ATOMIC_RELAXED);
    return block;
  }
  auto* copy = static_cast<BlockHeader*>(std::malloc(block->descriptor->size));
  std::memcpy(copy, block, block->descriptor->size);
  copy->isa = _NSConcreteMallocBlock;
  copy->flags = (block->flags & ~0xffff) | kNeedsFree | kReferenceStep;
  if (copy->flags & kHasCopyDispose) block->descriptor->copy(copy, block);
  return copy;
}

void _Block_release(const void* source) {
  auto* block = static_cast<BlockHeader*>(const_cast<void*>(source));
  if (!block || block->isa != _NSConcreteMallocBlock) return;
  const int flags = __atomic_sub_fetch(&block->flags, kReferenceStep, __ATOMIC_ACQ_REL);
  if (flags & kReferenceMask) return;
  if (flags & kHasCopyDispose) block->descriptor->dispose(block);
  std::free(block);
}

}  // extern "C"
