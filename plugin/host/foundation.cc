#include "plugin/host/foundation.h"

namespace host {

bool String::equals(const Object* other) const {
  auto* string = dynamic_cast<const String*>(other);
  return string && string->text == text;
}

bool Number::equals(const Object* other) const {
  auto* number = dynamic_cast<const Number*>(other);
  return number && number->value == value;
}

Array::Array(const id* objects, size_t count) : items(objects, objects + count) {
  for (id item : items) {
    if (!item) abort_like_apple("+[NSArray arrayWithObjects:count:]: attempt to insert nil");
    objc_retain(item);
  }
}
Array::~Array() {
  for (id item : items) objc_release(item);
}

Dictionary::Dictionary(const id* keys, const id* values, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (!keys[i] || !values[i]) {
      abort_like_apple(
          "+[NSDictionary dictionaryWithObjects:forKeys:count:]: "
          "attempt to insert nil");
    }
    if (find(keys[i])) continue;  // Apple keeps the first of equal keys
    index_.emplace(keys[i]->hash(), items.size());
    items.emplace_back(objc_retain(keys[i]), objc_retain(values[i]));
  }
}
Dictionary::~Dictionary() {
  for (auto& [key, value] : items) {
    objc_release(key);
    objc_release(value);
  }
}
id Dictionary::find(id key) const {
  if (!key) return nullptr;
  const auto [first, last] = index_.equal_range(key->hash());
  for (auto i = first; i != last; ++i) {
    const auto& [candidate, value] = items[i->second];
    if (candidate == key || candidate->equals(key)) return value;
  }
  return nullptr;
}

std::vector<long> numbers(id array) {
  std::vector<long> values;
  if (!array) return values;
  for (id item : as<Array>(array, "a list of numbers")->items) {
    values.push_back(as<Number>(item, "an element of a list of numbers")->value);
  }
  return values;
}

HOST_CLASS(NSString, NSObject);
HOST_CLASS_METHOD(NSString, "stringWithUTF8String:", [](Object*, const char* text) -> id {
  if (!text) abort_like_apple("+[NSString stringWithUTF8String:]: NULL string");
  return make_autoreleased<String>(text);
});
HOST_METHOD(NSString, "UTF8String", [](String* self) -> const char* { return self->text.c_str(); });
HOST_METHOD(NSString, "length", [](String* self) -> NSUInteger { return self->text.size(); });

HOST_CLASS(NSNumber, NSObject);
HOST_CLASS_METHOD(NSNumber, "numberWithInteger:", [](Object*, NSInteger value) -> id {
  return make_autoreleased<Number>(value);
});
HOST_METHOD(NSNumber, "integerValue", [](Number* self) -> NSInteger { return self->value; });

HOST_CLASS(NSArray, NSObject);
HOST_CLASS_METHOD(NSArray, "arrayWithObjects:count:",
                  [](Object*, const void* objects, NSUInteger count) -> id {
                    return make_autoreleased<Array>(static_cast<const id*>(objects), count);
                  });
HOST_METHOD(NSArray, "count", [](Array* self) -> NSUInteger { return self->items.size(); });
HOST_METHOD(NSArray, "objectAtIndex:", [](Array* self, NSUInteger i) -> id {
  if (i >= self->items.size()) {
    abort_like_apple("-[NSArray objectAtIndex:]: index " + std::to_string(i) +
                     " beyond bounds of " + std::to_string(self->items.size()));
  }
  return self->items[i];
});

HOST_CLASS(NSDictionary, NSObject);
HOST_CLASS_METHOD(NSDictionary, "dictionaryWithObjects:forKeys:count:",
                  [](Object*, const void* objects, const void* keys, NSUInteger count) -> id {
                    return make_autoreleased<Dictionary>(static_cast<const id*>(keys),
                                                         static_cast<const id*>(objects), count);
                  });
HOST_METHOD(NSDictionary, "count",
            [](Dictionary* self) -> NSUInteger { return self->items.size(); });
HOST_METHOD(NSDictionary,
            "objectForKey:", [](Dictionary* self, id key) -> id { return self->find(key); });

HOST_CLASS(NSURL, NSObject);
HOST_CLASS_METHOD(NSURL, "fileURLWithPath:", [](Object*, id path) -> id {
  const auto* text = as<String>(path, "fileURLWithPath:");
  if (!text) abort_like_apple("+[NSURL fileURLWithPath:]: nil string");
  return make_autoreleased<Url>(text->text);
});

HOST_CLASS(NSData, NSObject);
HOST_CLASS_METHOD(NSData,
                  "dataWithBytes:length:", [](Object*, const void* bytes, NSUInteger length) -> id {
                    return make_autoreleased<Data>(bytes, length);
                  });
HOST_METHOD(NSData, "length", [](Data* self) -> NSUInteger { return self->bytes.size(); });

HOST_CLASS(NSError, NSObject);
HOST_METHOD(NSError, "code", [](Error* self) -> NSInteger { return self->code; });
HOST_METHOD(NSError, "localizedDescription",
            [](Error* self) -> id { return make_autoreleased<String>(self->description); });

}  // namespace host
