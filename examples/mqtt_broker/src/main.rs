//! An MQTT 3.1.1 broker: QoS 0 and 1, wildcards, retained messages, keep-alive and wills. Messages
//! of QoS 0 are dropped for a subscriber that is behind; one with QoS 1 that falls further behind
//! than the limits allow is ended. No session outlives its connection, also if clean session is 0.
//!
//! ```text
//! cargo run -p mqtt_broker -- 127.0.0.1:1883
//! mosquitto_sub -p 1883 -t 'weather/#' -v
//! mosquitto_pub -p 1883 -t weather/rain -m 3mm -q 1 -r
//! ```
//! On the same port there are WebSockets with the subprotocol `mqtt`. With the feature `tls`, a
//! certificate and its key as further arguments encrypt the connections.

mod transport;

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::bail;
use transport::Transport;
use waterwheel::frame::{self, LengthPrefix};
use waterwheel::ws::Endpoint;
use waterwheel::{
    CloseReason, Closed, Conn, Context, Deadline, DeadlineKind, Handler, HandlerKey, Limits,
    ListenOptions, Peer, Reactor, Timer,
};

/// How MQTT writes the length of a packet, and the longest that is taken.
const LENGTH: LengthPrefix = LengthPrefix::varint(4);
const MAX_PACKET_BYTES: usize = 256 << 10;

/// How long a client may take to introduce itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most retained messages, and their bytes.
const MAX_RETAINED: usize = 100_000;
const MAX_RETAINED_BYTES: usize = 64 << 20;

/// Most filters of a client, because each message is compared with all of them; and their bytes, as
/// many as a packet that is not whole may keep.
const MAX_FILTERS: usize = 1_000;
const MAX_FILTER_BYTES: usize = MAX_PACKET_BYTES;

/// Most levels of a topic or a filter: they are compared level by level, and a text of 64 KiB has
/// room for 65,536 of them.
const MAX_LEVELS: usize = 128;

/// How much of topics and filters is compared for a client at once, in bytes, some half a
/// millisecond's; what a level costs beside its bytes; and the time in which the others have their
/// turn then.
const MAX_COMPARED_BYTES: usize = 500_000;
const LEVEL_BYTES: usize = 16;
const TURN: Duration = Duration::from_millis(1);

/// The kind of packet that a client leaves with.
const GOODBYE: u8 = 14;

/// What a subscription is answered with that is refused.
const REFUSED: u8 = 0x80;

/// What a connection keeps.
#[derive(Default)]
struct Client {
    /// Its name; empty until it has introduced itself.
    name: String,
    /// Filters that it has subscribed to, with their QoS.
    filters: BTreeMap<String, u8>,
    /// The bytes of all of them.
    filter_bytes: usize,
    /// The id of the last packet that was sent with QoS 1.
    last_id: u16,
    /// One and a half of its keep-alive, in which it must say something.
    silence: Option<Duration>,
    /// What is published if it ends without a goodbye.
    will: Option<Publish>,
    /// What is retained for its last subscription, as far as it has not got it. Nothing more is
    /// read before.
    replay: Option<Replay>,
    /// The others have their turn, and a timer is set.
    has_timer: bool,
    transport: Transport,
}

/// Retained messages that are looked through.
struct Replay {
    filters: BTreeMap<String, u8>,
    /// The topic to look at next.
    from: String,
}

#[derive(Clone)]
struct Publish {
    topic: String,
    payload: Box<[u8]>,
    qos: u8,
    retain: bool,
}

struct Broker {
    key: HandlerKey<Broker>,
    endpoint: Endpoint,
    retained: BTreeMap<String, Publish>,
    retained_bytes: usize,
    /// What was compared for the client whose callback runs.
    compared_bytes: usize,
}

/// A broken rule: the peer is let go.
struct Broken;

/// Takes the parts of a packet off its front.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Broken)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, Broken> {
        Ok(self.bytes(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, Broken> {
        Ok(u16::from_be_bytes(self.bytes(2)?.try_into().map_err(|_| Broken)?))
    }

    /// The number of a packet, which is not 0 (2.3.1-1).
    fn id(&mut self) -> Result<&'a [u8], Broken> {
        let id = self.bytes(2)?;
        if id == [0, 0] { Err(Broken) } else { Ok(id) }
    }

    /// Bytes with their length before them.
    fn field(&mut self) -> Result<&'a [u8], Broken> {
        let count = self.u16()?.into();
        self.bytes(count)
    }

    /// A text, which has no U+0000 in it (1.5.3-2).
    fn text(&mut self) -> Result<String, Broken> {
        let text = String::from_utf8(self.field()?.to_vec()).map_err(|_| Broken)?;
        if text.contains('\0') { Err(Broken) } else { Ok(text) }
    }
}

/// Whether a filter has a topic: `+` is for one level, `#` for all that follow. Topics that begin
/// with a dollar are for those alone who name them (4.7.2). What is compared is counted.
fn matches(filter: &str, topic: &str, compared_bytes: &mut usize) -> bool {
    let is_hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        let (wanted, level) = (filter.next(), topic.next());
        let bytes = wanted.map_or(0, str::len) + level.map_or(0, str::len);
        *compared_bytes += LEVEL_BYTES + bytes;
        match (wanted, level) {
            _ if is_hidden => return false,
            (Some("#"), _) | (None, None) => return true,
            (Some(wanted), Some(level)) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
}

/// With which QoS a message is sent to who has these filters, if any of them has it.
fn wanted(filters: &BTreeMap<String, u8>, message: &Publish, compared: &mut usize) -> Option<u8> {
    let found = filters.iter().filter(|(filter, _)| matches(filter, &message.topic, compared));
    found.map(|(_, &qos)| qos.min(message.qos)).max()
}

/// Whether messages can be of it: it is no filter.
fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['+', '#']) && !is_too_deep(topic)
}

/// Whether it can be subscribed to: a wildcard is a whole level, and `#` the last one (4.7.1).
fn is_filter(filter: &str) -> bool {
    let front = filter.strip_suffix('#').filter(|front| front.is_empty() || front.ends_with('/'));
    let mut levels = front.unwrap_or(filter).split('/');
    let are_whole = levels.all(|level| level == "+" || !level.contains(['+', '#']));
    !filter.is_empty() && are_whole && !is_too_deep(filter)
}

/// Whether a topic or a filter has more levels than are compared.
fn is_too_deep(topic: &str) -> bool {
    topic.split('/').nth(MAX_LEVELS).is_some()
}

/// Sends a packet in one piece.
fn send(client: &mut Client, conn: &mut Conn<'_>, first: u8, parts: [&[u8]; 4]) {
    let [a, b, c, d] = parts;
    if let Ok(length) = LENGTH.encode(parts.iter().map(|part| part.len()).sum()) {
        client.transport.send(conn, &[&[first], &length, a, b, c, d]);
    }
}

/// Sends a message to a subscriber.
fn deliver(client: &mut Client, conn: &mut Conn<'_>, message: &Publish, qos: u8, retain: bool) {
    if qos == 0 && conn.is_above_high_mark() {
        return;
    }
    let first = 0x30 | (qos << 1) | u8::from(retain);
    let length = (message.topic.len() as u16).to_be_bytes();
    if qos > 0 {
        client.last_id = client.last_id.checked_add(1).unwrap_or(1);
    }
    let last_id = client.last_id.to_be_bytes();
    let id = if qos > 0 { &last_id[..] } else { &[] };
    send(client, conn, first, [&length, message.topic.as_bytes(), id, &message.payload]);
}

/// Lets the others have their turn, or the client read, before anything more is done for it.
fn wait(client: &mut Client, conn: &mut Conn<'_>) {
    conn.pause_reading();
    client.has_timer = client.replay.is_none() || !conn.is_above_high_mark();
    if client.has_timer {
        conn.set_timer(TURN, 0);
    }
}

impl Broker {
    fn packet(
        &mut self,
        client: &mut Client,
        conn: &mut Conn<'_>,
        first: u8,
        body: &[u8],
    ) -> Result<(), Broken> {
        let parts = &mut Parts(body);
        let is_known = !client.name.is_empty();
        let reserved = match first >> 4 {
            3 => None,
            8 | 10 => Some(2),
            _ => Some(0),
        };
        if reserved.is_some_and(|bits| first & 15 != bits) {
            return Err(Broken); // (2.2.2-2)
        }
        match (first >> 4, is_known) {
            (1, false) => return self.connect(client, conn, parts),
            (3, true) => {
                let qos = (first >> 1) & 3;
                let topic = parts.text()?;
                let is_odd = qos == 0 && first & 8 != 0; // not sent again (3.3.1-2)
                if qos > 1 || is_odd || !is_topic(&topic) {
                    return Err(Broken); // QoS 2 is not spoken here
                }
                let id = if qos == 1 { parts.id()? } else { &[] };
                let retain = first & 1 == 1;
                let message = Publish { topic, payload: parts.0.into(), qos, retain };
                self.publish(&message, &mut conn.context());
                if let Some(qos) = wanted(&client.filters, &message, &mut self.compared_bytes) {
                    deliver(client, conn, &message, qos, false);
                }
                if qos == 1 {
                    send(client, conn, 0x40, [id, &[], &[], &[]]);
                }
            }
            (4, true) => {} // what was sent once has arrived
            (8, true) => self.subscribe(client, conn, parts)?,
            (10, true) => {
                let id = parts.id()?;
                if parts.0.is_empty() {
                    return Err(Broken); // nothing is named (3.10.3-2)
                }
                while !parts.0.is_empty() {
                    let filter = parts.text()?;
                    if client.filters.remove(&filter).is_some() {
                        client.filter_bytes -= filter.len();
                    }
                }
                send(client, conn, 0xb0, [id, &[], &[], &[]]);
            }
            (12, true) => send(client, conn, 0xd0, [&[]; 4]),
            (GOODBYE, true) => {
                client.will = None;
                client.transport.close(conn);
            }
            _ => return Err(Broken),
        }
        Ok(())
    }

    fn connect(
        &mut self,
        client: &mut Client,
        conn: &mut Conn<'_>,
        parts: &mut Parts<'_>,
    ) -> Result<(), Broken> {
        if (parts.field()?, parts.u8()?) != (b"MQTT", 4) {
            send(client, conn, 0x20, [&[0, 1], &[], &[], &[]]); // another version
            return Err(Broken);
        }
        let (flags, keep_alive) = (parts.u8()?, parts.u16()?);
        let (has_will, has_user, has_password) =
            (flags & 4 != 0, flags & 0x80 != 0, flags & 0x40 != 0);
        if flags & 1 != 0 || !has_will && flags & 0x38 != 0 || !has_user && has_password {
            return Err(Broken); // reserved, or about a will or a user that is not there (3.1.2)
        }
        client.name = parts.text()?;
        if client.name.is_empty() && flags & 2 == 0 {
            send(client, conn, 0x20, [&[0, 2], &[], &[], &[]]); // no id, no session (3.1.3-8)
            return Err(Broken);
        }
        if client.name.is_empty() {
            client.name = conn.id().to_string();
        }
        let mut will = None;
        if has_will {
            let (topic, payload) = (parts.text()?, parts.field()?.into());
            let (qos, retain) = ((flags >> 3) & 3, flags & 0x20 != 0);
            if qos > 1 || !is_topic(&topic) {
                return Err(Broken); // as a message with QoS 2
            }
            will = Some(Publish { topic, payload, qos, retain });
        }
        if has_user {
            parts.text()?; // whoever it is
        }
        if has_password {
            parts.field()?;
        }
        if !parts.0.is_empty() {
            return Err(Broken);
        }
        client.will = will;
        client.silence = (keep_alive > 0).then(|| Duration::from_secs(keep_alive.into()) * 3 / 2);
        // A client of the same name is one that has lost its connection.
        conn.context().with_each(self.key, |other, conn| {
            if other.name == client.name {
                conn.abort();
            }
        });
        send(client, conn, 0x20, [&[0, 0], &[], &[], &[]]);
        Ok(())
    }

    fn subscribe(
        &mut self,
        client: &mut Client,
        conn: &mut Conn<'_>,
        parts: &mut Parts<'_>,
    ) -> Result<(), Broken> {
        let id = parts.id()?;
        if parts.0.is_empty() {
            return Err(Broken); // nothing is named (3.8.3-3)
        }
        let (mut granted, mut added) = (Vec::new(), BTreeMap::new());
        while !parts.0.is_empty() {
            let (filter, qos) = (parts.text()?, parts.u8()?);
            if qos > 2 {
                return Err(Broken); // (3.8.3-4)
            }
            let qos = qos.min(1); // QoS 2 is granted as 1
            let bytes = match client.filters.get(&filter) {
                Some(_) => client.filter_bytes,
                None if client.filters.len() == MAX_FILTERS => usize::MAX,
                None => client.filter_bytes + filter.len(),
            };
            if bytes > MAX_FILTER_BYTES || !is_filter(&filter) {
                granted.push(REFUSED);
                continue;
            }
            granted.push(qos);
            client.filter_bytes = bytes;
            client.filters.insert(filter.clone(), qos);
            added.insert(filter, qos);
        }
        send(client, conn, 0x90, [id, &granted, &[], &[]]);
        // Of what the client has subscribed to before it has them already.
        client.replay = Some(Replay { filters: added, from: String::new() });
        self.replay(client, conn);
        Ok(())
    }

    /// Sends what is retained for a subscription, as far as it is found in one turn and the client
    /// reads it.
    fn replay(&mut self, client: &mut Client, conn: &mut Conn<'_>) {
        let Some(Replay { filters, from }) = client.replay.take() else { return };
        for (topic, message) in self.retained.range(from..) {
            if self.compared_bytes >= MAX_COMPARED_BYTES || conn.is_above_high_mark() {
                client.replay = Some(Replay { filters, from: topic.clone() });
                return;
            }
            self.compared_bytes += LEVEL_BYTES; // also where there is no filter
            if let Some(qos) = wanted(&filters, message, &mut self.compared_bytes) {
                deliver(client, conn, message, qos, true);
            }
        }
    }

    /// Sends a message to all subscribers but the one whose callback runs.
    fn publish(&mut self, message: &Publish, cx: &mut Context<'_>) {
        cx.with_each(self.key, |client, conn| {
            if let Some(qos) = wanted(&client.filters, message, &mut self.compared_bytes) {
                deliver(client, conn, message, qos, false);
            }
        });
        if message.retain {
            self.retain(message);
        }
    }

    /// Takes the packets at the front of an input; returns how many bytes that is.
    fn packets(&mut self, client: &mut Client, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut packets = frame::headed(input, LENGTH, MAX_PACKET_BYTES);
        for packet in packets.by_ref() {
            let done = packet.map_err(|_| Broken).and_then(|(&[first], body)| {
                self.packet(client, conn, first, body).map(|()| first >> 4 == GOODBYE)
            });
            match done {
                Ok(false) => {}
                Ok(true) => return input.len(), // nothing follows it
                Err(Broken) => {
                    conn.close_without_waiting();
                    return input.len();
                }
            }
            if client.replay.is_some() || self.compared_bytes >= MAX_COMPARED_BYTES {
                wait(client, conn);
                break;
            }
        }
        if !client.name.is_empty() && !client.transport.is_closing(conn) {
            conn.set_deadline(DeadlineKind::User, client.silence);
        }
        packets.consumed()
    }

    /// The others have had their turn, or the client has read: more of what is retained is looked
    /// through, and when all of it is, reading goes on.
    fn go_on(&mut self, client: &mut Client, conn: &mut Conn<'_>) {
        self.compared_bytes = 0;
        self.replay(client, conn);
        if client.replay.is_some() {
            return wait(client, conn);
        }
        conn.resume_reading();
        let packets = client.transport.take_kept();
        let done = self.packets(client, conn, &packets);
        client.transport.keep(&packets[done..]);
    }

    /// Keeps a message for those who subscribe later, in place of the last one of its topic, if
    /// there is room. One without payload only takes that away.
    fn retain(&mut self, message: &Publish) {
        let bytes = |message: &Publish| message.topic.len() + message.payload.len();
        if let Some(last) = self.retained.remove(&message.topic) {
            self.retained_bytes -= bytes(&last);
        }
        let all = self.retained_bytes + bytes(message);
        let has_room = self.retained.len() < MAX_RETAINED && all <= MAX_RETAINED_BYTES;
        if has_room && !message.payload.is_empty() {
            self.retained_bytes = all;
            self.retained.insert(message.topic.clone(), message.clone());
        }
    }
}

impl Handler for Broker {
    type State = Client;

    fn on_accept(&mut self, _: &Peer) -> Option<Client> {
        Some(Client::default())
    }

    fn on_open(&mut self, _: &mut Client, conn: &mut Conn<'_>) {
        conn.set_deadline(DeadlineKind::User, Some(PATIENCE));
    }

    fn on_data(&mut self, client: &mut Client, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        self.compared_bytes = 0;
        match &mut client.transport {
            Transport::Plain => self.packets(client, conn, input),
            Transport::Web(web) => {
                let (taken, packets) = web.read(conn, input);
                let done = self.packets(client, conn, &packets);
                client.transport.keep(&packets[done..]);
                taken
            }
            Transport::Unknown => {
                let taken = client.transport.begin(&self.endpoint, conn, input);
                if let Transport::Web(_) = client.transport {
                    conn.set_deadline(DeadlineKind::User, Some(PATIENCE));
                }
                match client.transport {
                    Transport::Unknown => taken,
                    _ if taken == input.len() => taken,
                    _ => taken + self.on_data(client, conn, &input[taken..]),
                }
            }
        }
    }

    fn on_timer(&mut self, client: &mut Client, conn: &mut Conn<'_>, _: Timer) {
        client.has_timer = false;
        self.go_on(client, conn);
    }

    fn on_drain(&mut self, client: &mut Client, conn: &mut Conn<'_>) {
        if client.replay.is_some() && !client.has_timer {
            self.go_on(client, conn);
        }
    }

    /// Nothing has come for one and a half of the keep-alive, or no answer to a goodbye.
    fn on_deadline(&mut self, client: &mut Client, _: &mut Conn<'_>, _: DeadlineKind) -> Deadline {
        // What is not read is not the client's silence.
        if client.replay.is_some() { Deadline::Keep(PATIENCE) } else { Deadline::Reset }
    }

    fn on_close(&mut self, mut client: Client, closed: Closed, cx: &mut Context<'_>) {
        let ends = matches!(closed.reason, CloseReason::Shutdown);
        if let Some(will) = client.will.take().filter(|_| !ends) {
            self.publish(&will, cx);
        }
        client.transport.end(&closed, cx);
    }
}

/// TLS, with a certificate and its key.
#[cfg(feature = "tls")]
fn encrypted(options: ListenOptions, chain: &str, key: &str) -> anyhow::Result<ListenOptions> {
    let config = waterwheel::tls::ServerConfig::from_pem_files(chain, key)?;
    Ok(options.tls(&config))
}

#[cfg(not(feature = "tls"))]
fn encrypted(_: ListenOptions, _: &str, _: &str) -> anyhow::Result<ListenOptions> {
    bail!("built without TLS: cargo run -p mqtt_broker --features tls (wants a C compiler)")
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    // Keep-alive is the clock of an open connection.
    let limits = Limits::internet().all_idle(None).min_receive_rate(None).pause_at_high_mark(false);
    let options = ListenOptions::default().limits(limits);
    let (addr, options) = match &args[..] {
        [] => ("127.0.0.1:1883", options),
        [addr] => (addr.as_str(), options),
        [addr, chain, key] => (addr.as_str(), encrypted(options, chain, key)?),
        _ => bail!("usage: mqtt_broker [HOST:PORT [CERTIFICATE KEY]]"),
    };
    let mut reactor = Reactor::new()?;
    let broker = reactor.register_with(|key| Broker {
        key,
        endpoint: transport::endpoint(),
        retained: BTreeMap::new(),
        retained_bytes: 0,
        compared_bytes: 0,
    });
    let addr = reactor.listen(addr, broker, options)?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    Ok(reactor.run()?)
}
