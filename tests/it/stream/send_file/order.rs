//! Any mixture of writes and files, whatever way each leaves.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use quickcheck::{Arbitrary, Gen, QuickCheck};
use waterwheel::{Conn, ConnId, ListenOptions, TcpOptions};

use super::with;
use crate::support::{Client, End, Rig, Script, pattern, pattern_at, scratch_file};

/// A part of the output.
#[derive(Clone, Debug)]
enum Part {
    Bytes(usize),
    File(usize, usize),
}

const FILE_BYTES: usize = 1 << 20;

/// Parts that are not made fewer once they fail, and neither are reads: each try may take as long
/// as the patience of a wait.
#[derive(Clone, Debug)]
struct Parts(Vec<Part>);

impl Arbitrary for Parts {
    fn arbitrary(random: &mut Gen) -> Self {
        Self(Vec::arbitrary(random))
    }
}

impl Arbitrary for Part {
    fn arbitrary(random: &mut Gen) -> Self {
        let (kind, from, count) = <(u8, u32, u32)>::arbitrary(random);
        let (from, count) = (from as usize % FILE_BYTES, count as usize);
        match kind % 4 {
            0 => Self::Bytes(1 + count % 199),
            1 => Self::Bytes(1 + count % 99_999),
            2 => Self::File(from, (from + count % 300).min(FILE_BYTES)),
            _ => Self::File(from, (from + count % FILE_BYTES).min(FILE_BYTES)),
        }
    }
}

/// Sizes of reads, one of them large: a client that always reads little takes longer than a test
/// waits.
#[derive(Clone, Debug)]
struct Reads(Vec<usize>);

impl Arbitrary for Reads {
    fn arbitrary(random: &mut Gen) -> Self {
        let sizes = Vec::<u32>::arbitrary(random).into_iter();
        let sizes = sizes.map(|size| 1 + size as usize % 199_999);
        Self(sizes.chain([200_000]).collect())
    }
}

#[test]
fn bytes_keep_their_order_whatever_way_they_leave() {
    fn property(parts: Parts, in_callback: bool, reads: Reads, small_buffer: bool) {
        let (Parts(parts), Reads(reads)) = (parts, reads);
        // Of which only a failure is shown.
        println!("{parts:?} {in_callback} {reads:?} {small_buffer}");
        let bytes = pattern(FILE_BYTES);
        let file = Arc::new(scratch_file(&bytes));
        let mut expected = Vec::new();
        for part in &parts {
            match *part {
                Part::Bytes(count) => expected.extend(pattern_at(expected.len() * 3, count)),
                Part::File(from, to) => expected.extend(&bytes[from..to]),
            }
        }
        let turn_between = reads.len() % 2 == 0;
        let at = Rc::new(Cell::new(0));
        let mut send = move |conn: &mut Conn<'_>, part: &Part| match *part {
            Part::Bytes(count) => {
                assert!(conn.write(&pattern_at(at.get() * 3, count)).is_accepted());
                at.set(at.get() + count);
            }
            Part::File(from, to) => {
                let range = from as u64..to as u64;
                assert!(conn.send_file(file.clone(), range).unwrap().is_accepted());
                at.set(at.get() + to - from);
            }
        };
        let tcp = TcpOptions::default().send_buffer_bytes(small_buffer.then_some(8 << 10));
        let listen = ListenOptions::default().tcp(tcp);
        let queued = parts.clone();
        let script = Script::new().eof(|_| {});
        let mut rig = match in_callback {
            true => Rig::with_listen(
                script.open(move |conn| queued.iter().for_each(|part| send(conn, part))),
                listen,
            ),
            false => {
                let mut rig = Rig::with_listen(script, listen);
                let (client, id) = rig.client();
                let reader = Reader { client, reads: &reads, turn_between };
                let found = reader.read_while_sending(&mut rig, id, &parts, &mut send);
                assert!(found == expected);
                return;
            }
        };
        let (client, id) = rig.client();
        let reader = Reader { client, reads: &reads, turn_between: true };
        let found = reader.read_while_sending(&mut rig, id, &[], |_, _| {});
        assert!(found == expected);
    }
    let mut check = QuickCheck::new().tests(64).rng(Gen::new(16));
    check.quickcheck(property as fn(_, _, _, _));
}

/// A client that reads pieces of these sizes.
struct Reader<'a> {
    client: Client,
    reads: &'a [usize],
    turn_between: bool,
}

impl Reader<'_> {
    /// Has part by part sent, reads between them if it is to, and then to the end.
    fn read_while_sending(
        mut self,
        rig: &mut Rig,
        id: ConnId,
        parts: &[Part],
        mut send: impl FnMut(&mut Conn<'_>, &Part),
    ) -> Vec<u8> {
        let (mut found, mut reads) = (Vec::new(), self.reads.iter().cycle());
        for part in parts {
            with(rig, id, |conn| send(conn, part));
            if self.turn_between {
                rig.turn();
                found.extend(self.client.try_read(*reads.next().unwrap()).unwrap());
            }
        }
        with(rig, id, |conn| conn.shutdown_write());
        let mut end = None;
        rig.until("the end", |_| {
            match self.client.try_read(*reads.next().unwrap()) {
                Ok(more) => found.extend(more),
                Err(found) => end = Some(found),
            }
            end.is_some()
        });
        assert_eq!(end, Some(End::Fin));
        found
    }
}
