#include "plugin/host/catalogue.h"

#include <algorithm>
#include <tuple>

namespace host {
namespace {

auto key(const CatalogueMethod& m) { return std::tuple(m.class_name, m.kind, m.selector); }

// NSObject's class methods are inherited by all; protocols are searched like superclasses.
std::span<const CatalogueParent> parents_of(std::string_view class_name) {
  auto all = catalogue_parents();
  auto less = [](const CatalogueParent& a, const CatalogueParent& b) {
    return a.class_name < b.class_name;
  };
  auto [first, last] =
      std::equal_range(all.begin(), all.end(), CatalogueParent{class_name, ""}, less);
  return {first, last};
}

}  // namespace

const CatalogueMethod* find_in_catalogue(std::string_view class_name, char kind,
                                         std::string_view selector) {
  const auto all = catalogue_methods();
  const CatalogueMethod wanted{class_name, selector, "", kind, 0};
  auto less = [](const CatalogueMethod& a, const CatalogueMethod& b) { return key(a) < key(b); };
  const auto found = std::lower_bound(all.begin(), all.end(), wanted, less);
  if (found != all.end() && key(*found) == key(wanted)) return &*found;
  for (const CatalogueParent& row : parents_of(class_name)) {
    if (const CatalogueMethod* method = find_in_catalogue(row.parent, kind, selector)) {
      return method;
    }
  }
  return nullptr;
}

bool class_in_catalogue(std::string_view class_name) {
  return class_name == "NSObject" || !parents_of(class_name).empty();
}

}  // namespace host
