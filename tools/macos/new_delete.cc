// operator new and delete of a cross-built library. zig's libc++ is linked statically and hidden,
// all but these: they are weak, so that they would be exported and bound to those of whatever else
// is in the process. These are not weak, and tools/macos/seal.py takes them out of the exports.
#include <cstdlib>
#include <new>

namespace {

constexpr std::align_val_t kDefault{__STDCPP_DEFAULT_NEW_ALIGNMENT__};

void* allocate(size_t size, std::align_val_t alignment) {
  const size_t align = static_cast<size_t>(alignment);
  if (size == 0) size = 1;
  if (align <= static_cast<size_t>(kDefault)) return std::malloc(size);
  void* memory = nullptr;
  return posix_memalign(&memory, align, size) == 0 ? memory : nullptr;
}

void* allocate_or_throw(size_t size, std::align_val_t alignment) {
  while (true) {
    if (void* memory = allocate(size, alignment)) return memory;
    const std::new_handler handler = std::get_new_handler();
    if (!handler) throw std::bad_alloc();
    handler();
  }
}

void* allocate_or_null(size_t size, std::align_val_t alignment) noexcept {
  try {
    return allocate_or_throw(size, alignment);
  } catch (...) {
    return nullptr;
  }
}

}  // namespace

#define TFMETAL_NEW_DELETE(NEW, DELETE)                                                \
  void* NEW(size_t size) { return allocate_or_throw(size, kDefault); }                 \
  void* NEW(size_t size, std::align_val_t alignment) {                                 \
    return allocate_or_throw(size, alignment);                                         \
  }                                                                                    \
  void* NEW(size_t size, const std::nothrow_t&) noexcept {                             \
    return allocate_or_null(size, kDefault);                                           \
  }                                                                                    \
  void* NEW(size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept { \
    return allocate_or_null(size, alignment);                                          \
  }                                                                                    \
  void DELETE(void* p) noexcept { std::free(p); }                                      \
  void DELETE(void* p, size_t) noexcept { std::free(p); }                              \
  void DELETE(void* p, std::align_val_t) noexcept { std::free(p); }                    \
  void DELETE(void* p, size_t, std::align_val_t) noexcept { std::free(p); }            \
  void DELETE(void* p, const std::nothrow_t&) noexcept { std::free(p); }               \
  void DELETE(void* p, std::align_val_t, const std::nothrow_t&) noexcept { std::free(p); }

TFMETAL_NEW_DELETE(operator new, operator delete)
TFMETAL_NEW_DELETE(operator new[], operator delete[])
