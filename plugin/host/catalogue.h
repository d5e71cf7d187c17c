// What Apple's frameworks declare, from plugin/host/catalogue/apple_api.tsv.
#pragma once

#include <functional>
#include <span>
#include <string_view>

namespace host {

struct CatalogueMethod {
  std::string_view class_name, selector;
  const char* encoding;  // as objc::signature writes it
  char kind;             // '+' class method, '-' instance method
  int macos;             // first version, major * 100 + minor
};
struct CatalogueParent {  // superclass or adopted protocol
  std::string_view class_name, parent;
};

// Generated tables, sorted by class, kind and selector.
std::span<const CatalogueMethod> catalogue_methods();
std::span<const CatalogueParent> catalogue_parents();

// Searches the class, then its parents. Null when Apple has no such method.
const CatalogueMethod* find_in_catalogue(std::string_view class_name, char kind,
                                         std::string_view selector);
// Apple's declarations of what the host implements, which is what the plugin uses; by class.
void for_each_declared(const std::function<void(const CatalogueMethod&)>& visit);
bool class_in_catalogue(std::string_view class_name);

}  // namespace host
