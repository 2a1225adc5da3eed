//! Datagrams over UDP; those over Unix sockets are in `unix/`.

mod batch;
mod sessions;
mod udp;
