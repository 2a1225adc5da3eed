//! Datagrams over UDP; those over Unix sockets are in `unix/`.

mod batch;
#[cfg(target_os = "linux")]
mod local_addr;
mod sessions;
mod udp;
