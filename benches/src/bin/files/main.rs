//! What a file costs its sender: `Conn::send_file` against a bare sendfile(2) loop.
//!
//! ```text
//! cargo run --release -p waterwheel-benches --bin files -- --gib 4 --rounds 5
//! ```
//! Each sender is a process of its own that connects, sends a file of zeros that takes no room,
//! and tells its processor time and its largest resident memory. The runs are interleaved, and
//! the ratio is the median of each round's.

#[cfg(target_os = "linux")]
mod compare;

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    compare::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("files: it holds against Linux's sendfile(2), and this is another system");
}
