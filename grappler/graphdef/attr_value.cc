#include "grappler/graphdef/attr_value.h"

#include <algorithm>

#include "grappler/graphdef/wire.h"

namespace tfmetal {
namespace {

using Kind = AttrValue::Kind;

// Field numbers of NameAttrList, of a map entry, and of func inside ListValue (whose other fields
// have the numbers of AttrValue).
enum FuncField { kFuncName = 1, kFuncAttr = 2 };
enum EntryField { kEntryKey = 1, kEntryValue = 2 };
constexpr int kListFunc = 9;

struct KindRow {
  Kind kind;
  WireType type;
  const char* name;
};
constexpr KindRow kKinds[] = {
    {Kind::kList, WireType::kBytes, "a list"},
    {Kind::kString, WireType::kBytes, "a string"},
    {Kind::kInt, WireType::kVarint, "an int"},
    {Kind::kFloat, WireType::kFixed32, "a float"},
    {Kind::kBool, WireType::kVarint, "a bool"},
    {Kind::kType, WireType::kVarint, "a type"},
    {Kind::kShape, WireType::kBytes, "a shape"},
    {Kind::kTensor, WireType::kBytes, "a tensor"},
    {Kind::kPlaceholder, WireType::kBytes, "a placeholder"},
    {Kind::kFunc, WireType::kBytes, "a function"},
};

// The kind that the reader's field carries; kNone when the field is not one of AttrValue.
Kind field_kind(const WireReader& r) {
  for (const KindRow& row : kKinds)
    if (r.is(int(row.kind), row.type)) return row.kind;
  return Kind::kNone;
}

// The kind of the element in a ListValue's field, packed or not.
Kind list_field_kind(const WireReader& r) {
  if (r.is(kListFunc, WireType::kBytes)) return Kind::kFunc;
  for (const KindRow& row : kKinds) {
    if (row.kind == Kind::kList || row.kind == Kind::kPlaceholder || row.kind == Kind::kFunc)
      continue;
    if (r.is(int(row.kind), row.type) || r.is(int(row.kind), WireType::kBytes)) return row.kind;
  }
  return Kind::kNone;
}

void check_depth(int depth) {
  if (depth > kMaxMessageDepth) throw_invalid_argument("Attribute nests too deeply");
}

// Throws unless the message in `bytes`, an element or value of that kind, is well-formed.
void check_message(Kind kind, std::string_view bytes, int depth);

void check_list_field(const WireReader& r, int depth) {
  const Kind kind = list_field_kind(r);
  std::vector<int64_t> numbers;
  std::vector<float> floats;
  switch (kind) {
    case Kind::kInt:
    case Kind::kBool:
    case Kind::kType:
      read_repeated(r, int(kind), numbers);
      break;
    case Kind::kFloat:
      read_repeated(r, int(kind), floats);
      break;
    default:
      check_message(kind, r.bytes(), depth + 1);
  }
}

void check_message(Kind kind, std::string_view bytes, int depth) {
  check_depth(depth);
  switch (kind) {
    case Kind::kShape:
      PartialShape::parse(bytes);
      break;
    case Kind::kTensor:
      TensorProto::check(bytes);
      break;
    case Kind::kFunc:
      AttrFunc::parse(bytes, depth);
      break;
    case Kind::kList:
      for (WireReader r(bytes); r.next();) check_list_field(r, depth);
      break;
    default:
      break;
  }
}

std::string message_of(Kind kind, std::string_view payload) {
  return WireWriter().bytes(int(kind), payload).take();
}

AttrValue number_of(Kind kind, uint64_t value) {
  return AttrValue::parse(WireWriter().varint(int(kind), value).str());
}

// T: has serialized().
template <class T>
AttrValue list_of(Kind kind, const std::vector<T>& values) {
  WireWriter list;
  for (const T& value : values) list.bytes(int(kind), value.serialized());
  return AttrValue::parse(message_of(Kind::kList, list.str()));
}

}  // namespace

const char* kind_name(Kind kind) {
  for (const KindRow& row : kKinds)
    if (row.kind == kind) return row.name;
  return "of unknown kind";
}

AttrValue AttrValue::parse(std::string_view bytes, int depth) {
  check_depth(depth);
  AttrValue value;
  std::string others;  // the fields to keep if the value changes its kind half way
  bool changed = false;
  for (WireReader r(bytes); r.next();) {
    const Kind kind = field_kind(r);
    if (kind == Kind::kNone) {
      others += r.raw();
      continue;
    }
    check_message(kind, r.bytes(), depth + 1);
    changed |= value.kind_ != Kind::kNone && value.kind_ != kind;
    value.kind_ = kind;
  }
  if (!changed) {
    value.bytes_ = bytes;
    return value;
  }
  // The last kind wins (a oneof): drop what came before it.
  std::string kept;
  for (WireReader r(bytes); r.next();) {
    const Kind kind = field_kind(r);
    if (kind == Kind::kNone) continue;
    if (kind != value.kind_)
      kept.clear();
    else
      kept += r.raw();
  }
  value.bytes_ = kept + others;
  return value;
}

AttrValue AttrValue::of_string(std::string_view value) {
  return parse(message_of(Kind::kString, value));
}
AttrValue AttrValue::of_int(int64_t value) { return number_of(Kind::kInt, uint64_t(value)); }
AttrValue AttrValue::of_float(float value) {
  return parse(WireWriter().fixed32(int(Kind::kFloat), value).str());
}
AttrValue AttrValue::of_bool(bool value) { return number_of(Kind::kBool, value); }
AttrValue AttrValue::of_type(TF_DataType value) { return number_of(Kind::kType, uint64_t(value)); }
AttrValue AttrValue::of_shape(const PartialShape& value) {
  return parse(message_of(Kind::kShape, value.serialized()));
}
AttrValue AttrValue::of_tensor(const TensorProto& value) {
  return parse(message_of(Kind::kTensor, value.serialized()));
}
AttrValue AttrValue::of_func(const AttrFunc& value) {
  return parse(message_of(Kind::kFunc, value.serialized()));
}
AttrValue AttrValue::of_ints(const std::vector<int64_t>& values) {
  return parse(message_of(Kind::kList, WireWriter().packed(int(Kind::kInt), values).str()));
}
AttrValue AttrValue::of_floats(const std::vector<float>& values) {
  return parse(message_of(Kind::kList, WireWriter().packed(int(Kind::kFloat), values).str()));
}
AttrValue AttrValue::of_types(const std::vector<TF_DataType>& values) {
  const std::vector<int64_t> numbers(values.begin(), values.end());
  return parse(message_of(Kind::kList, WireWriter().packed(int(Kind::kType), numbers).str()));
}
AttrValue AttrValue::of_strings(const std::vector<std::string>& values) {
  WireWriter list;
  for (const std::string& value : values) list.bytes(int(Kind::kString), value);
  return parse(message_of(Kind::kList, list.str()));
}
AttrValue AttrValue::of_shapes(const std::vector<PartialShape>& values) {
  return list_of(Kind::kShape, values);
}

void AttrValue::expect(Kind kind) const {
  if (kind_ != kind)
    throw_invalid_argument("the value is ", kind_name(kind_), ", not ", kind_name(kind));
}

std::string AttrValue::payload(Kind kind) const {
  expect(kind);
  std::string out;
  const bool merges = kind != Kind::kString && kind != Kind::kPlaceholder;
  for (WireReader r(bytes_); r.next();) {
    if (field_kind(r) != kind) continue;
    if (!merges) out.clear();
    out += r.bytes();
  }
  return out;
}

uint64_t AttrValue::number(Kind kind) const {
  expect(kind);
  uint64_t value = 0;
  for (WireReader r(bytes_); r.next();)
    if (field_kind(r) == kind) value = r.varint();
  return value;
}

float AttrValue::as_float() const {
  expect(Kind::kFloat);
  float value = 0;
  for (WireReader r(bytes_); r.next();)
    if (field_kind(r) == Kind::kFloat) value = r.fixed_float();
  return value;
}

std::string AttrValue::as_string() const { return payload(Kind::kString); }
int64_t AttrValue::as_int() const { return int64_t(number(Kind::kInt)); }
bool AttrValue::as_bool() const { return number(Kind::kBool) != 0; }
TF_DataType AttrValue::as_type() const { return data_type(number(Kind::kType)); }
PartialShape AttrValue::as_shape() const { return PartialShape::parse(payload(Kind::kShape)); }
TensorProto AttrValue::as_tensor() const { return TensorProto::parse(payload(Kind::kTensor)); }
AttrFunc AttrValue::as_func() const { return AttrFunc::parse(payload(Kind::kFunc)); }
std::string AttrValue::as_placeholder() const { return payload(Kind::kPlaceholder); }

Kind AttrValue::element_kind() const {
  const std::string list = payload(Kind::kList);
  for (WireReader r(list); r.next();) {
    const Kind kind = list_field_kind(r);
    const bool number =
        kind == Kind::kInt || kind == Kind::kFloat || kind == Kind::kBool || kind == Kind::kType;
    if (number && r.type() == WireType::kBytes && r.bytes().empty()) continue;  // packed nothing
    if (kind != Kind::kNone) return kind;
  }
  return Kind::kNone;
}

void AttrValue::expect_list(Kind kind) const {
  const Kind found = element_kind();
  if (found != Kind::kNone && found != kind)
    throw_invalid_argument("each element is ", kind_name(found), ", not ", kind_name(kind));
}

std::vector<std::string> AttrValue::list(Kind kind) const {
  expect_list(kind);
  std::vector<std::string> out;
  const std::string list = payload(Kind::kList);
  for (WireReader r(list); r.next();)
    if (list_field_kind(r) == kind) out.emplace_back(r.bytes());
  return out;
}

std::vector<int64_t> AttrValue::numbers(Kind kind) const {
  expect_list(kind);
  std::vector<int64_t> out;
  const std::string list = payload(Kind::kList);
  for (WireReader r(list); r.next();) read_repeated(r, int(kind), out);
  return out;
}

std::vector<float> AttrValue::as_floats() const {
  expect_list(Kind::kFloat);
  std::vector<float> out;
  const std::string list = payload(Kind::kList);
  for (WireReader r(list); r.next();) read_repeated(r, int(Kind::kFloat), out);
  return out;
}

std::vector<int64_t> AttrValue::as_ints() const { return numbers(Kind::kInt); }
std::vector<std::string> AttrValue::as_strings() const { return list(Kind::kString); }
std::vector<bool> AttrValue::as_bools() const {
  std::vector<bool> out;
  for (const int64_t value : numbers(Kind::kBool)) out.push_back(value != 0);
  return out;
}
std::vector<TF_DataType> AttrValue::as_types() const {
  std::vector<TF_DataType> out;
  for (const int64_t value : numbers(Kind::kType)) out.push_back(data_type(uint64_t(value)));
  return out;
}
std::vector<PartialShape> AttrValue::as_shapes() const {
  std::vector<PartialShape> out;
  for (const std::string& bytes : list(Kind::kShape)) out.push_back(PartialShape::parse(bytes));
  return out;
}
std::vector<TensorProto> AttrValue::as_tensors() const {
  std::vector<TensorProto> out;
  for (const std::string& bytes : list(Kind::kTensor)) out.push_back(TensorProto::parse(bytes));
  return out;
}
std::vector<AttrFunc> AttrValue::as_funcs() const {
  std::vector<AttrFunc> out;
  for (const std::string& bytes : list(Kind::kFunc)) out.push_back(AttrFunc::parse(bytes));
  return out;
}

AttrFunc AttrFunc::parse(std::string_view bytes, int depth) {
  AttrFunc func;
  for (WireReader r(bytes); r.next();) {
    if (r.is(kFuncName, WireType::kBytes)) func.name = r.bytes();
    if (r.is(kFuncAttr, WireType::kBytes)) parse_attribute(r.bytes(), depth + 1, func.attrs);
  }
  return func;
}

std::string AttrFunc::serialized() const {
  WireWriter out;
  if (!name.empty()) out.bytes(kFuncName, name);
  for (const Attribute& attr : attrs) out.bytes(kFuncAttr, serialize_attribute(attr));
  return out.take();
}

void parse_attribute(std::string_view entry, int depth, std::vector<Attribute>& into) {
  std::string key, value;
  for (WireReader r(entry); r.next();) {
    if (r.is(kEntryKey, WireType::kBytes)) key = r.bytes();
    if (r.is(kEntryValue, WireType::kBytes)) value += r.bytes();
  }
  AttrValue parsed = AttrValue::parse(value, depth + 1);
  const auto same = std::find_if(into.begin(), into.end(),
                                 [&](const Attribute& attr) { return attr.first == key; });
  if (same != into.end())
    same->second = std::move(parsed);
  else
    into.emplace_back(std::move(key), std::move(parsed));
}

std::string serialize_attribute(const Attribute& attribute) {
  return WireWriter()
      .bytes(kEntryKey, attribute.first)
      .bytes(kEntryValue, attribute.second.serialized())
      .take();
}

std::string canonical(const AttrValue& value) {
  const bool functions = value.kind() == Kind::kFunc ||
                         (value.kind() == Kind::kList && value.element_kind() == Kind::kFunc);
  if (!functions) return value.serialized();
  WireWriter out;
  const auto add = [&](AttrFunc func) {
    std::sort(func.attrs.begin(), func.attrs.end(),
              [](const Attribute& a, const Attribute& b) { return a.first < b.first; });
    for (Attribute& attr : func.attrs) attr.second = AttrValue::of_string(canonical(attr.second));
    out.bytes(int(Kind::kFunc), func.serialized());
  };
  if (value.kind() == Kind::kFunc)
    add(value.as_func());
  else
    for (AttrFunc& func : value.as_funcs()) add(std::move(func));
  return out.take();
}

}  // namespace tfmetal
