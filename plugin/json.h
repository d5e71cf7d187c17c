// JSON (RFC 8259), as much as the requests and answers of MetalRuntime need: a value, a strict
// reader of UTF-8 text, a writer. Integers keep 64 bits.
#pragma once

#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <locale>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "plugin/error.h"

namespace tfmetal::json {

class Value;
using Array = std::vector<Value>;
using Object = std::vector<std::pair<std::string, Value>>;  // keeps the order of insertion

// Text that is JSON already.
struct Raw {
  std::string text;
};

class Value {
 public:
  Value() : data_(nullptr) {}
  Value(std::nullptr_t) : data_(nullptr) {}
  Value(bool value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(const char* value) : data_(std::string(value)) {}
  Value(std::string value) : data_(std::move(value)) {}
  Value(Array value) : data_(std::move(value)) {}
  Value(Object value) : data_(std::move(value)) {}
  Value(Raw value) : data_(std::move(value)) {}
  template <class T>
    requires std::is_integral_v<T> && (!std::is_same_v<T, bool>)
  Value(T value) : data_(static_cast<int64_t>(value)) {}

  // nullptr when the value is of another type.
  template <class T>
  const T* as() const {
    return std::get_if<T>(&data_);
  }
  // Throws InvalidArgument when the value is of another type.
  template <class T>
  const T& get() const {
    if (const T* value = as<T>()) return *value;
    throw_invalid_argument("JSON: expected ", name_of<T>(), ", got ", dump());
  }
  bool is_null() const { return std::holds_alternative<std::nullptr_t>(data_); }

  // The member of an object, or null.
  const Value& operator[](std::string_view key) const {
    static const Value kNull;
    if (const Object* object = as<Object>()) {
      for (const auto& [name, value] : *object) {
        if (name == key) return value;
      }
    }
    return kNull;
  }

  std::string dump() const;

 private:
  template <class T>
  static constexpr const char* name_of() {
    if (std::is_same_v<T, int64_t>) return "an integer";
    if (std::is_same_v<T, std::string>) return "a text";
    return std::is_same_v<T, Array> ? "a list" : "another type";
  }

  std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object, Raw> data_;
};

// "a\n" with the quotes.
inline std::string quote(std::string_view text) {
  static const char kHex[] = "0123456789abcdef";
  static const std::map<char, char> kShort = {{'"', '"'},  {'\\', '\\'}, {'\n', 'n'}, {'\r', 'r'},
                                              {'\t', 't'}, {'\b', 'b'},  {'\f', 'f'}};
  std::string out = "\"";
  for (const char c : text) {
    if (const auto escape = kShort.find(c); escape != kShort.end()) {
      out += {'\\', escape->second};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += {'\\', 'u', '0', '0', kHex[c >> 4], kHex[c & 15]};
    } else {
      out += c;
    }
  }
  return out + '"';
}

namespace internal {

// JSON has no NaN and no infinities: they become null.
inline std::string number(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];  // the shortest form that reads back the same needs at most 24
  return std::string(text, std::to_chars(text, text + sizeof text, value).ptr);
}

struct Writer {
  std::string operator()(std::nullptr_t) const { return "null"; }
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(int64_t value) const { return std::to_string(value); }
  std::string operator()(double value) const { return number(value); }
  std::string operator()(const std::string& value) const { return quote(value); }
  std::string operator()(const Raw& value) const { return value.text; }
  std::string operator()(const Array& values) const {
    std::string out;
    for (const Value& value : values) out += (out.empty() ? "" : ", ") + value.dump();
    return "[" + out + "]";
  }
  std::string operator()(const Object& members) const {
    std::string out;
    for (const auto& [name, value] : members) {
      out += (out.empty() ? "" : ", ") + quote(name) + ": " + value.dump();
    }
    return "{" + out + "}";
  }
};

// Recursive descent; `parse` is the way in.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Value document() {
    Value value = parse_value(0);
    skip_space();
    if (at_ != text_.size()) fail("trailing characters");
    return value;
  }

 private:
  static constexpr int kMaxDepth = 64;  // far beyond any request; bounds the stack

  [[noreturn]] void fail(const char* what) const {
    throw_invalid_argument("JSON: ", what, " at byte ", at_);
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != text_.npos) ++at_;
  }
  bool take(std::string_view token) {
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  void expect(std::string_view token, const char* what) {
    skip_space();
    if (!take(token)) fail(what);
  }

  Value parse_value(int depth) {
    if (depth > kMaxDepth) fail("nested too deeply");
    skip_space();
    if (take("null")) return nullptr;
    if (take("true")) return true;
    if (take("false")) return false;
    if (peek() == '"') return parse_string();
    if (take("[")) return parse_array(depth);
    if (take("{")) return parse_object(depth);
    return parse_number();
  }

  Array parse_array(int depth) {
    Array values;
    skip_space();
    if (take("]")) return values;
    do {
      values.push_back(parse_value(depth + 1));
      skip_space();
    } while (take(","));
    expect("]", "expected , or ]");
    return values;
  }

  Object parse_object(int depth) {
    Object members;
    skip_space();
    if (take("}")) return members;
    do {
      skip_space();
      std::string name = parse_string();
      expect(":", "expected :");
      members.emplace_back(std::move(name), parse_value(depth + 1));
      skip_space();
    } while (take(","));
    expect("}", "expected , or }");
    return members;
  }

  void skip_digits() {
    if (!std::isdigit(static_cast<unsigned char>(peek()))) fail("expected a value");
    while (std::isdigit(static_cast<unsigned char>(peek()))) ++at_;
  }

  Value parse_number() {
    const size_t begin = at_;
    bool integer = true;
    take("-");
    if (!take("0")) skip_digits();
    if (take(".")) integer = false, skip_digits();
    if (take("e") || take("E")) {
      integer = false;
      if (!take("+")) take("-");
      skip_digits();
    }
    const std::string number(text_.substr(begin, at_ - begin));
    if (integer) {
      int64_t value;
      const auto result = std::from_chars(number.data(), number.data() + number.size(), value);
      if (result.ec == std::errc()) return value;
    }
    std::istringstream stream(number);  // strtod would follow the locale
    stream.imbue(std::locale::classic());
    double real = 0;
    stream >> real;
    return real;
  }

  std::string parse_string() {
    if (!take("\"")) fail("expected a string");
    std::string out;
    while (!take("\"")) {
      if (at_ >= text_.size()) fail("unterminated string");
      const char c = text_[at_++];
      if (static_cast<unsigned char>(c) < 0x20) fail("control character in a string");
      if (c != '\\') {
        out += c;
      } else {
        parse_escape(out);
      }
    }
    return out;
  }

  void parse_escape(std::string& out) {
    static const std::map<char, char> kShort = {{'"', '"'},  {'\\', '\\'}, {'/', '/'},
                                                {'n', '\n'}, {'r', '\r'},  {'t', '\t'},
                                                {'b', '\b'}, {'f', '\f'}};
    if (take("u")) {
      append_utf8(out, parse_code_point());
      return;
    }
    const auto escape = kShort.find(peek());
    if (escape == kShort.end()) fail("unknown escape");
    out += escape->second;
    ++at_;
  }

  uint32_t parse_hex4() {
    uint32_t value = 0;
    const char* begin = text_.data() + at_;
    if (text_.size() - at_ < 4 || std::from_chars(begin, begin + 4, value, 16).ptr != begin + 4) {
      fail("expected four hexadecimal digits");
    }
    at_ += 4;
    return value;
  }

  // Characters beyond the first 65,536 come as a pair of surrogates.
  uint32_t parse_code_point() {
    const uint32_t unit = parse_hex4();
    if (unit < 0xD800 || unit > 0xDFFF) return unit;
    if (unit > 0xDBFF || !take("\\u")) fail("lone surrogate");
    const uint32_t low = parse_hex4();
    if (low < 0xDC00 || low > 0xDFFF) fail("lone surrogate");
    return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
  }

  static void append_utf8(std::string& out, uint32_t code) {
    const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xC0 | (code >> 6));
      tail(0);
    } else if (code < 0x10000) {
      out += static_cast<char>(0xE0 | (code >> 12));
      tail(6), tail(0);
    } else {
      out += static_cast<char>(0xF0 | (code >> 18));
      tail(12), tail(6), tail(0);
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace internal

inline std::string Value::dump() const { return std::visit(internal::Writer{}, data_); }

// Throws InvalidArgument naming the byte that is wrong.
inline Value parse(std::string_view text) { return internal::Parser(text).document(); }

}  // namespace tfmetal::json
