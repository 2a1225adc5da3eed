'use strict';
// Connections as lanes: each with its state and its callbacks along a line of time. Drawn by
// `page.js`, which also has the words for numbers.

const LANE_SECONDS = 8, LANE_HEIGHT = 24;

/// What the states of TCP mean, in words.
const STATES = {
  SYN_SENT: 'this end has sent SYN, and waits for the answer',
  SYN_RECEIVED: 'SYN is answered, and the last ACK of the handshake is waited for',
  ESTABLISHED: 'up: neither end has sent FIN',
  CLOSE_WAIT: 'the peer has ended (FIN); this end may still write',
  FIN_WAIT: 'this end has ended (FIN); the peer may still write',
  FIN_WAIT_1: 'this end has ended, and its FIN is not acknowledged',
  FIN_WAIT_2: 'this end has ended (FIN); the peer may still write',
  CLOSING: 'both ends have sent FIN at once, and ours is not acknowledged',
  LAST_ACK: 'both have ended, the peer first; our FIN is not acknowledged',
  TIME_WAIT: 'both have ended, this end first',
  CLOSED: 'no connection any more',
  none: 'a Unix socket: no TCP',
};

/// Phases that need a word.
const PHASES_OF_LANES = {
  opening: 'its handshake is under way', connecting: 'the connect is under way',
  paused: 'its handler has paused reading', writing: 'output is queued',
  ending: 'its handler has closed it or has shut its writing down',
  closing: 'on_close is about to be called',
};

const lanes = { shown: [], of: 0, isFresh: true, ticks: new Map(), peers: new Map(), rows: [],
  chosen: null };

/// A lane as it is sent.
function laneOf(sent) {
  const [id, handler, phase, tcp, isAsked, peer, since, ended, read, written, output, callbacks,
    reason, unsent, isOutgoing] = sent;
  return { id, handler, phase, tcp, isAsked, peer, since, ended, read, written, output, callbacks,
    reason, unsent, isOutgoing };
}

/// What a stream of views has told so far is told again by the next one.
function forgetLanes() {
  lanes.isFresh = true;
}

function noteLanes(view) {
  const { of, shown, ticks } = view.lanes, begin = view.at - LANE_SECONDS * 1e9;
  if (lanes.isFresh) lanes.ticks.clear();
  lanes.isFresh = false;
  lanes.of = of;
  lanes.shown = shown.map(laneOf);
  const kept = lanes.shown.map(({ id }) =>
    [id, (lanes.ticks.get(id) || []).filter(([at, length]) => at + length >= begin)]);
  const peers = lanes.shown.map(({ id, peer }) => [id, peer || lanes.peers.get(id)]);
  [lanes.ticks, lanes.peers] = [new Map(kept), new Map(peers)];
  for (const [place, ...tick] of ticks) kept[place][1].push(tick);
}

const laneQuery = () => {
  const handler = $('lane-handler').value;
  return `?order=${$('lane-order').value}` + (handler ? `&handler=${handler}` : '');
};

/// The handlers to choose from.
function fillHandlers(handlers) {
  const select = $('lane-handler'), key = JSON.stringify(handlers.map((it) => it && it[0]));
  if (select.dataset.key === key) return;
  const { value } = select;
  select.dataset.key = key;
  const options = handlers.map((it, at) => it && node('option', { value: at }, it[0]));
  select.replaceChildren(node('option', { value: '' }, 'all handlers'), ...options.filter(Boolean));
  select.value = value;
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}

const CELLS = ['who', 'peer', 'tcp', 'age', 'in', 'out', 'strip'];

function buildLane(at) {
  const cells = Object.fromEntries(CELLS.map((name) => [name, node('span', { class: name })]));
  const canvas = node('canvas', { 'aria-hidden': 'true' });
  cells.strip.append(canvas);
  const row = node('li', { class: 'lane', role: 'option', id: `lane-${at}` }, ...Object.values(cells));
  row.addEventListener('click', () => chooseLane(at));
  seen.observe(row);
  return { row, cells, canvas, pen: canvas.getContext('2d'), isSeen: false };
}

/// What cannot be seen is not drawn.
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    lanes.rows.find(({ row }) => row === target).isSeen = isIntersecting;
  }
  if (views.length) requestAnimationFrame(drawLanes);
}, { rootMargin: '60px' });

/// The other end, and who has called whom.
function peerOf({ id, tcp, isOutgoing }) {
  const peer = lanes.peers.get(id) || (tcp === 'none' ? 'a Unix socket' : 'an unknown address');
  return `${isOutgoing ? 'to' : 'from'} ${peer}`;
}

/// How a lane stands, in a word or two.
function standing({ ended, reason, tcp, phase }) {
  if (ended !== null) return reason;
  if (tcp === 'none') return phase;
  return phase === 'open' || phase === 'ending' ? tcp : `${tcp}, ${phase}`;
}

/// Whether a connection ended as nobody wishes.
const endedBadly = ({ ended, reason, unsent }) =>
  ended !== null && (unsent > 0 || !/^(closed|idle|the reactor)/.test(reason));

function fillLane({ row, cells }, lane, now) {
  const { handler, tcp, ended, since, read, written, id } = lane;
  const name = nameOf(handler);
  setText(cells.who, name);
  if (cells.who.title !== name) cells.who.title = name;
  setText(cells.peer, peerOf(lane));
  setText(cells.tcp, standing(lane));
  const source = ended !== null ? 'why it has ended'
    : `${STATES[tcp] || ''} (${lane.isAsked ? 'told by the system' : 'as the loop knows it'})`;
  if (cells.tcp.title !== source) cells.tcp.title = source;
  setText(cells.age, time(Math.max(0, (ended === null ? now : ended) - since)));
  setText(cells.in, bytes(read));
  setText(cells.out, bytes(written));
  const isPlain = tcp === 'ESTABLISHED' || tcp === 'none';
  const kind = endedBadly(lane) ? 'bad' : ended !== null ? 'over' : isPlain ? 'plain' : 'half';
  if (row.dataset.kind !== kind) row.dataset.kind = kind;
  const isChosen = String(id === lanes.chosen);
  if (row.getAttribute('aria-selected') !== isChosen) row.setAttribute('aria-selected', isChosen);
}

/// How tall a callback is drawn: from 1 µs to what holds the loop, each doubling as much taller.
function tall(length, slow) {
  const part = Math.log2(Math.max(length, 1000) / 1000) / Math.log2(Math.max(slow, 2000) / 1000);
  return 4 + (LANE_HEIGHT - 8) * Math.min(1, part);
}

function drawStrip({ canvas, pen }, lane, width, { at: end, slow_ns: slow }, colors) {
  const ratio = devicePixelRatio || 1, foot = LANE_HEIGHT - 3;
  if (canvas.width !== Math.round(width * ratio)) {
    [canvas.width, canvas.height] = [Math.round(width * ratio), LANE_HEIGHT * ratio];
    canvas.style.height = LANE_HEIGHT + 'px';
  }
  const begin = end - LANE_SECONDS * 1e9;
  const x = (at) => (width - 6) * Math.max(0, at - begin) / (end - begin);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, LANE_HEIGHT);
  const until = x(lane.ended === null ? end : lane.ended);
  pen.fillStyle = colors.soft;
  pen.fillRect(x(lane.since), foot, until - x(lane.since), 1);
  if (lane.since > begin) pen.fillRect(x(lane.since), foot - 6, 1.5, 7);
  for (const [at, length, , name] of lanes.ticks.get(lane.id)) {
    const isSlow = length >= slow, height = tall(length, slow);
    pen.fillStyle = isSlow ? colors.alarm : name === 'on_data' ? colors.water : colors.c1;
    pen.fillRect(x(at), foot - height, Math.max(1.5, x(at + length) - x(at)), height);
  }
  if (lane.ended !== null) {
    pen.fillStyle = endedBadly(lane) ? colors.alarm : colors.ink;
    pen.fillRect(until, 1, 2, foot - 1);
    pen.fillRect(until - 2, foot - 3, 6, 6);
  }
}

function drawLanes() {
  const last = views[views.length - 1], { shown, of, rows } = lanes, list = $('lanes');
  fillHandlers(last.handlers);
  $('no-lanes').hidden = shown.length > 0;
  list.hidden = shown.length === 0;
  setText($('lane-slow'), time(last.slow_ns));
  while (rows.length < shown.length) rows.push(buildLane(rows.length));
  if (list.children.length !== shown.length) {
    list.replaceChildren(...rows.slice(0, shown.length).map(({ row }) => row));
  }
  const width = rows.length && shown.length ? rows[0].cells.strip.clientWidth : 0;
  const style = getComputedStyle(document.documentElement);
  const paint = (name) => [name, style.getPropertyValue('--' + name)];
  const colors = Object.fromEntries(['soft', 'alarm', 'water', 'c1', 'ink'].map(paint));
  shown.forEach((lane, at) => {
    fillLane(rows[at], lane, last.at);
    if (rows[at].isSeen) drawStrip(rows[at], lane, width, last, colors);
  });
  const ended = shown.filter((lane) => lane.ended !== null).length;
  setText($('lanes-count'), (shown.length - ended < of ? `${shown.length - ended} of ${of}` : `${of}`) +
    (ended ? `, and ${ended} that ended just now` : ''));
  tellLane();
}

/// The chosen lane in words.
function tellLane() {
  const lane = lanes.shown.find(({ id }) => id === lanes.chosen);
  const at = lanes.shown.indexOf(lane);
  if (at < 0) $('lanes').removeAttribute('aria-activedescendant');
  else $('lanes').setAttribute('aria-activedescendant', `lane-${at}`);
  if (lanes.chosen === null) return setText($('lane'), 'No lane is chosen.');
  if (!lane) return setText($('lane'), `Connection ${lanes.chosen} has no lane any more.`);
  const { at: now } = views[views.length - 1];
  const { id, handler, tcp, isAsked, phase, ended, since, reason, unsent } = lane;
  const calls = lanes.ticks.get(id);
  const count = calls.reduce((sum, call) => sum + call[2], 0);
  const longest = calls.reduce((most, call) => (most && most[1] >= call[1] ? most : call), null);
  const state = ended !== null
    ? `ended ${time(Math.max(0, now - ended))} ago: ${reason}` + (unsent ? `, ${bytes(unsent)} unsent` : '')
    : (tcp === 'none' ? STATES.none : `${tcp}, ${isAsked ? 'told by the system' : 'as the loop knows it'}: ` +
      STATES[tcp]) + (PHASES_OF_LANES[phase] ? `; ${PHASES_OF_LANES[phase]}` : '');
  setText($('lane'), `Connection ${id} of ${nameOf(handler)}, ${peerOf(lane)}: ${state}. ` +
    `${time(Math.max(0, (ended === null ? now : ended) - since))} old, ` +
    `${bytes(lane.read)} in, ${bytes(lane.written)} out, ${bytes(lane.output)} queued. ` +
    (longest ? `${count} callbacks in the last ${LANE_SECONDS} s, the longest ${longest[3]}, ` +
      `${time(longest[1])}.` : `No callback in the last ${LANE_SECONDS} s.`));
}

function chooseLane(at) {
  const lane = lanes.shown[Math.max(0, Math.min(lanes.shown.length - 1, at))];
  if (!lane) return;
  lanes.chosen = lane.id;
  drawLanes();
  const row = lanes.rows[lanes.shown.indexOf(lane)].row, box = $('lanes');
  const { offsetTop: top, offsetHeight: height } = row;
  if (top < box.scrollTop) box.scrollTop = top;
  if (top + height > box.scrollTop + box.clientHeight) box.scrollTop = top + height - box.clientHeight;
}

function listenToLanes(reopen) {
  for (const id of ['lane-order', 'lane-handler']) $(id).addEventListener('change', reopen);
  $('lanes').addEventListener('keydown', (event) => {
    const now = lanes.shown.findIndex(({ id }) => id === lanes.chosen);
    const steps = { ArrowUp: now - 1, ArrowDown: now + 1, Home: 0, End: lanes.shown.length - 1 };
    if (!(event.key in steps)) return;
    chooseLane(steps[event.key]);
    event.preventDefault();
  });
}
