// The Linux side of the seam: what a host class looks like and how its methods are registered.
//
//   struct SharedEvent : host::Object {
//     static constexpr const char* kClass = "MTLSharedEvent";
//     ...
//   };
//   HOST_METHOD(MTLSharedEvent, "signaledValue", [](SharedEvent* self) -> uint64_t { ... });
//
// A method is an ordinary function; its C++ types give the encoding that call sites are checked
// against. Registration happens in static initialisers, so the tables never change afterwards.
//
// +alloc answers a placeholder of the class; an initializer is registered without a receiver and
// returns the object that takes the placeholder's place:
//
//   HOST_INIT(MPSGraphShapedType, "initWithShape:dataType:",
//             [](id shape, DataType type) -> id { return make<ShapedType>(shape, type); });
//
// With HOST_INIT(..., "init", ...) the class also answers +new.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "plugin/metal/objc.h"

// What an `id` points to on Linux (but a block is a Block_literal: see plugin/host/block.h).
struct objc_object {
  Class isa = nullptr;
  std::atomic<long> references{1};
  virtual ~objc_object();
  // Freed objects are kept for a while as zombies, to recognise messages to them.
  static void* operator new(size_t size);
  static void operator delete(void* memory);
  virtual size_t hash() const { return reinterpret_cast<size_t>(this); }
  virtual bool equals(const objc_object* other) const { return this == other; }
};

extern "C" id objc_autorelease(id);

namespace host {

using Object = objc_object;

struct Method {
  void* implementation;
  std::string encoding;
};
// `super` may be null: then the class keeps the one it has (NSObject at first).
void register_class(const char* name, const char* super);
void register_method(const char* class_name, const char* selector, bool class_method,
                     Method method);
// Sets the class of a new object. Returns `object`.
Object* set_class(Object* object, const char* class_name);
const char* class_name(const Object* object);
bool is_kind_of(const Object* object, const char* class_name);
// Objects that are alive, by class name: for the leak tests.
long live_objects(const char* class_name);
// Objects that were autoreleased on a thread without a pool: each of them has leaked.
long autoreleased_without_pool();

// Prints "*** host: " and the message, then aborts: what Apple's frameworks do on misuse.
[[noreturn]] void abort_like_apple(const std::string& message);

// Whether the simulated macOS (TF_METAL_HOST_MACOS) is at least major.minor.
bool macos_at_least(int major, int minor);

// A new object with reference count 1.
template <class T, class... A>
T* make(A&&... args) {
  T* object = new T(std::forward<A>(args)...);
  set_class(object, T::kClass);
  return object;
}
template <class T, class... A>
T* make_autoreleased(A&&... args) {
  return static_cast<T*>(objc_autorelease(make<T>(std::forward<A>(args)...)));
}
// Checked downcast; aborts with a message when `object` is something else. nil stays nil.
template <class T>
T* as(id object, const char* role) {
  if (!object) return nullptr;
  T* typed = dynamic_cast<T*>(object);
  if (!typed) {
    abort_like_apple(std::string(role) + " must be a " + T::kClass + ", got a " +
                     class_name(object));
  }
  return typed;
}

template <auto F>
struct Thunk;
template <class R, class S, class... A, R (*F)(S*, A...)>
struct Thunk<F> {
  static R call(id self, SEL, A... args) { return F(static_cast<S*>(self), args...); }
  static Method method() { return {reinterpret_cast<void*>(&call), objc::signature<R, A...>()}; }
};

template <auto F>
struct InitThunk;
template <class... A, id (*F)(A...)>
struct InitThunk<F> {
  static id call(id placeholder, SEL, A... args) {
    objc_release(placeholder);
    return F(args...);
  }
  static Method method() { return {reinterpret_cast<void*>(&call), objc::signature<id, A...>()}; }
};

struct MethodRegistration {
  MethodRegistration(const char* class_name, const char* selector, bool class_method, Method m) {
    register_method(class_name, selector, class_method, std::move(m));
  }
};
struct ClassRegistration {
  ClassRegistration(const char* name, const char* super) { register_class(name, super); }
};

}  // namespace host

#define HOST_CONCAT2(a, b) a##b
#define HOST_CONCAT(a, b) HOST_CONCAT2(a, b)
#define HOST_CLASS(name, super) \
  static ::host::ClassRegistration HOST_CONCAT(host_class_, __COUNTER__)(#name, #super)
#define HOST_METHOD(cls, selector, ...)                                     \
  static ::host::MethodRegistration HOST_CONCAT(host_method_, __COUNTER__)( \
      #cls, selector, false, ::host::Thunk<+__VA_ARGS__>::method())
#define HOST_CLASS_METHOD(cls, selector, ...)                               \
  static ::host::MethodRegistration HOST_CONCAT(host_method_, __COUNTER__)( \
      #cls, selector, true, ::host::Thunk<+__VA_ARGS__>::method())
#define HOST_INIT(cls, selector, ...)                                       \
  static ::host::MethodRegistration HOST_CONCAT(host_method_, __COUNTER__)( \
      #cls, selector, false, ::host::InitThunk<+__VA_ARGS__>::method())
