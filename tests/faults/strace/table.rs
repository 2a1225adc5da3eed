//! Which system calls fail, and how: one row for each call that the echo server makes, with the
//! errors that its manual page names.

/// A call, its errors, and what one failure of it may cost.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) call: &'static str,
    /// What the manual names, with `EAGAIN` for its alias `EWOULDBLOCK`.
    pub(crate) errnos: &'static [&'static str],
    /// Where the manual names it.
    pub(crate) source: &'static str,
    pub(crate) cost: Cost,
    /// What the reader of the figures must know.
    pub(crate) note: &'static str,
}

/// The most that one failure may cost. It never costs another connection anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// Nothing at all.
    Nothing,
    /// The start, if it happens then: one line of error and exit code 1.
    Start,
    /// The start, always: it cannot go on without.
    WholeStart,
    /// The start, or the one connection that the call was made for.
    Connection,
    /// The service: the loop cannot go on without, and says so in one line.
    HandlerKey,
    /// The descriptor and the peer's sight of the end: an injected failure skips the call, so
    /// what should have been closed stays open.
    Descriptor,
}

impl Row {
    /// What this error of this call may cost: an interruption costs nothing, nor does the word
    /// that there is nothing to be had now.
    pub(crate) fn cost_of(&self, errno: &str) -> Cost {
        match errno {
            _ if self.cost == Cost::Descriptor => self.cost,
            "EINTR" => Cost::Nothing,
            "EAGAIN" if self.is_of_sockets() => Cost::Nothing,
            _ => self.cost,
        }
    }

    /// Whether `errno` is a lie that uses up an edge: Linux says `EAGAIN` only of a socket that
    /// is empty or full, and reports an edge when that is over. Injected, there is no such edge,
    /// and the next one comes when the peer does something more.
    pub(crate) fn loses_edge(&self, errno: &str) -> bool {
        errno == "EAGAIN" && self.is_of_sockets()
    }

    fn is_of_sockets(&self) -> bool {
        ["accept4", "recvfrom", "sendto", "sendmsg"].contains(&self.call)
    }
}

const fn row(
    call: &'static str,
    source: &'static str,
    cost: Cost,
    errnos: &'static [&'static str],
) -> Row {
    Row { call, errnos, source, cost, note: "" }
}

const fn noted(row: Row, note: &'static str) -> Row {
    Row { note, ..row }
}

/// Calls that fail, in the order of a server's life.
pub(crate) const ROWS: &[Row] = &[
    // Memory and files, of which most is the loader's before `main`.
    noted(
        row("brk", "brk(2)", Cost::Nothing, &["ENOMEM"]),
        "the kernel answers a refusal with the old break and never with an errno; 0 is injected, \
         which the C library takes for one",
    ),
    row(
        "mmap",
        "mmap(2)",
        Cost::Nothing,
        &[
            "EACCES",
            "EAGAIN",
            "EBADF",
            "EEXIST",
            "EINVAL",
            "ENFILE",
            "ENODEV",
            "ENOMEM",
            "EOVERFLOW",
            "EPERM",
            "ETXTBSY",
        ],
    ),
    noted(
        row("munmap", "mmap(2)", Cost::Nothing, &["EINVAL", "ENOMEM"]),
        "injected, the memory stays mapped",
    ),
    row("mprotect", "mprotect(2)", Cost::Nothing, &["EACCES", "EINVAL", "ENOMEM"]),
    row(
        "access",
        "access(2)",
        Cost::Nothing,
        &[
            "EACCES",
            "EFAULT",
            "EINVAL",
            "EIO",
            "ELOOP",
            "ENAMETOOLONG",
            "ENOENT",
            "ENOMEM",
            "ENOTDIR",
            "EPERM",
            "EROFS",
            "ETXTBSY",
        ],
    ),
    row(
        "openat",
        "open(2)",
        Cost::Nothing,
        &[
            "EACCES",
            "EAGAIN",
            "EBADF",
            "EBUSY",
            "EDQUOT",
            "EEXIST",
            "EFAULT",
            "EFBIG",
            "EINTR",
            "EINVAL",
            "EISDIR",
            "ELOOP",
            "EMFILE",
            "ENAMETOOLONG",
            "ENFILE",
            "ENODEV",
            "ENOENT",
            "ENOMEM",
            "ENOSPC",
            "ENOTDIR",
            "ENXIO",
            "EOPNOTSUPP",
            "EOVERFLOW",
            "EPERM",
            "EROFS",
            "ETXTBSY",
        ],
    ),
    row(
        "newfstatat",
        "stat(2)",
        Cost::Nothing,
        &[
            "EACCES",
            "EBADF",
            "EFAULT",
            "EINVAL",
            "ELOOP",
            "ENAMETOOLONG",
            "ENOENT",
            "ENOMEM",
            "ENOTDIR",
            "EOVERFLOW",
        ],
    ),
    row(
        "statx",
        "statx(2)",
        Cost::Nothing,
        &[
            "EACCES",
            "EBADF",
            "EFAULT",
            "EINVAL",
            "ELOOP",
            "ENAMETOOLONG",
            "ENOENT",
            "ENOMEM",
            "ENOTDIR",
        ],
    ),
    row(
        "read",
        "read(2)",
        Cost::Nothing,
        &["EAGAIN", "EBADF", "EFAULT", "EINTR", "EINVAL", "EIO", "EISDIR"],
    ),
    row("pread64", "pread(2), read(2)", Cost::Nothing, &["EBADF", "EFAULT", "EINVAL", "EIO"]),
    // The process.
    row("arch_prctl", "arch_prctl(2)", Cost::Nothing, &["EFAULT", "EINVAL", "ENODEV", "EPERM"]),
    row("set_robust_list", "set_robust_list(2)", Cost::Nothing, &["EINVAL", "EPERM", "ESRCH"]),
    row("rseq", "the kernel's rseq.c", Cost::Nothing, &["EBUSY", "EFAULT", "EINVAL", "EPERM"]),
    row("poll", "poll(2)", Cost::Nothing, &["EFAULT", "EINTR", "EINVAL", "ENOMEM"]),
    row(
        "getrandom",
        "getrandom(2)",
        Cost::Nothing,
        &["EAGAIN", "EFAULT", "EINTR", "EINVAL", "ENOSYS"],
    ),
    row(
        "sched_getaffinity",
        "sched_setaffinity(2)",
        Cost::Nothing,
        &["EFAULT", "EINVAL", "EPERM", "ESRCH"],
    ),
    row("sigaltstack", "sigaltstack(2)", Cost::Nothing, &["EFAULT", "EINVAL", "ENOMEM", "EPERM"]),
    row("prlimit64", "getrlimit(2)", Cost::Start, &["EFAULT", "EINVAL", "EPERM", "ESRCH"]),
    row("rt_sigaction", "sigaction(2)", Cost::Start, &["EFAULT", "EINVAL"]),
    // The poll and what rings it.
    row(
        "epoll_create1",
        "epoll_create(2)",
        Cost::WholeStart,
        &["EINVAL", "EMFILE", "ENFILE", "ENOMEM"],
    ),
    row(
        "eventfd2",
        "eventfd(2)",
        Cost::WholeStart,
        &["EINVAL", "EMFILE", "ENFILE", "ENODEV", "ENOMEM"],
    ),
    row(
        "socketpair",
        "socketpair(2)",
        Cost::WholeStart,
        &["EAFNOSUPPORT", "EFAULT", "EMFILE", "ENFILE", "EOPNOTSUPP", "EPROTONOSUPPORT"],
    ),
    row("fcntl", "fcntl(2)", Cost::Start, &["EBADF", "EINVAL", "EMFILE", "EPERM"]),
    row(
        "epoll_ctl",
        "epoll_ctl(2)",
        Cost::Connection,
        &["EBADF", "EEXIST", "EINVAL", "ELOOP", "ENOENT", "ENOMEM", "ENOSPC", "EPERM"],
    ),
    row("epoll_wait", "epoll_wait(2)", Cost::HandlerKey, &["EBADF", "EFAULT", "EINTR", "EINVAL"]),
    // The listener.
    row(
        "socket",
        "socket(2)",
        Cost::WholeStart,
        &[
            "EACCES",
            "EAFNOSUPPORT",
            "EINVAL",
            "EMFILE",
            "ENFILE",
            "ENOBUFS",
            "ENOMEM",
            "EPROTONOSUPPORT",
        ],
    ),
    row(
        "setsockopt",
        "getsockopt(2)",
        Cost::Connection,
        &["EBADF", "EFAULT", "EINVAL", "ENOPROTOOPT", "ENOTSOCK"],
    ),
    row(
        "bind",
        "bind(2)",
        Cost::WholeStart,
        &[
            "EACCES",
            "EADDRINUSE",
            "EADDRNOTAVAIL",
            "EBADF",
            "EFAULT",
            "EINVAL",
            "ENOMEM",
            "ENOTSOCK",
        ],
    ),
    row(
        "listen",
        "listen(2)",
        Cost::WholeStart,
        &["EADDRINUSE", "EBADF", "ENOTSOCK", "EOPNOTSUPP"],
    ),
    row(
        "getsockname",
        "getsockname(2)",
        Cost::WholeStart,
        &["EBADF", "EFAULT", "EINVAL", "ENOBUFS", "ENOTSOCK"],
    ),
    row(
        "write",
        "write(2)",
        Cost::Start,
        &[
            "EAGAIN",
            "EBADF",
            "EDESTADDRREQ",
            "EDQUOT",
            "EFAULT",
            "EFBIG",
            "EINTR",
            "EINVAL",
            "EIO",
            "ENOSPC",
            "EPERM",
            "EPIPE",
        ],
    ),
    noted(
        row(
            "accept4",
            "accept(2), and of its \"Error handling\" the network's",
            Cost::Nothing,
            &[
                "EAGAIN",
                "EBADF",
                "ECONNABORTED",
                "EFAULT",
                "EINTR",
                "EINVAL",
                "EMFILE",
                "ENFILE",
                "ENOBUFS",
                "ENOMEM",
                "ENOTSOCK",
                "EOPNOTSUPP",
                "EPERM",
                "EPROTO",
                "ENETDOWN",
                "ENOPROTOOPT",
                "EHOSTDOWN",
                "ENONET",
                "EHOSTUNREACH",
                "ENETUNREACH",
                "ENOSR",
                "ESOCKTNOSUPPORT",
                "EPROTONOSUPPORT",
                "ETIMEDOUT",
            ],
        ),
        "injected, the connection still queues, and must be taken by another accept",
    ),
    // A connection.
    noted(
        row(
            "recvfrom",
            "recv(2), tcp(7); ECONNRESET from POSIX",
            Cost::Connection,
            &[
                "EAGAIN",
                "EBADF",
                "ECONNREFUSED",
                "ECONNRESET",
                "EFAULT",
                "EINTR",
                "EINVAL",
                "ENOMEM",
                "ENOTCONN",
                "ENOTSOCK",
                "ETIMEDOUT",
            ],
        ),
        "EAGAIN injected where there is something to read costs an edge that the kernel would not \
        take; the client then sends more, which is another",
    ),
    noted(
        row(
            "sendto",
            "send(2), tcp(7), ip(7)",
            Cost::Connection,
            &[
                "EACCES",
                "EAGAIN",
                "EALREADY",
                "EBADF",
                "ECONNRESET",
                "EDESTADDRREQ",
                "EFAULT",
                "EHOSTUNREACH",
                "EINTR",
                "EINVAL",
                "EISCONN",
                "EMSGSIZE",
                "ENOBUFS",
                "ENOMEM",
                "ENOTCONN",
                "ENOTSOCK",
                "EOPNOTSUPP",
                "EPIPE",
                "ETIMEDOUT",
            ],
        ),
        "EAGAIN as with recvfrom; the first two are those of the signal handler's pipe",
    ),
    row("shutdown", "shutdown(2)", Cost::Connection, &["EBADF", "EINVAL", "ENOTCONN", "ENOTSOCK"]),
    noted(
        row("close", "close(2)", Cost::Descriptor, &["EBADF", "EDQUOT", "EINTR", "EIO", "ENOSPC"]),
        "injected, the descriptor stays open: this leak is the injection's own (Linux closes it \
         whatever it answers) and allowed, as is that the peer sees no end",
    ),
];

/// Calls that are made and not made to fail, and why.
pub(crate) const EXEMPT: &[(&str, &str)] = &[
    ("execve", "strace's own start of the server"),
    ("exit_group", "does not return"),
    ("rt_sigreturn", "does not return, and its result is the interrupted call's"),
    ("gettid", "cannot fail"),
    ("set_tid_address", "cannot fail"),
];
