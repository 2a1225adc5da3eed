//! Benchmarks of waterwheel.
