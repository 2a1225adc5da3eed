//! A connection of ours and its peer, a socket of the standard library.

use std::net::{SocketAddr, TcpListener};

use waterwheel::{Conn, ConnId, ConnectOptions, ListenOptions, TcpOptions};

use super::table::{self, TcpState};
use crate::support::{Call, Client, End, PATIENCE, Rig, Script};

/// More than the kernel takes for a peer that does not read, and less than it queues for us.
const STUCK_BYTES: usize = 200 << 10;

/// What the kernel gives without privileges; it doubles it for its own needs.
const SEND_BUFFER_BYTES: usize = 208 << 10;

/// Who began the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The peer did, and we accepted.
    Accepted,
    /// We did.
    Dialled,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Accepted, Self::Dialled];
}

/// A connection that is up.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) rig: Rig,
    pub(crate) id: ConnId,
    pub(crate) ours: SocketAddr,
    pub(crate) theirs: SocketAddr,
    pub(crate) peer: Option<Client>,
}

impl Pair {
    /// Our end keeps its write side open when the peer has finished.
    #[track_caller]
    pub(crate) fn new(side: Side) -> Self {
        let tcp = TcpOptions::default().send_buffer_bytes(Some(SEND_BUFFER_BYTES));
        let options = ListenOptions::default().tcp(tcp.clone());
        let mut rig = Rig::with_listen(Script::new().eof(|_| {}), options);
        let (peer, id) = match side {
            Side::Accepted => rig.client(),
            Side::Dialled => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let to = listener.local_addr().unwrap();
                let options = ConnectOptions::default().timeout(PATIENCE).tcp(tcp);
                let id = rig.connect(to, 1, &options);
                rig.until("connected", |rig| !rig.journal.opened().is_empty());
                (Client::from(listener.accept().unwrap().0), id)
            }
        };
        Self::of(rig, peer, id)
    }

    /// With a listener of one's own.
    #[track_caller]
    pub(crate) fn accepted(mut rig: Rig) -> Self {
        let (peer, id) = rig.client();
        Self::of(rig, peer, id)
    }

    fn of(rig: Rig, peer: Client, id: ConnId) -> Self {
        let (ours, theirs) = (peer.stream.peer_addr().unwrap(), peer.addr());
        Self { rig, id, ours, theirs, peer: Some(peer) }
    }

    /// Does something with our end.
    #[track_caller]
    pub(crate) fn act(&mut self, act: impl FnOnce(&mut Conn<'_>)) {
        let mut cx = self.rig.reactor.context();
        act(&mut cx.conn(self.id).expect("it is still open"));
    }

    pub(crate) fn peer(&mut self) -> &mut Client {
        self.peer.as_mut().expect("it has not been closed")
    }

    /// The peer sends FIN, and our end has heard of it.
    #[track_caller]
    pub(crate) fn finish(&mut self) {
        self.peer().finish();
        self.rig.until("the peer's end", |rig| rig.journal.has(&Call::Eof));
    }

    /// Fills the peer's receive buffer, so that what follows, our FIN too, stays with our kernel.
    #[track_caller]
    pub(crate) fn jam(&mut self) {
        self.act(|conn| assert!(conn.write(&[b'x'; STUCK_BYTES]).is_accepted()));
        self.rig.turn();
        self.act(|conn| assert_eq!(conn.pending_bytes(), 0, "the kernel has it all"));
    }

    /// Lets the peer read what it was sent, to the end.
    #[track_caller]
    pub(crate) fn unjam(&mut self) {
        let mut peer = self.peer.take().expect("it has not been closed");
        let (bytes, end) = self.rig.read_to_end(&mut peer);
        assert_eq!((bytes.len(), end), (STUCK_BYTES, End::Fin));
        self.peer = Some(peer);
    }

    /// Turns until the kernel has both ends in these states.
    #[track_caller]
    pub(crate) fn expect(&mut self, ours: Option<TcpState>, theirs: Option<TcpState>) {
        let ends = [(self.ours, self.theirs), (self.theirs, self.ours)];
        let expected = [ours, theirs];
        let mut found = [None, None];
        let what = format!("{expected:?} on {ends:?}");
        self.rig.until(&what, |_| {
            found = ends.map(|(local, remote)| table::state(local, remote));
            found == expected
        });
    }
}
