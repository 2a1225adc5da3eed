//! Sockets of datagrams of the program.

use std::net::SocketAddr;
use std::rc::Rc;

use waterwheel::udp::{DatagramHandler, DatagramSocket, SocketId};
use waterwheel::{Context, HandlerKey};

use super::books::{Books, is_in_place, stretch};
use super::options::udp_options;
use super::tape::Tape;

/// Sockets of a run at a time.
const MOST_SOCKETS: usize = 4;

/// Answers, and checks what comes.
pub(super) struct Datagrams {
    pub(super) tape: Tape,
    pub(super) books: Rc<Books>,
}

impl DatagramHandler for Datagrams {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]) {
        assert!(is_in_place(0, bytes), "a datagram was changed");
        // Once the tape is used up nothing is answered: the peer answers everything.
        match self.tape.below(4) {
            1 => drop(socket.send_to(from, bytes)),
            2 => socket.close(),
            _ => {}
        }
    }

    fn on_close(&mut self, id: SocketId, cx: &mut Context<'_>) {
        assert!(cx.socket(id).is_none(), "a socket is found after its end");
        self.books.sockets.borrow_mut().retain(|&other| other != id);
    }
}

/// Opens a socket, sends by one, or closes one.
pub(super) fn use_datagrams(
    key: HandlerKey<Datagrams>,
    tape: &Tape,
    books: &Books,
    cx: &mut Context<'_>,
) {
    let place = tape.pick(&books.datagram_places.borrow());
    let socket = tape.pick(&books.sockets.borrow());
    match (tape.below(4), socket, place) {
        (0, _, Some(place)) if books.sockets.borrow().len() < MOST_SOCKETS => {
            let any = SocketAddr::from(([0, 0, 0, 0], 0));
            let options = udp_options(tape);
            let opened = match tape.flag() {
                true => cx.bind_udp(any, key, &options),
                false => cx.connect_udp(place, key, &options),
            };
            // There may be no descriptor.
            books.sockets.borrow_mut().extend(opened.map(|(id, _)| id));
        }
        (1, Some(socket), _) => {
            if let Some(mut socket) = cx.socket(socket) {
                socket.close();
                assert!(!socket.is_open());
            }
        }
        (_, Some(socket), Some(place)) => {
            let Some(mut socket) = cx.socket(socket) else { return };
            for _ in 0..1 + tape.below(16) {
                let bytes = stretch(0, tape.count());
                match socket.peer_addr() {
                    Some(_) => socket.send(&bytes),
                    None => socket.send_to(place, &bytes),
                };
            }
        }
        _ => {}
    }
}
