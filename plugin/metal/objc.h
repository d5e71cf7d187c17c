// The Objective-C runtime seen from C++: one typed message send, strong references, blocks.
//
// Every Metal call of the plugin goes through objc::send. On macOS it reaches libobjc; on Linux it
// reaches plugin/host, which additionally checks each call site against Apple's catalogue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>

#ifndef __APPLE__
#define TFMETAL_HOST 1  // the Linux implementation of the seam is linked in
#endif

using NSUInteger = unsigned long;
using NSInteger = long;
struct objc_object;
struct objc_selector;
using id = objc_object*;
using SEL = objc_selector*;
using Class = objc_object*;

extern "C" {
Class objc_getClass(const char* name);
SEL sel_registerName(const char* name);
void objc_msgSend(void);
#if defined(__x86_64__)
void objc_msgSend_stret(void);
#endif
id objc_retain(id);
void objc_release(id);
void* objc_autoreleasePoolPush(void);
void objc_autoreleasePoolPop(void*);
void* _Block_copy(const void*);
void _Block_release(const void*);
extern void* _NSConcreteStackBlock[32];
}

namespace objc {

// A class that holds one object pointer and nothing else; all typed wrappers derive from it.
// Copying does not retain: see Ref.
struct Object {
  id self = nullptr;
  Object() = default;
  explicit Object(id object) : self(object) {}
  id raw() const { return self; }
  explicit operator bool() const { return self != nullptr; }
  friend bool operator==(const Object& a, const Object& b) { return a.self == b.self; }
};

template <class T>
concept Wrapper = std::is_base_of_v<Object, T>;

// ---- type encodings, computed from the C++ types of a call ------------------------------------

template <class T>
struct Encoding;
#define OBJC_ENCODING(T, E)                 \
  template <>                               \
  struct Encoding<T> {                      \
    static constexpr const char* value = E; \
  }
OBJC_ENCODING(void, "v");
OBJC_ENCODING(bool, "B");
OBJC_ENCODING(unsigned char, "C");
OBJC_ENCODING(int, "i");
OBJC_ENCODING(unsigned, "I");
OBJC_ENCODING(long, "q");
OBJC_ENCODING(unsigned long, "Q");
OBJC_ENCODING(float, "f");
OBJC_ENCODING(double, "d");
OBJC_ENCODING(const char*, "*");
OBJC_ENCODING(SEL, ":");
OBJC_ENCODING(id, "@");
OBJC_ENCODING(void*, "^v");
OBJC_ENCODING(const void*, "^v");
OBJC_ENCODING(id*, "^v");
#undef OBJC_ENCODING
template <Wrapper T>
struct Encoding<T> {
  static constexpr const char* value = "@";
};
template <class T>
  requires std::is_enum_v<T>
struct Encoding<T> : Encoding<std::underlying_type_t<T>> {};
template <class T>  // structs passed by value spell their own layout
  requires requires { T::kEncoding; }
struct Encoding<T> {
  static constexpr const char* value = T::kEncoding;
};

template <class R, class... A>
const std::string& signature() {
  static const std::string text = [] {
    std::string s = std::string(Encoding<R>::value) + "@:";
    ((s += Encoding<A>::value), ...);
    return s;
  }();
  return text;
}

// ---- selectors and message sends ---------------------------------------------------------------

// One per call site. `checked` is the class that the host verified this call site for.
struct Selector {
  explicit Selector(const char* name) : sel(sel_registerName(name)) {}
  SEL sel;
#ifdef TFMETAL_HOST
  mutable Class checked = nullptr;
#endif
};
#define OBJC_SEL(name)                             \
  ([]() -> const ::objc::Selector& {               \
    static const ::objc::Selector call_site(name); \
    return call_site;                              \
  }())

#ifdef TFMETAL_HOST
// Aborts with a message when Apple's catalogue or the host has no such method of these types.
extern "C" void objc_host_check(id self, const Selector& site, const char* caller_signature);
#endif

template <class T>
struct Abi {
  using type = T;
  static const T& pass(const T& v) { return v; }
};
template <>
struct Abi<void> {
  using type = void;
};
template <Wrapper T>
struct Abi<T> {
  using type = id;
  static id pass(const T& v) { return v.raw(); }
};

// Sends `site` to `self`. A nil receiver answers zero, as in Objective-C.
template <class R, class... A>
R send(id self, const Selector& site, const A&... args) {
#ifdef TFMETAL_HOST
  objc_host_check(self, site, signature<R, A...>().c_str());
#endif
  using Raw = typename Abi<R>::type;
  auto entry = &objc_msgSend;
#if defined(__x86_64__)
  if constexpr (std::is_class_v<Raw>) {
    if constexpr (sizeof(Raw) > 16) entry = &objc_msgSend_stret;
  }
#endif
  if constexpr (std::is_class_v<Raw>) {
    if (!self) return R{};  // the runtime leaves a struct result of nil undefined
  }
  auto call = reinterpret_cast<Raw (*)(id, SEL, typename Abi<A>::type...)>(entry);
  if constexpr (std::is_void_v<R>) {
    call(self, site.sel, Abi<A>::pass(args)...);
  } else {
    return R(call(self, site.sel, Abi<A>::pass(args)...));
  }
}

// ---- ownership ---------------------------------------------------------------------------------

// A strong reference. The constructor adopts the +1 of a new/alloc/copy method.
template <class T>  // T is a Wrapper, possibly still incomplete here
class Ref : public T {
 public:
  Ref() = default;
  explicit Ref(T owned) : T(owned) {}
  static Ref retain(T borrowed) {
    objc_retain(borrowed.raw());
    return Ref(borrowed);
  }
  Ref(const Ref& other) : T(other) { objc_retain(this->raw()); }
  Ref(Ref&& other) noexcept : T(other) { other.self = nullptr; }
  Ref& operator=(Ref other) noexcept {
    std::swap(this->self, other.self);
    return *this;
  }
  ~Ref() { objc_release(this->raw()); }
};

// Frees on scope exit what Apple's methods autoreleased on this thread.
class AutoreleasePool {
 public:
  AutoreleasePool() : token_(objc_autoreleasePoolPush()) {}
  ~AutoreleasePool() { objc_autoreleasePoolPop(token_); }
  AutoreleasePool(const AutoreleasePool&) = delete;
  AutoreleasePool& operator=(const AutoreleasePool&) = delete;

 private:
  void* token_;
};

// ---- blocks, without compiler support (Apple's Block ABI) --------------------------------------

template <class F>
class Block;
template <class R, class... A>
class Block<R(A...)> : public Object {
 public:
  explicit Block(std::function<R(A...)> f) {
    Literal literal{_NSConcreteStackBlock, kHasCopyDispose, 0, &invoke, &kDescriptor, &f};
    self = static_cast<id>(_Block_copy(&literal));
  }
  ~Block() { _Block_release(self); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

 private:
  struct Descriptor {
    unsigned long reserved, size;
    void (*copy)(void*, const void*);
    void (*dispose)(const void*);
  };
  struct Literal {
    void* isa;
    int flags, reserved;
    R (*invoke)(Literal*, A...);
    const Descriptor* descriptor;
    std::function<R(A...)>* function;
  };
  static constexpr int kHasCopyDispose = 1 << 25;
  static R invoke(Literal* block, A... args) { return (*block->function)(args...); }
  static void copy(void* to, const void* from) {
    static_cast<Literal*>(to)->function =
        new std::function<R(A...)>(*static_cast<const Literal*>(from)->function);
  }
  static void dispose(const void* block) { delete static_cast<const Literal*>(block)->function; }
  inline static const Descriptor kDescriptor{0, sizeof(Literal), &copy, &dispose};
};

}  // namespace objc
