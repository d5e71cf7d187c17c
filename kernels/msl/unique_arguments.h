// Arguments of the shaders that find equal rows.
#pragma once

// Rows of a tensor [outer, rows, inner]: row r is the elements [:, r, :].
struct UniqueArguments {
  unsigned outer;
  unsigned rows;
  unsigned inner;
  unsigned chunk;  // rows that a thread goes through
  unsigned groups;
};
