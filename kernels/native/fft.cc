// Fourier transforms of complex64 along the last one, two or three axes: any length, by one pass
// per prime factor (and per 4).
#include "kernels/families.h"
#include "kernels/msl/complex_arguments.h"
#include "kernels/native/movement.h"
#include "kernels/native/node_call.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

std::vector<unsigned> factors_of(unsigned n) {
  std::vector<unsigned> factors;
  for (unsigned p : {8u, 4u}) {
    for (; n % p == 0 && n > 1; n /= p) factors.push_back(p);
  }
  for (unsigned p = 2; p * p <= n; ++p) {
    for (; n % p == 0; n /= p) factors.push_back(p);
  }
  if (n > 1) factors.push_back(n);
  return factors;
}

// A tensor of complex numbers on the way through the passes.
struct Signal {
  BufferSlice data;
  Shape shape;
};

struct Fourier : NodeCall {
  size_t dimensions;
  bool inverse, real;

  explicit Fourier(KernelCall& c) : NodeCall(c) {
    allocate();
    const std::string& op = node.op();  // [I][R]FFT[2D|3D]
    inverse = op.front() == 'I';
    real = op.find("RFFT") != std::string::npos;
    dimensions = op.ends_with("2D") ? 2 : op.ends_with("3D") ? 3 : 1;
  }

  BufferSlice complex_scratch(const Shape& shape) const {
    return scratch(element_count(shape), TF_COMPLEX64);
  }

  // Crops, or pads with zeros, to `shape`. Elements are of `dtype`.
  Signal resized(const Signal& from, const Shape& shape, TF_DataType dtype, BufferSlice to) const {
    const ElementMap map = axis_map(shape, from.shape, Shape(shape.size(), 0), kEdgeValue);
    Node resize = node;
    resize.outputs = {{dtype, shape}};
    call.encode(resize, {from.data}, {to}, resize.out().bytes(),
                [&](NativeCall& native) { map_load(native, map, 0); });
    return {to, shape};
  }

  Signal transformed(Signal x, size_t axis, bool backwards) const {
    const auto n = static_cast<unsigned>(x.shape[axis]);
    FftArguments f = {n, 1, 1, 1, 1.0f, backwards};
    for (size_t k = axis + 1; k < x.shape.size(); ++k) f.inner *= static_cast<unsigned>(x.shape[k]);
    const BufferSlice roots = scratch(n, TF_COMPLEX64);
    dispatch("fft_roots", n, {}, {roots}, f);
    std::vector<unsigned> factors = factors_of(n);
    if (factors.empty()) factors.push_back(1);
    for (size_t i = 0; i < factors.size(); ++i) {
      f.radix = factors[i];
      f.scale = backwards && i + 1 == factors.size() ? 1.0f / static_cast<float>(n) : 1.0f;
      const BufferSlice next = complex_scratch(x.shape);
      dispatch("fft_pass", element_count(x.shape), {x.data, roots}, {next}, f);
      x.data = next;
      f.done *= f.radix;
    }
    return x;
  }

  Signal all_transformed(Signal x, size_t axes_from_end_to_skip) const {
    for (size_t k = dimensions; k > axes_from_end_to_skip; --k) {
      x = transformed(x, x.shape.size() - k, inverse);
    }
    return x;
  }
};

void fft(KernelCall& call) {
  const Fourier f(call);
  if (f.node.out().count() == 0) return;
  const Signal result = f.all_transformed({f.in[0], f.node.in(0).shape}, 0);
  f.copy(result.data, f.out[0], f.node.out().bytes());
}

void rfft(KernelCall& call) {
  const Fourier f(call);
  if (f.node.out().count() == 0) return;
  Shape shape = f.node.in(0).shape;
  const std::vector<int64_t> lengths = f.node.host_ints(1);
  std::copy(lengths.begin(), lengths.end(),
            shape.end() - static_cast<std::ptrdiff_t>(f.dimensions));
  const BufferSlice padded = f.scratch(element_count(shape), TF_FLOAT);
  f.resized({f.in[0], f.node.in(0).shape}, shape, TF_FLOAT, padded);
  const Signal x = {f.complex_scratch(shape), shape};
  f.dispatch("fft_from_real", element_count(shape), {padded}, {x.data}, 1.0f);
  f.resized(f.all_transformed(x, 0), f.node.out().shape, TF_COMPLEX64, f.out[0]);
}

void irfft(KernelCall& call) {
  const Fourier f(call);
  if (f.node.out().count() == 0) return;
  Shape shape = f.node.out().shape;
  const auto n = static_cast<unsigned>(shape.back());
  shape.back() = n / 2 + 1;
  Signal x =
      f.resized({f.in[0], f.node.in(0).shape}, shape, TF_COMPLEX64, f.complex_scratch(shape));
  x = f.all_transformed(x, 1);
  const Signal whole = {f.complex_scratch(f.node.out().shape), f.node.out().shape};
  f.dispatch("fft_complete", f.node.out().count(), {x.data}, {whole.data},
             FftArguments{n, 1, 1, 1, 1, 0});
  const Signal result = f.transformed(whole, shape.size() - 1, true);
  f.dispatch("complex_to_float", f.node.out().count(), {result.data}, {f.out[0]},
             static_cast<unsigned>(kComplexReal));
}

// TensorFlow's kernel wants enough input along the transformed axes, or none at all.
void check_real(const Node& node) {
  const std::string& op = node.op();
  const size_t dimensions = op.ends_with("2D") ? 2 : op.ends_with("3D") ? 3 : 1;
  const std::vector<int64_t> lengths = node.host_ints(1);
  if (lengths.size() != dimensions) {
    throw_invalid_argument(node.describe(), ": fft_length must have shape [", dimensions, "]");
  }
  for (size_t k = 0; k < dimensions; ++k) {
    const int64_t extent = node.in(0).shape[node.in(0).rank() - dimensions + k];
    const bool half = op.front() == 'I' && k + 1 == dimensions;
    const int64_t needed = half && lengths[k] > 0 ? lengths[k] / 2 + 1 : lengths[k];
    if (node.in(0).count() > 0 && extent < needed) {
      throw_invalid_argument(node.describe(), ": Input dimension ", extent,
                             " must have length of at least ", needed);
    }
  }
}

}  // namespace

std::vector<OpRow> fft_ops() {
  const std::vector<TypeRule> complex = T({TF_COMPLEX64}, "Tcomplex");
  std::vector<OpRow> rows;
  for (const char* op : {"FFT", "FFT2D", "FFT3D", "IFFT", "IFFT2D", "IFFT3D"}) {
    rows.push_back({.op = op, .types = complex, .run = fft, .cluster = ClusterPolicy::kNever});
  }
  for (const char* op : {"RFFT", "RFFT2D", "RFFT3D", "IRFFT", "IRFFT2D", "IRFFT3D"}) {
    rows.push_back({.op = op,
                    .types = {{"Treal", {TF_FLOAT}}, {"Tcomplex", {TF_COMPLEX64}}},
                    .host = {{"fft_length", HostUse::kArg}},
                    .run = op[0] == 'I' ? irfft : rfft,
                    .check = check_real,
                    .cluster = ClusterPolicy::kNever});
  }
  return rows;
}

}  // namespace tfmetal
