// dot_product_attention: attention whose weights nobody else reads is one call of MPSGraph, which
// never has all of them in memory (_MetalAttention, kernels/lowering/attention.cc).
//
//   softmax(scale * (q . k), masked) . v
//
// The products are batch products or Einsums, each operand transposed in any way; there are Casts
// to float32 around the softmax, or not. Training keeps the weights for the gradient, dropout
// multiplies them: both stay with the pattern "attention".
//
// The result is the same but for rounding, also in rows that a mask hides wholly, with two limits:
//
// * what a Select takes for hidden logits must be far below the others, for these to be as good as
//   not there: at most kHidden;
// * a key that is NaN is seen, though hidden.
//
// A mask that is added is float32. In 16 bits it takes the digits of the logits with it, which a
// computation in float32 does not.
#include <algorithm>
#include <cmath>

#include "grappler/cluster/member.h"
#include "grappler/remapper/remapper.h"
#include "grappler/remapper/trees.h"

namespace tfmetal {
namespace {

// e^kHidden is zero next to any logit that is 104 larger.
constexpr double kHidden = -1e4;

// ---- axes ---------------------------------------------------------------------------------------

// Axes of a product by letters; "." are those of a batch of any rank.
struct Product {
  std::string a, b, result;
};

std::optional<Product> axes_of_einsum(const NodeDef& def) {
  std::string text = def.attr_string("equation");
  std::erase(text, ' ');
  const size_t comma = text.find(','), arrow = text.find("->");
  if (comma == std::string::npos || arrow == std::string::npos || comma > arrow)
    return std::nullopt;
  Product out{text.substr(0, comma), text.substr(comma + 1, arrow - comma - 1),
              text.substr(arrow + 2)};
  for (std::string part : {out.a, out.b, out.result}) {
    std::ranges::sort(part);
    if (!std::ranges::all_of(part, [](unsigned char c) { return std::isalpha(c); }) ||
        std::ranges::adjacent_find(part) != part.end())
      return std::nullopt;
  }
  return out;
}

std::optional<Product> axes_of(const NodeDef& def) {
  if (def.op == "Einsum") return axes_of_einsum(def);
  const bool matrices = def.op == "MatMul";
  const std::string batch = matrices ? "" : ".";
  const bool a = def.attr_bool(matrices ? "transpose_a" : "adj_x", false);
  const bool b = def.attr_bool(matrices ? "transpose_b" : "adj_y", false);
  return Product{batch + (a ? "ki" : "ik"), batch + (b ? "jk" : "kj"), batch + "ij"};
}

bool has(const std::string& text, char c) { return text.find(c) != std::string::npos; }

// The letter of `in` that `without` lacks; 0 if there is not exactly one.
char only_in(const std::string& in, const std::string& without) {
  char found = 0;
  for (const char c : in) {
    if (has(without, c)) continue;
    if (found) return 0;
    found = c;
  }
  return found;
}

struct Operands {
  Output query, key, value;
  std::string equation;  // of _MetalAttention
};

// The letters of one text for those of another.
std::string renamed(std::string text, const std::string& from, const std::string& to) {
  for (char& c : text)
    if (const size_t at = from.find(c); at != std::string::npos) c = to[at];
  return text;
}

bool same_letters(std::string a, std::string b) {
  std::ranges::sort(a);
  std::ranges::sort(b);
  return a == b;
}

// `first` gives [batch, m, n], of which `second` multiplies n with the values.
std::optional<Operands> operands_of(const Match& match) {
  const GraphNode& logits = *match.at("logits").node;
  const std::optional<Product> first = axes_of(logits.def()), second = axes_of(match.root->def());
  if (!first || !second || first->result.size() < 2) return std::nullopt;
  // Letters of the logits, in _MetalAttention: A, B, C..., m, n.
  const std::string& scores = first->result;
  std::string letters;
  for (size_t i = 0; i + 2 < scores.size(); ++i) letters += scores[i] == '.' ? '.' : char('A' + i);
  const std::string batch = letters;
  letters += "mn";

  const char n = scores.back(), m = scores[scores.size() - 2];
  const bool swapped = has(first->a, n);
  const std::string &q = swapped ? first->b : first->a, &k = swapped ? first->a : first->b;
  const char f = only_in(q, scores);
  if (!f || has(q, n) || has(k, m)) return std::nullopt;

  const bool weights_first = match.root->input(0) == match.at("weights");
  const std::string& weights = weights_first ? second->a : second->b;
  const std::string& v = weights_first ? second->b : second->a;
  const char e = only_in(v, weights);
  if (!e || weights.size() != scores.size()) return std::nullopt;

  const std::string of_logits = scores + f, new_logits = letters + "f";
  const std::string of_values = weights + e, new_values = letters + "e";
  const std::string query = renamed(q, of_logits, new_logits);
  const std::string key = renamed(k, of_logits, new_logits);
  const std::string value = renamed(v, of_values, new_values);
  const std::string result = renamed(second->result, of_values, new_values);
  if (!same_letters(query, batch + "mf") || !same_letters(key, batch + "nf") ||
      !same_letters(value, batch + "ne") || !same_letters(result, batch + "me"))
    return std::nullopt;
  return Operands{logits.input(swapped ? 1 : 0), logits.input(swapped ? 0 : 1),
                  match.root->input(weights_first ? 1 : 0),
                  query + "," + key + "," + value + "->" + result};
}

// ---- attributes ---------------------------------------------------------------------------------

double value_of(Output constant) {
  return constant.node->def().attr_tensor("value").doubles().at(0);
}

TF_DataType type_of(const GraphNode& product) {
  const NodeDef& def = product.def();
  return def.attr_type(def.has_attr("T") ? "T" : "Ta");
}

struct Mask {
  const char* masking = "none";
  std::vector<Output> tensors = {};
  TF_DataType dtype = TF_BOOL;
  double number = 0;
};

Mask mask_of(const Match& match) {
  if (const Output* added = match.find("added")) return {"add", {*added}, TF_FLOAT};
  if (const Output* hides = match.find("hides"))
    return {"subtract", {*hides}, TF_BOOL, value_of(match.at("less"))};
  if (const Output* mask = match.find("mask"))
    return {"select", {*mask}, TF_BOOL, value_of(match.at("hidden"))};
  return {};
}

NodeDef make_node(const Match& match, const std::string& equation) {
  const Mask mask = mask_of(match);
  NodeDef def;
  def.op = "_MetalAttention";
  def.device = match.root->device();
  def.set_attr("T", AttrValue::of_type(type_of(*match.root)));
  def.set_attr("Tmask", AttrValue::of_type(mask.dtype));
  def.set_attr("N", AttrValue::of_int(int64_t(mask.tensors.size())));
  def.set_attr("equation", AttrValue::of_string(equation));
  const Output* scale = match.find("scale");
  def.set_attr("scale", AttrValue::of_float(scale ? float(value_of(*scale)) : 1.0f));
  def.set_attr("masking", AttrValue::of_string(mask.masking));
  def.set_attr("number", AttrValue::of_float(float(mask.number)));
  def.set_attr("zero", AttrValue::of_bool(match.find("zero")));
  return def;
}

// ---- conditions ---------------------------------------------------------------------------------

bool has_kernel(const Match& match, Context&) { return can_be_member(make_node(match, "")); }

bool is_attention(const Match& match, Context&) { return operands_of(match).has_value(); }

bool softmax_is_precise(const Match& match, Context&) {
  const TF_DataType dtype = match.at("softmax").node->def().attr_type("T");
  const bool shifts = match.find("added") || match.find("hides");
  return dtype == TF_FLOAT || (!shifts && dtype == type_of(*match.root));
}

bool hides_enough(const Match& match, Context&) {
  const Output *hidden = match.find("hidden"), *less = match.find("less");
  return (!hidden || value_of(*hidden) <= kHidden) && (!less || value_of(*less) >= -kHidden);
}

// ---- the rewrite --------------------------------------------------------------------------------

GraphNode* make_attention(GraphView& view, Context& context, const Match& match) {
  const Operands operands = *operands_of(match);
  std::vector<Output> inputs = {operands.query, operands.key, operands.value};
  for (const Output& mask : mask_of(match).tensors) inputs.push_back(mask);
  view.redefine(*match.root, make_node(match, operands.equation), inputs);
  std::vector<GraphNode*> unused = match.nodes();
  std::erase(unused, match.root);
  for (const char* constant : {"scale", "less", "hidden", "zero"})
    if (const Output* found = match.find(constant)) unused.push_back(found->node);
  for (GraphNode* node : unused)  // readers come first
    if (!node->removed() && !node->num_data_uses() && !context.preserved(*node)) view.remove(*node);
  return match.root;
}

}  // namespace

std::vector<Pattern> dot_product_attention_patterns() {
  const Tree logits = maybe("Cast", op(kProducts).as("logits").described("product"));
  const Tree scaled = either({product({logits, constant().as("scale")}), logits})
                          .described("(" + to_text(logits) + " * scale?)");
  const Tree x = scaled.as("x");
  const Tree lowered = op("SelectV2", {any("hides"), op("Sub", {x, constant().as("less")}), x});
  const Tree masked =
      either({op("SelectV2", {any("mask"), scaled, constant().as("hidden")}), lowered,
              sum({scaled, any("added")}), scaled})
          .described(
              "[SelectV2(mask, x, hidden: constant) or SelectV2(hides, Sub(x, less: constant),"
              " x) or (x + added) or x: " +
              to_text(scaled) + "]");
  const Tree softmax = op("Softmax", masked).as("softmax");
  const Tree shown =
      either({op("SelectV2", {any("mask"), softmax, constant(0).as("zero")}), softmax})
          .described("[SelectV2(mask, softmax, 0) or " + to_text(softmax) + "]");
  const Tree weights = maybe("Cast", shown).as("weights");
  return {
      {"dot_product_attention",
       "attention without a gradient: one call that keeps no weights (macOS 15)",
       either({op(kProducts, {weights, any()}), op(kProducts, {any(), weights})})
           .described("product(" + to_text(weights) + ", v)"),
       {{"the device has it for this type", has_kernel},
        {"the products are those of attention", is_attention},
        {"the softmax is in float32, or no number is added to its logits", softmax_is_precise},
        {"what is hidden counts for nothing: at most -10000", hides_enough}},
       make_attention},
  };
}

}  // namespace tfmetal
