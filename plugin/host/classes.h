// Inside the host runtime: what a class is. Other host code uses host.h.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "plugin/host/host.h"

struct objc_selector {
  std::string name;
};

namespace host {

// A class and, through `isa`, its metaclass (which holds the class methods).
struct ClassObject : objc_object {
  std::string name;
  bool is_meta = false;
  ClassObject* super = nullptr;
  std::unordered_map<SEL, Method> methods;
  std::atomic<long> live{0};  // objects of exactly this class

  // Methods of the class and its ancestors as an open-addressing table, made at the first message.
  struct Slot {
    SEL selector;
    const Method* method;
  };
  struct Table {
    size_t mask;
    std::unique_ptr<Slot[]> slots;
  };
  std::atomic<const Table*> table{nullptr};

  const Method* find(SEL selector);

 private:
  const Table* build_table();
};

// The class of a live object. Aborts when the object was freed.
inline ClassObject* class_of(const objc_object* object) {
  return static_cast<ClassObject*>(object->isa);
}
[[noreturn]] void abort_use_after_free(const objc_object* object, const char* what);

// Locks that a forked child must find unlocked: those of the runtime's tables.
std::mutex& runtime_mutex();

}  // namespace host
