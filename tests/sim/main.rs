//! The reactor in simulated worlds, by seeds.

mod datagrams;
mod pool;
mod seeds;
mod simulation;
mod world;
