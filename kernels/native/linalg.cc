// Linear algebra. Where TensorFlow's CPU kernel raises an error for a singular matrix, the host
// waits for the factorization to report how it went.
#include <algorithm>

#include "kernels/families.h"
#include "kernels/msl/linalg_arguments.h"
#include "kernels/native/elements.h"
#include "kernels/native/node_call.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// A call on batches of matrices.
struct Linalg : NodeCall {
  explicit Linalg(KernelCall& c) : NodeCall(c) { allocate(); }

  int64_t rows() const { return node.in(0).shape[node.in(0).rank() - 2]; }
  int64_t columns() const { return node.in(0).shape.back(); }
  int64_t batches() const {
    int64_t count = 1;
    for (size_t i = 0; i + 2 < node.in(0).rank(); ++i) count *= node.in(0).shape[i];
    return count;
  }
  bool attr(const char* name) const { return node.def->attr_bool(name, false); }
  TF_DataType dtype() const { return node.in(0).dtype; }
  BufferSlice status() const { return scratch(2 * batches(), TF_INT32); }

  void dispatch(const char* stem, int64_t threads, const Slices& inputs, const Slices& outputs,
                const LinalgArguments& a) const {
    NodeCall::dispatch(shader_name(stem, dtype()), threads, inputs, outputs, a);
  }
  void per_matrix(const char* stem, const Slices& inputs, const Slices& outputs,
                  const LinalgArguments& a) const {
    NodeCall::dispatch(shader_name(stem, dtype()), batches() * LINALG_THREADS, inputs, outputs, a,
                       LINALG_THREADS);
  }
  // Waits for the device; whether any matrix failed.
  bool any_failed(BufferSlice status) const {
    call.synchronize();
    const auto* s = reinterpret_cast<const LinalgStatus*>(status.contents());
    return std::any_of(s, s + batches(), [](const LinalgStatus& m) { return m.failed != 0; });
  }
};

LinalgArguments size(int64_t rows, int64_t columns, int64_t inner = 0) {
  LinalgArguments a = {};
  a.rows = static_cast<unsigned>(rows);
  a.columns = static_cast<unsigned>(columns);
  a.inner = static_cast<unsigned>(inner);
  return a;
}

// ---- LU ----------------------------------------------------------------------------------------

struct Factors {
  BufferSlice lu, order, status;
};

Factors factor(const Linalg& l, BufferSlice lu) {
  const int64_t n = l.rows();
  const Factors f{lu, l.scratch(l.batches() * n, TF_INT32), l.status()};
  l.copy(l.in[0], lu, l.node.in(0).bytes());
  // The matrices are factored in place: both an input and an output of the dispatch.
  l.per_matrix("linalg_lu", {}, {f.lu, f.order, f.status}, size(n, n));
  return f;
}

Factors factor(const Linalg& l) { return factor(l, l.scratch(l.node.in(0).count(), l.dtype())); }

void require_invertible(const Linalg& l, const Factors& f) {
  if (l.any_failed(f.status)) {
    throw_invalid_argument(l.node.describe(), ": Input matrix is not invertible.");
  }
}

// x := solution in place, of matrices one to one with the right hand sides.
void substitute(const Linalg& l, BufferSlice matrices, BufferSlice x, int64_t columns, bool lower,
                bool adjoint, bool unit) {
  LinalgArguments a = size(l.rows(), columns);
  a.lower = lower;
  a.adjoint = adjoint;
  a.unit = unit;
  a.batch.rank = 1;
  a.batch.extents[0] = static_cast<unsigned>(l.batches());
  a.batch.a_strides[0] = a.batch.b_strides[0] = 1;
  l.dispatch("linalg_triangular", l.batches() * columns, {matrices, x}, {x}, a);
}

// out := A^-1 b, or A^-H b, with b in `x`, which is overwritten.
void solve_with(const Linalg& l, const Factors& f, BufferSlice x, BufferSlice out, int64_t columns,
                bool adjoint) {
  LinalgArguments a = size(l.rows(), columns);
  a.adjoint = adjoint;
  const int64_t elements = l.batches() * l.rows() * columns;
  if (adjoint) {
    substitute(l, f.lu, x, columns, false, true, false);
    substitute(l, f.lu, x, columns, true, true, true);
    l.dispatch("linalg_permute_rows", elements, {x, f.order}, {out}, a);
  } else {
    l.dispatch("linalg_permute_rows", elements, {x, f.order}, {out}, a);
    substitute(l, f.lu, out, columns, true, false, true);
    substitute(l, f.lu, out, columns, false, false, false);
  }
}

void matrix_inverse(KernelCall& call) {
  const Linalg l(call);
  if (l.node.out().count() == 0) return;
  const Factors f = factor(l);
  require_invertible(l, f);
  const BufferSlice x = l.scratch(l.node.out().count(), l.dtype());
  l.dispatch("linalg_identity", l.node.out().count(), {}, {x}, size(l.rows(), l.rows()));
  solve_with(l, f, x, l.out[0], l.rows(), l.attr("adjoint"));
}

void matrix_solve(KernelCall& call) {
  const Linalg l(call);
  if (l.node.out().count() == 0) return;
  const Factors f = factor(l);
  require_invertible(l, f);
  const BufferSlice x = l.scratch(l.node.out().count(), l.dtype());
  l.copy(l.in[1], x, l.node.in(1).bytes());
  solve_with(l, f, x, l.out[0], l.node.in(1).shape.back(), l.attr("adjoint"));
}

void matrix_determinant(KernelCall& call) {
  const Linalg l(call);
  if (l.batches() == 0) return;
  const Factors f = factor(l);
  l.dispatch("linalg_determinant", l.batches(), {f.lu, f.status}, {l.out[0]},
             size(l.rows(), l.rows()));
}

void log_matrix_determinant(KernelCall& call) {
  const Linalg l(call);
  if (l.batches() == 0) return;
  const Factors f = factor(l);
  l.dispatch("linalg_log_determinant", l.batches(), {f.lu, f.status}, {l.out[0], l.out[1]},
             size(l.rows(), l.rows()));
}

void lu(KernelCall& call) {
  const Linalg l(call);
  if (l.node.out().count() == 0) return;
  const Factors f = factor(l, l.out[0]);
  const bool wide = l.node.out(1).dtype == TF_INT64;
  call.encode(l.node, {f.order}, {l.out[1]}, l.node.out(1).bytes(), [&](NativeCall& native) {
    const CastArguments from = {kElementInt, 0};
    if (!wide) return native.copy(f.order, l.out[1], l.node.out(1).bytes());
    native.dispatch("cast_to_long", l.node.out(1).count(),
                    {native.in(0), native.out(), NativeCall::value(from)});
  });
  require_invertible(l, f);
}

// ---- triangular systems and Cholesky -----------------------------------------------------------

// Broadcasts batches of matrices as TensorFlow does. The result's batch is that of the output.
BroadcastArguments batch_grid(const Node& node) {
  const auto batch = [](const TensorInfo& tensor, size_t rank) {
    Shape shape(tensor.shape.begin(), tensor.shape.end() - 2);
    shape.insert(shape.begin(), rank - shape.size(), 1);
    return TensorInfo{TF_FLOAT, shape};
  };
  const size_t rank = node.out().rank() - 2;
  Node grid;
  grid.def = node.def;
  grid.inputs = {batch(node.in(0), rank), batch(node.in(1), rank)};
  grid.outputs = {batch(node.out(), rank)};
  return broadcast_arguments(grid, 0);
}

void matrix_triangular_solve(KernelCall& call) {
  const Linalg l(call);
  const int64_t n = l.rows(), columns = l.node.in(1).shape.back();
  if (l.node.out().count() == 0) return;
  LinalgArguments a = size(n, columns);
  a.lower = l.node.def->attr_bool("lower", true);
  a.adjoint = l.attr("adjoint");
  a.batch = batch_grid(l.node);
  l.dispatch("linalg_triangular", l.node.out().count() / n, {l.in[0], l.in[1]}, {l.out[0]}, a);
}

void cholesky(KernelCall& call) {
  const Linalg l(call);
  if (l.node.out().count() == 0) return;
  l.per_matrix("linalg_cholesky", {l.in[0]}, {l.out[0]}, size(l.rows(), l.rows()));
}

// ---- orthogonal decompositions -----------------------------------------------------------------

void qr(KernelCall& call) {
  const Linalg l(call);
  const int64_t m = l.rows(), n = l.columns();
  const int64_t inner = l.attr("full_matrices") ? m : std::min(m, n);
  const BufferSlice a = l.scratch(l.node.in(0).count(), l.dtype());
  const BufferSlice tau = l.scratch(l.batches() * std::min(m, n), l.dtype());
  l.copy(l.in[0], a, l.node.in(0).bytes());
  const LinalgArguments arguments = size(m, n, inner);
  if (l.node.in(0).count() > 0) l.per_matrix("linalg_qr", {}, {a, tau}, arguments);
  if (l.node.out(0).count() > 0) {
    l.dispatch("linalg_qr_columns", l.batches() * inner, {a, tau}, {l.out[0]}, arguments);
  }
  l.dispatch("linalg_upper", l.node.out(1).count(), {a}, {l.out[1]}, arguments);
}

void svd(KernelCall& call) {
  const Linalg l(call);
  const int64_t m = l.rows(), n = l.columns(), size_max = std::max(m, n), count = std::min(m, n);
  const bool vectors = l.node.def->attr_bool("compute_uv", true);
  const int64_t wanted = !vectors ? 0 : l.attr("full_matrices") ? size_max : count;
  if (count == 0) {  // no values; the vectors of a full basis are any
    for (size_t i : {1, 2}) {
      if (!vectors || l.node.out(i).count() == 0) continue;
      const int64_t side = l.node.out(i).shape.back();
      l.dispatch("linalg_identity", l.node.out(i).count(), {}, {l.out[i]}, size(side, side));
    }
    return;
  }
  const int64_t each = count * size_max + count * count + count + wanted * (size_max + 1) + 1;
  const BufferSlice scratch = l.scratch(l.batches() * each, TF_FLOAT);
  const BufferSlice u = vectors ? l.out[1] : scratch, v = vectors ? l.out[2] : scratch;
  l.per_matrix("linalg_svd", {l.in[0]}, {scratch, l.out[0], u, v}, size(m, n, wanted));
}

void self_adjoint_eig(KernelCall& call) {
  const Linalg l(call);
  const int64_t n = l.rows();
  if (l.node.in(0).count() == 0) return;
  const bool vectors = l.node.def->attr_bool("compute_v", true);
  const BufferSlice scratch = l.scratch(l.batches() * (2 * n * n + 2 * n + 2), l.dtype());
  const BufferSlice status = l.status();
  l.per_matrix("linalg_eigh", {l.in[0]}, {scratch, l.out[0], vectors ? l.out[1] : scratch, status},
               size(n, n, vectors));
  if (l.any_failed(status)) {
    throw_invalid_argument(l.node.describe(), ": Self-adjoint eigen decomposition was not ",
                           "successful. The input might not be valid.");
  }
}

OpRow row(const char* op, Run run, DTypes dtypes = {TF_FLOAT, TF_COMPLEX64}) {
  return {.op = op,
          .types = T(std::move(dtypes)),
          .run = run,
          .cluster = ClusterPolicy::kNever,
          .precision = Precision::kDeny};
}

}  // namespace

std::vector<OpRow> linalg_ops() {
  std::vector<OpRow> rows = {
      row("Cholesky", cholesky),
      row("LogMatrixDeterminant", log_matrix_determinant),
      row("Lu", lu),
      row("MatrixDeterminant", matrix_determinant),
      row("MatrixInverse", matrix_inverse),
      row("MatrixSolve", matrix_solve),
      row("MatrixTriangularSolve", matrix_triangular_solve),
      row("Qr", qr),
      row("SelfAdjointEigV2", self_adjoint_eig),
      row("Svd", svd, {TF_FLOAT}),
  };
  for (OpRow& r : rows) {
    if (std::string_view(r.op) == "Lu") r.types.push_back({"output_idx_type", kIndex});
  }
  return rows;
}

}  // namespace tfmetal
