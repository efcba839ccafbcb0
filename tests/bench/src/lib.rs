//! Benchmarks: programs that print ratios against a reference in the same run.
