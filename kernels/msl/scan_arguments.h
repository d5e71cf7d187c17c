// Arguments of the shaders that scan, search and count.
#pragma once

enum ScanOperation { kScanSum = 0, kScanProduct = 1, kScanLogSumExp = 2 };

// A tensor as [outer, length, inner], scanned along the middle.
struct ScanArguments {
  unsigned op;  // a ScanOperation
  unsigned length;
  unsigned inner;
  unsigned chunk;   // elements that a thread scans
  unsigned chunks;  // of a line
  unsigned exclusive;
  unsigned reverse;
};

struct SearchArguments {
  unsigned sorted;  // elements of a row of sorted numbers
  unsigned values;  // to find in each row
  unsigned upper;   // after equal elements, else before them
};

#define MAX_BOUNDARIES 1000  // that fit into the bytes of an argument

struct Boundaries {
  unsigned count;
  unsigned add;  // to what is there
  float at[MAX_BOUNDARIES];
};

struct InTopArguments {
  unsigned classes;
  long k;
};

// Counts in bins, by threads that each have bins of their own: bins[row][part][bin].
struct CountArguments {
  unsigned columns;  // values of a row
  unsigned parts;    // threads of a row
  unsigned bins;
  unsigned weighted;
  unsigned binary;  // whether a value occurs, not how often
};

// Bins of equal width: of a - low, divided by step. A step is a double, made of three floats.
struct HistogramArguments {
  float low;
  float step[3];
};
