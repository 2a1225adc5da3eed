//! Any mixture of writes and files, whatever way each leaves.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;
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

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let bytes = prop_oneof![1usize..200, 1usize..100_000].prop_map(Part::Bytes);
    let file = prop_oneof![(0..FILE_BYTES, 0usize..300), (0..FILE_BYTES, 0..FILE_BYTES)]
        .prop_map(|(from, count)| Part::File(from, (from + count).min(FILE_BYTES)));
    prop::collection::vec(prop_oneof![bytes, file], 1..16)
}

/// Sizes of reads, one of them large: a client that always reads little takes longer than a test
/// waits.
fn reads() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..200_000, 0..20).prop_map(|mut reads| {
        reads.push(200_000);
        reads
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn bytes_keep_their_order_whatever_way_they_leave(
        parts in parts(),
        in_callback in any::<bool>(),
        reads in reads(),
        small_buffer in any::<bool>(),
    ) {
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
                prop_assert!(found == expected);
                return Ok(());
            }
        };
        let (client, id) = rig.client();
        let reader = Reader { client, reads: &reads, turn_between: true };
        let found = reader.read_while_sending(&mut rig, id, &[], |_, _| {});
        prop_assert!(found == expected);
    }
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
