// Which passes and parts of passes are on (pass.h).
#include <algorithm>

#include "grappler/pass.h"
#include "plugin/env.h"

namespace tfmetal {
namespace {

// Whether the word is about the pass, or about all passes.
bool concerns(std::string_view word, std::string_view pass) {
  return word == "all" || word == "none" || word == pass;
}

}  // namespace

Switches::Switches(std::string_view setting) {
  if (setting.starts_with('-')) words_.push_back({"all", true});
  for (std::string& word : env::words(setting)) {
    const bool on = !word.starts_with('-') && word != "none";
    if (word.starts_with('-')) word.erase(0, 1);
    if (!word.empty()) words_.push_back({std::move(word), on});
  }
}

bool Switches::pass(std::string_view name) const {
  bool on = false;
  for (const Word& word : words_) {
    const bool is_part = word.name.starts_with(name) && word.name[name.size()] == '/';
    if (concerns(word.name, name)) on = word.on;
    if (is_part && word.on) on = true;
  }
  return on;
}

bool Switches::part(std::string_view pass, std::string_view name) const {
  bool on = false;
  for (const Word& word : words_) {
    const std::string_view text = word.name;
    const bool is_it = text.size() == pass.size() + 1 + name.size() && text.starts_with(pass) &&
                       text[pass.size()] == '/' && text.ends_with(name);
    if (concerns(text, pass) || is_it) on = word.on;
  }
  return on;
}

std::vector<std::string> Switches::names() const {
  std::vector<std::string> out;
  for (const Word& word : words_) out.push_back(word.name);
  return out;
}

}  // namespace tfmetal
