// Host versions of the Foundation classes in plugin/metal/foundation.h.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "plugin/host/host.h"

namespace host {

struct String : Object {
  static constexpr const char* kClass = "NSString";
  explicit String(std::string t) : text(std::move(t)) {}
  std::string text;
  size_t hash() const override { return std::hash<std::string>()(text); }
  bool equals(const Object* other) const override;
};

struct Number : Object {
  static constexpr const char* kClass = "NSNumber";
  explicit Number(NSInteger v) : value(v) {}
  NSInteger value;
  size_t hash() const override { return std::hash<NSInteger>()(value); }
  bool equals(const Object* other) const override;
};

struct Array : Object {  // retains its elements
  static constexpr const char* kClass = "NSArray";
  Array(const id* objects, size_t count);
  ~Array() override;
  std::vector<id> items;
};

struct Dictionary : Object {  // retains keys and values; keeps insertion order
  static constexpr const char* kClass = "NSDictionary";
  Dictionary(const id* keys, const id* values, size_t count);
  ~Dictionary() override;
  std::vector<std::pair<id, id>> items;
  id find(id key) const;

 private:
  std::unordered_multimap<size_t, size_t> index_;  // hash of a key -> place in items
};

struct Data : Object {
  static constexpr const char* kClass = "NSData";
  Data(const void* bytes, size_t length)
      : bytes(static_cast<const char*>(bytes), static_cast<const char*>(bytes) + length) {}
  std::vector<char> bytes;
};

struct Url : Object {
  static constexpr const char* kClass = "NSURL";
  explicit Url(std::string p) : path(std::move(p)) {}
  std::string path;
};

struct Error : Object {
  static constexpr const char* kClass = "NSError";
  Error(NSInteger c, std::string text) : code(c), description(std::move(text)) {}
  NSInteger code;
  std::string description;
};

// The integers of an NSArray<NSNumber *> (a shape, axes, ...). nil gives an empty list.
std::vector<long> numbers(id array);

}  // namespace host
