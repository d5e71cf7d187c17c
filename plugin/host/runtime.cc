// Classes, selectors, dispatch and the checks of call sites.
#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <shared_mutex>
#include <utility>

#include "plugin/env.h"
#include "plugin/host/block.h"
#include "plugin/host/catalogue.h"
#include "plugin/host/classes.h"
#include "plugin/metal/introspection.h"

namespace host {
namespace {

// Tables are never destroyed: objects may outlive static destructors.
template <class T>
T& immortal() {
  static T* const value = new T;
  return *value;
}

using ClassMap = std::map<std::string, ClassObject*, std::less<>>;
ClassMap& classes() { return immortal<ClassMap>(); }

ClassObject* new_class(const std::string& name, bool is_meta) {
  auto* c = new ClassObject;
  c->name = name;
  c->is_meta = is_meta;
  return c;
}

// Call with runtime_mutex() held.
ClassObject* class_named(const std::string& name) {
  ClassObject*& c = classes()[name];
  if (c) return c;
  c = new_class(name, false);
  ClassObject* meta = new_class(name, true);
  c->isa = meta;
  if (name != "NSObject") {
    ClassObject* root = class_named("NSObject");
    classes()[name]->super = root;
    meta->super = class_of(root);
  } else {
    meta->super = c;  // as in Objective-C: class objects answer NSObject's instance methods
  }
  return classes()[name];
}

void forget_method_tables() {  // old tables stay: another thread may be reading one
  for (auto& [name, c] : classes()) {
    c->table = nullptr;
    class_of(c)->table = nullptr;
  }
}

size_t slot_of(SEL selector) { return reinterpret_cast<size_t>(selector) >> 5; }

// Classes of this prefix are made up by tests and not compared with the catalogue.
constexpr const char* kTestPrefix = "HostTest";

std::string spelled(const ClassObject* c, const std::string& selector) {
  return std::string(c->is_meta ? "+[" : "-[") + c->name + " " + selector + "]";
}
std::string version_text(int macos) {
  return std::to_string(macos / 100) + "." + std::to_string(macos % 100);
}
bool available(int macos) { return macos_at_least(macos / 100, macos % 100); }

// What Apple declares for a message to an object of class `c`. A class object also answers the
// instance methods of NSObject. Null when there is nothing.
const CatalogueMethod* declared_by_apple(const ClassObject* c, const std::string& selector) {
  if (!c->is_meta) return find_in_catalogue(c->name, '-', selector);
  const CatalogueMethod* method = find_in_catalogue(c->name, '+', selector);
  return method ? method : find_in_catalogue("NSObject", '-', selector);
}

[[noreturn]] void abort_unrecognized(ClassObject* c, SEL selector) {
  const bool known = declared_by_apple(c, selector->name);
  abort_like_apple(spelled(c, selector->name) + ": unrecognized selector; " +
                   (known ? "Apple has it, the host does not implement it"
                          : "NOT IN APPLE'S CATALOGUE: it would crash on macOS too"));
}

void check(id self, const objc::Selector& site, const char* caller) {
  if (is_block(self)) abort_like_apple("message " + site.sel->name + " sent to a block");
  if (self->references.load(std::memory_order_relaxed) <= 0) {
    abort_use_after_free(self, site.sel->name.c_str());
  }
  ClassObject* c = class_of(self);
  const std::string& selector = site.sel->name;
  const std::string call = spelled(c, selector);
  if (c->name.compare(0, std::strlen(kTestPrefix), kTestPrefix) != 0) {
    const CatalogueMethod* apple = declared_by_apple(c, selector);
    if (!apple) abort_unrecognized(c, site.sel);
    if (std::strcmp(apple->encoding, caller) != 0) {
      abort_like_apple(call + " called with types " + caller + ", Apple declares " +
                       apple->encoding);
    }
    if (!available(apple->macos)) {
      abort_like_apple(call + " needs macOS " + version_text(apple->macos) + ", simulating " +
                       tfmetal::env::text(tfmetal::env::kHostMacos));
    }
  }
  const Method* method = c->find(site.sel);
  if (!method) abort_unrecognized(c, site.sel);
  if (method->encoding != caller) {
    abort_like_apple(call + " called with types " + caller + ", the host implements " +
                     method->encoding);
  }
}

// Call sites that meet several classes: (site, class) pairs already checked.
using CheckedPair = std::pair<const void*, Class>;
struct CheckedPairs {
  std::shared_mutex mutex;
  std::set<CheckedPair> pairs;
};

// A forked child must not find a lock held by a thread that it does not have.
void lock_for_fork() {
  immortal<CheckedPairs>().mutex.lock();
  runtime_mutex().lock();
}
void unlock_in_parent() {
  runtime_mutex().unlock();
  immortal<CheckedPairs>().mutex.unlock();
}
// A reader-writer lock belongs to a thread id, which the child has not: it gets a new one.
void unlock_in_child() {
  runtime_mutex().unlock();
  new (&immortal<CheckedPairs>().mutex) std::shared_mutex;
}
[[maybe_unused]] const int fork_handlers =
    pthread_atfork(&lock_for_fork, &unlock_in_parent, &unlock_in_child);

// The class of a name, found without the lock when this thread asked for it before.
ClassObject* remembered_class(const char* name) {
  constexpr size_t kEntries = 64;  // more than there are call sites with a class name in hot paths
  thread_local ClassObject* entries[kEntries] = {};
  ClassObject*& entry = entries[(reinterpret_cast<size_t>(name) >> 3) % kEntries];
  if (entry && entry->name == name) return entry;
  std::lock_guard lock(runtime_mutex());
  const auto found = classes().find(std::string_view(name));
  if (found == classes().end()) return nullptr;
  return entry = found->second;
}

}  // namespace

std::mutex& runtime_mutex() { return immortal<std::mutex>(); }

const Method* ClassObject::find(SEL selector) {
  const Table* t = table.load(std::memory_order_acquire);
  if (!t) t = build_table();
  for (size_t i = slot_of(selector) & t->mask;; i = (i + 1) & t->mask) {
    if (t->slots[i].selector == selector) return t->slots[i].method;
    if (!t->slots[i].selector) return nullptr;
  }
}

const ClassObject::Table* ClassObject::build_table() {
  std::lock_guard lock(runtime_mutex());
  if (const Table* built = table.load(std::memory_order_acquire)) return built;
  std::unordered_map<SEL, const Method*> all;
  for (ClassObject* c = this; c; c = c->super) {
    for (auto& [selector, method] : c->methods) all.emplace(selector, &method);
  }
  size_t capacity = 16;
  while (capacity < 3 * all.size()) capacity *= 2;
  auto* t = new Table{capacity - 1, std::make_unique<Slot[]>(capacity)};
  for (auto& [selector, method] : all) {
    size_t i = slot_of(selector) & t->mask;
    while (t->slots[i].selector) i = (i + 1) & t->mask;
    t->slots[i] = {selector, method};
  }
  table.store(t, std::memory_order_release);
  return t;
}

void register_class(const char* name, const char* super) {
  std::lock_guard lock(runtime_mutex());
  ClassObject* c = class_named(name);
  if (!super) return;
  ClassObject* parent = class_named(super);
  c->super = parent;
  class_of(c)->super = class_of(parent);
  forget_method_tables();
}

void register_method(const char* class_name, const char* selector, bool class_method,
                     Method method) {
  const SEL sel = sel_registerName(selector);
  std::lock_guard lock(runtime_mutex());
  ClassObject* c = class_named(class_name);
  if (class_method) c = class_of(c);
  if (!c->methods.emplace(sel, std::move(method)).second) {
    abort_like_apple(spelled(c, selector) + " is registered twice");
  }
  forget_method_tables();
}

Object* set_class(Object* object, const char* class_name) {
  ClassObject* c = remembered_class(class_name);
  if (!c) abort_like_apple(std::string(class_name) + " is not a class of the host");
  object->isa = c;
  c->live.fetch_add(1, std::memory_order_relaxed);
  return object;
}

const char* class_name(const Object* object) {
  if (is_block(object)) return "NSBlock";
  return class_of(object)->name.c_str();
}

bool is_kind_of(const Object* object, const char* class_name) {
  for (ClassObject* c = class_of(object); c; c = c->super) {
    if (c->name == class_name) return true;
  }
  return false;
}

long live_objects(const char* class_name) {
  std::lock_guard lock(runtime_mutex());
  const auto found = classes().find(std::string_view(class_name));
  return found == classes().end() ? 0 : found->second->live.load();
}

void abort_like_apple(const std::string& message) {
  std::fprintf(stderr, "*** host: %s\n", message.c_str());
  std::fflush(stderr);
  std::abort();
}

bool macos_at_least(int major, int minor) {
  const std::string text = tfmetal::env::text(tfmetal::env::kHostMacos);
  char* rest = nullptr;
  const long simulated_major = std::strtol(text.c_str(), &rest, 10);
  const long simulated_minor = *rest == '.' ? std::strtol(rest + 1, nullptr, 10) : 0;
  return std::pair<long, long>(simulated_major, simulated_minor) >=
         std::pair<long, long>(major, minor);
}

void for_each_declared(const std::function<void(const CatalogueMethod&)>& visit) {
  std::lock_guard lock(runtime_mutex());
  for (auto& [name, c] : classes()) {
    if (name.compare(0, std::strlen(kTestPrefix), kTestPrefix) == 0) continue;
    for (ClassObject* side : {c, class_of(c)}) {
      std::set<std::string> selectors;  // in order
      for (auto& [selector, method] : side->methods) selectors.insert(selector->name);
      for (const std::string& selector : selectors) {
        const CatalogueMethod* apple = declared_by_apple(side, selector);
        if (!apple) continue;
        visit({name, selector, apple->encoding, side->is_meta ? '+' : '-', apple->macos});
      }
    }
  }
}

// ---- NSObject ----------------------------------------------------------------------------------

namespace {

// What +alloc answers until an initializer replaces it.
struct Placeholder : Object {};

bool responds(Object* self, SEL selector) {
  ClassObject* c = class_of(self);
  const CatalogueMethod* apple = declared_by_apple(c, selector->name);
  return c->find(selector) && (!apple || available(apple->macos));
}

id alloc(Object* self) {
  auto* c = static_cast<ClassObject*>(self);
  Object* object = new Placeholder;
  object->isa = c;
  c->live.fetch_add(1, std::memory_order_relaxed);
  return object;
}

id new_object(Object* self) {
  static const SEL init = sel_registerName("init");
  id object = alloc(self);
  const Method* method = class_of(object)->find(init);
  return reinterpret_cast<id (*)(id, SEL)>(method->implementation)(object, init);
}

id init(Object* self) {
  abort_like_apple("-[" + std::string(class_name(self)) + " init]: not an initializer of it");
}

}  // namespace

HOST_CLASS_METHOD(NSObject, "alloc", [](Object* self) -> id { return alloc(self); });
HOST_CLASS_METHOD(NSObject, "new", [](Object* self) -> id { return new_object(self); });
HOST_METHOD(NSObject, "init", [](Object* self) -> id { return init(self); });
HOST_METHOD(NSObject, "hash", [](Object* self) -> NSUInteger { return self->hash(); });
HOST_METHOD(NSObject, "isEqual:", [](Object* self, id other) -> bool {
  return self == other || (other && self->equals(other));
});
HOST_METHOD(NSObject, "isKindOfClass:", [](Object* self, id kind) -> bool {
  return is_kind_of(self, static_cast<ClassObject*>(kind)->name.c_str());
});
HOST_METHOD(NSObject, "respondsToSelector:", [](Object* self, SEL selector) -> bool {
  return responds(self, selector);
});

}  // namespace host

// ---- entry points ------------------------------------------------------------------------------

extern "C" {

SEL sel_registerName(const char* name) {
  using Selectors = std::map<std::string, objc_selector*, std::less<>>;
  std::lock_guard lock(host::runtime_mutex());
  auto& all = host::immortal<Selectors>();
  auto found = all.find(std::string_view(name));
  if (found == all.end()) found = all.emplace(name, new objc_selector{name}).first;
  return found->second;
}

Class objc_getClass(const char* name) {
  if (Class known = host::remembered_class(name)) return known;
  host::abort_like_apple("objc_getClass(\"" + std::string(name) + "\"): " +
                         (host::class_in_catalogue(name)
                              ? "Apple has it, the host does not implement it"
                              : "NOT IN APPLE'S CATALOGUE"));
}

Class objc_lookUpClass(const char* name) { return host::remembered_class(name); }

objc_method* class_getInstanceMethod(Class c, SEL selector) {
  auto* known = static_cast<host::ClassObject*>(c);
  const host::CatalogueMethod* apple = host::declared_by_apple(known, selector->name);
  if (apple && !host::available(apple->macos)) return nullptr;
  return reinterpret_cast<objc_method*>(const_cast<host::Method*>(known->find(selector)));
}

objc_method* class_getClassMethod(Class c, SEL selector) {
  return class_getInstanceMethod(host::class_of(c), selector);
}

const char* method_getTypeEncoding(const objc_method* method) {
  return reinterpret_cast<const host::Method*>(method)->encoding.c_str();
}

// What Apple declares as protocols are classes here.
objc_protocol* objc_getProtocol(const char*) { return nullptr; }

objc_method_description protocol_getMethodDescription(objc_protocol*, SEL, bool, bool) {
  return {};
}

void objc_host_check(id self, const objc::Selector& site, const char* caller_signature) {
  if (!self) return;
  // Relaxed: a stale value only repeats a check.
  if (__atomic_load_n(&site.checked, __ATOMIC_RELAXED) == self->isa) return;
  auto& known = host::immortal<host::CheckedPairs>();
  const host::CheckedPair pair(&site, self->isa);
  {
    std::shared_lock lock(known.mutex);
    if (known.pairs.count(pair)) return;
  }
  host::check(self, site, caller_signature);
  __atomic_store_n(&site.checked, self->isa, __ATOMIC_RELAXED);
  std::unique_lock lock(known.mutex);
  known.pairs.insert(pair);
}

// Called by the trampolines in msg_send.cc.
__attribute__((used)) void* objc_host_lookup(id self, SEL selector) {
  if (self->references.load(std::memory_order_relaxed) <= 0) {
    host::abort_use_after_free(self, selector->name.c_str());
  }
  host::ClassObject* c = host::class_of(self);
  const host::Method* method = c->find(selector);
  if (!method) host::abort_unrecognized(c, selector);
  return method->implementation;
}

}  // extern "C"
