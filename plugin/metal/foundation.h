// Foundation, as far as Metal and MPSGraph need it. Factory methods return autoreleased objects.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plugin/metal/objc.h"

namespace ns {

using objc::AutoreleasePool;
using objc::Object;
using objc::Ref;
using objc::send;

struct Range {
  static constexpr const char* kEncoding = "{_NSRange=QQ}";
  NSUInteger location, length;
};

struct String : Object {
  using Object::Object;
  static String make(const std::string& text) {
    return send<String>(objc_getClass("NSString"), OBJC_SEL("stringWithUTF8String:"), text.c_str());
  }
  std::string str() const {
    const char* text = send<const char*>(raw(), OBJC_SEL("UTF8String"));
    return text ? text : "";
  }
};

struct Number : Object {
  using Object::Object;
  static Number make(NSInteger value) {
    return send<Number>(objc_getClass("NSNumber"), OBJC_SEL("numberWithInteger:"), value);
  }
  NSInteger integer() const { return send<NSInteger>(raw(), OBJC_SEL("integerValue")); }
};

struct Array : Object {
  using Object::Object;
  static Array make(std::span<const id> objects) {
    return send<Array>(objc_getClass("NSArray"), OBJC_SEL("arrayWithObjects:count:"),
                       static_cast<const void*>(objects.data()), NSUInteger(objects.size()));
  }
  // A shape, a permutation or a list of axes: an array of NSNumber.
  template <class T>
  static Array numbers(const std::vector<T>& values) {
    std::vector<id> objects;
    objects.reserve(values.size());
    for (T value : values) objects.push_back(Number::make(NSInteger(value)).raw());
    return make(objects);
  }
  NSUInteger count() const { return send<NSUInteger>(raw(), OBJC_SEL("count")); }
  id operator[](NSUInteger i) const { return send<id>(raw(), OBJC_SEL("objectAtIndex:"), i); }
};

struct Dictionary : Object {
  using Object::Object;
  static Dictionary make(std::span<const id> keys, std::span<const id> objects) {
    return send<Dictionary>(objc_getClass("NSDictionary"),
                            OBJC_SEL("dictionaryWithObjects:forKeys:count:"),
                            static_cast<const void*>(objects.data()),
                            static_cast<const void*>(keys.data()), NSUInteger(keys.size()));
  }
  NSUInteger count() const { return send<NSUInteger>(raw(), OBJC_SEL("count")); }
  id operator[](id key) const { return send<id>(raw(), OBJC_SEL("objectForKey:"), key); }
};

struct Data : Object {
  using Object::Object;
  static Data make(const void* bytes, size_t length) {
    return send<Data>(objc_getClass("NSData"), OBJC_SEL("dataWithBytes:length:"), bytes,
                      NSUInteger(length));
  }
};

struct URL : Object {
  using Object::Object;
  static URL file(const std::string& path) {
    return send<URL>(objc_getClass("NSURL"), OBJC_SEL("fileURLWithPath:"), String::make(path));
  }
};

struct Error : Object {
  using Object::Object;
  NSInteger code() const { return send<NSInteger>(raw(), OBJC_SEL("code")); }
  std::string description() const {
    return send<String>(raw(), OBJC_SEL("localizedDescription")).str();
  }
};

}  // namespace ns
