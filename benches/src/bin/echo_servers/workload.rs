//! What the servers are made to do.

/// A kind of load.
pub(crate) struct Workload {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    /// What the table calls it.
    pub(crate) title: &'static str,
    pub(crate) shape: Shape,
}

pub(crate) enum Shape {
    Closed(ClosedShape),
    Storm(StormShape),
}

/// Connections that stay. Each has always as many messages under way, and sends the next when one
/// has come back.
#[derive(Clone, Copy)]
pub(crate) struct ClosedShape {
    pub(crate) connections: usize,
    pub(crate) message_bytes: usize,
    /// Messages under way on a connection.
    pub(crate) depth: usize,
}

/// Connections that come, have one message echoed, and go; there are always as many.
#[derive(Clone, Copy)]
pub(crate) struct StormShape {
    pub(crate) in_flight: usize,
    pub(crate) message_bytes: usize,
}

/// In the order of the table.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "c50",
        title: "50 connections, 64 B",
        shape: Shape::Closed(ClosedShape { connections: 50, message_bytes: 64, depth: 1 }),
    },
    Workload {
        name: "c1000",
        title: "1000 connections, 64 B",
        shape: Shape::Closed(ClosedShape { connections: 1000, message_bytes: 64, depth: 1 }),
    },
    Workload {
        name: "pipelined",
        title: "50 connections, 64 B, 16 under way on each",
        shape: Shape::Closed(ClosedShape { connections: 50, message_bytes: 64, depth: 16 }),
    },
    Workload {
        name: "bulk",
        title: "10 connections, 64 KiB",
        shape: Shape::Closed(ClosedShape { connections: 10, message_bytes: 64 << 10, depth: 1 }),
    },
    Workload {
        name: "storm",
        title: "storm, 256 at a time: connect, 64 B, close",
        shape: Shape::Storm(StormShape { in_flight: 256, message_bytes: 64 }),
    },
];
