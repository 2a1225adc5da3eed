//! What both ends of a transfer share: the lines that they write to each other, names that are
//! safe, checksums, and what people see. The programs are `recv_file` and `send_file`.

pub mod bars;
pub mod name;
pub mod sum;
pub mod wire;
