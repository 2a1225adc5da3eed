'use strict';
// Steps through a recorded run. All data stands in the page; nothing is loaded.

const data = JSON.parse(document.getElementById('data').textContent);
const { steps, sockets } = data;
const $ = (id) => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';
const ROWS_BEFORE = 14, ROWS_AFTER = 9, PACKETS_BEFORE = 15, PACKETS_AFTER = 3;
const LEVELS = 7, SLOTS = 64;

// The fields of a step.
const AT = 0, HOST = 1, KIND = 2, TEXT = 3, SLOT = 4, SOCKET = 5, PATCHES = 6, PACKET = 7;

/// How everything stands behind the current step, and what each step has replaced.
const state = new Map(), undo = [];
let now = 0, fresh = new Set(), player = null;

function node(tag, attributes = {}, ...children) {
  const isSvg = ['svg', 'path', 'rect', 'text', 'line', 'g', 'title'].includes(tag);
  const it = isSvg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) it.setAttribute(name, value);
  it.append(...children);
  return it;
}

/// A text in which what stands between backticks is code.
function prose(text) {
  return text.split('`').map((part, at) => (at % 2 ? node('code', {}, part) : part));
}

const name = ([host, part, key]) => `${host}|${part}|${key}`;

function begin() {
  for (const patch of data.state) state.set(name(patch), patch[3]);
  apply(0);
}

function apply(at) {
  undo[at] = steps[at][PATCHES].map((patch) => [name(patch), state.get(name(patch))]);
  for (const patch of steps[at][PATCHES]) state.set(name(patch), patch[3]);
  fresh = new Set(steps[at][PATCHES].map(name));
}

/// Goes to a step, through all that lie between.
function go(to) {
  to = Math.max(0, Math.min(steps.length - 1, to));
  while (now < to) apply(++now);
  while (now > to) {
    for (const [key, value] of undo[now].reverse()) {
      if (value === undefined) state.delete(key);
      else state.set(key, value);
    }
    fresh = new Set(steps[--now][PATCHES].map(name));
  }
  draw();
}

// Words.

function clock(ns) {
  return (ns / 1e9).toFixed(6) + ' s';
}

function between(ns) {
  if (ns >= 1e9) return (ns / 1e9).toFixed(2) + ' s';
  return ns >= 1e6 ? (ns / 1e6).toFixed(2) + ' ms' : (ns / 1e3).toFixed(1) + ' µs';
}

const ipOf = (socket) => sockets[socket][0].replace(/:\d+$/, '');

function machine(ip) {
  const [, kind, , last] = ip.split('.').map(Number);
  if (kind === 0) return data.hosts[last - 1] || ip;
  const [, , high, low] = ip.split('.').map(Number);
  return `peer ${high * 256 + low}`;
}

function get(host, part, key = 0) {
  return state.get(`${host}|${part}|${key}`);
}

function all(host, part) {
  const found = [], prefix = `${host}|${part}|`;
  for (const [key, value] of state) {
    if (key.startsWith(prefix) && value !== null) found.push([Number(key.slice(prefix.length)), value]);
  }
  return found.sort((one, other) => one[0] - other[0]);
}

// The views.

function drawSteps() {
  const from = Math.max(0, Math.min(now - ROWS_BEFORE, steps.length - ROWS_BEFORE - ROWS_AFTER));
  const rows = [];
  for (let at = from; at < Math.min(steps.length, from + ROWS_BEFORE + ROWS_AFTER); at++) {
    const step = steps[at], who = step[HOST] < 0 ? 'net' : data.hosts[step[HOST]];
    const li = node('li', { title: step[KIND] }, node('span', {}, (step[AT] / 1e9).toFixed(6)),
      node('span', {}, who), node('span', { class: step[KIND] }, step[TEXT]));
    if (at === now) li.setAttribute('aria-current', 'step');
    li.addEventListener('click', () => go(at));
    rows.push(li);
  }
  $('steps').replaceChildren(...rows);
}

const packets = steps.map((step, at) => [step, at]).filter(([step]) => step[PACKET]);

/// The packet whose socket knows its other end by the end of the run.
function ends([from, to]) {
  const other = to >= 0 ? to : sockets[from][2];
  return [ipOf(from), other >= 0 ? ipOf(other) : sockets[from][1].replace(/:\d+$/, '')];
}

function drawPackets() {
  let last = packets.findIndex(([, at]) => at > now);
  if (last < 0) last = packets.length;
  const shown = packets.slice(Math.max(0, last - PACKETS_BEFORE), last + PACKETS_AFTER);
  const ips = [...new Set(shown.flatMap(([step]) => ends(step[PACKET])))];
  const order = (ip) => ip.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  ips.sort((one, other) => order(one) - order(other));
  const room = $('diagram').clientWidth || 400;
  const width = Math.max(room, 90 + ips.length * 92), step = (width - 90) / Math.max(ips.length, 1);
  const x = (ip) => 80 + step / 2 + ips.indexOf(ip) * step;
  const height = 48 + shown.length * 30;
  const svg = node('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img' },
    node('title', {}, 'Packets between machines, from above to below'));
  for (const ip of ips) {
    svg.append(node('text', { x: x(ip), y: 14, 'text-anchor': 'middle' }, machine(ip)),
      node('line', { x1: x(ip), x2: x(ip), y1: 22, y2: height }));
  }
  shown.forEach(([of, at], row) => svg.append(drawPacket(of, at, 42 + row * 30, x, width)));
  if (!shown.length) svg.append(node('text', { x: 8, y: 34, class: 'soft' }, 'no packet yet'));
  $('diagram').replaceChildren(svg);
}

function drawPacket(step, at, y, x, width) {
  const [from, , kind, bytes, arrives] = step[PACKET], [source, target] = ends(step[PACKET]);
  const x1 = x(source), x2 = x(target), end = arrives === null ? (x1 + x2) / 2 : x2;
  const classes = [kind === 'RST' ? 'rst' : '', at > now ? 'later' : '', at === now ? 'now' : ''];
  const g = node('g', { class: classes.join(' ') });
  const side = end > x1 ? -1 : 1, foot = y + 13;
  const label = `${kind}${bytes ? ` ${bytes} B` : ''}`;
  g.append(node('rect', { x: 0, y: y - 13, width, height: 29 }),
    node('text', { x: 2, y: y + 4, class: 'soft' }, (step[AT] / 1e9).toFixed(6)),
    node('line', { class: 'packet', x1, x2: end, y1: y + 2, y2: foot }),
    node('path', { class: 'head', d: `M${end} ${foot}l${8 * side} -5l0 7z` }),
    node('text', { x: (x1 + end) / 2, y: y - 2, 'text-anchor': 'middle' }, label),
    node('title', {}, `s${from}: ${label}` +
      (arrives === null ? ', lost' : `, on the way for ${between(arrives - step[AT])}`)));
  g.addEventListener('click', () => go(at));
  return g;
}

const QUEUES = [['ready', 'ready queue'], ['listeners', 'listeners ready'], ['mail', 'mailbox'],
  ['flush', 'to flush'], ['closed', 'to tear down'], ['retries', 'to try again'],
  ['deferred', 'deferred timers'], ['files', 'descriptors']];

function drawQueues(host) {
  const rows = [];
  for (const [part, title] of QUEUES) {
    const value = get(host, part);
    if (value === undefined) continue;
    let text = Array.isArray(value) ? value.map((slot) => `c${slot}`).join(' ') || '–' : String(value);
    if (part === 'files') text = `${value[0]} of ${value[1]}`;
    const isNew = fresh.has(`${host}|${part}|0`);
    rows.push(node('dt', {}, title), node('dd', isNew ? { class: 'new' } : {}, text));
  }
  for (const [socket, [waiting, most]] of all(-1, 'accept')) {
    if (machine(ipOf(socket)) !== data.hosts[host]) continue;
    const isNew = fresh.has(`-1|accept|${socket}`);
    rows.push(node('dt', {}, `accept queue of s${socket}`),
      node('dd', isNew ? { class: 'new' } : {}, `${waiting} of ${most}`));
  }
  $('queues').replaceChildren(...rows);
}

function drawWheel(host) {
  const tick = get(host, 'tick') || 0, entries = get(host, 'wheel') || [];
  const full = new Map();
  for (const [level, slot] of entries) {
    const key = level * SLOTS + slot;
    full.set(key, (full.get(key) || 0) + 1);
  }
  const cells = [];
  for (let level = 0; level < LEVELS; level++) {
    const hand = Math.floor(tick / SLOTS ** level) % SLOTS;
    cells.push(node('span', { title: `a slot is ${SLOTS ** level} ms wide` }, String(level)));
    for (let slot = 0; slot < SLOTS; slot++) {
      const count = full.get(level * SLOTS + slot);
      const classes = (count ? 'full ' : '') + (slot === hand ? 'hand' : '');
      const title = `level ${level}, slot ${slot}: ${count || 0}`;
      cells.push(node('i', { class: classes, title }));
    }
  }
  $('wheel').replaceChildren(...cells);
  $('wheel-text').textContent = `tick ${tick}, ${entries.length} entries; the frame is the hand`;
  const words = entries.slice(0, 12).map(([level, slot, deadline, what, whose]) =>
    `${what}${whose < 0 ? '' : what === 'connection' ? ` c${whose}` : ''} at ${deadline} ` +
    (level < 0 ? '(due)' : `(${level}/${slot})`));
  $('entries').textContent = words.join('; ') + (entries.length > 12 ? '; …' : '');
}

function fill(table, rows) {
  const body = table.tBodies[0];
  body.replaceChildren(...rows.map(([isNew, ...cells]) => {
    const tr = node('tr');
    cells.forEach((text, at) => {
      const classes = (isNew ? 'new ' : '') + (typeof text === 'number' ? 'n' : '');
      tr.append(node('td', classes.trim() ? { class: classes } : {}, String(text)));
    });
    return tr;
  }));
}

function drawTables(host) {
  fill($('slab'), all(host, 'slab').slice(0, 200).map(([slot, [, phase, input, output, flags, tick]]) =>
    [fresh.has(`${host}|slab|${slot}`), `c${slot}`, phase, input, output,
      tick === null ? '–' : `at ${tick}`, flags.join(', ')]));
  const open = all(-1, 'tcp').filter(([socket, tcp]) =>
    tcp !== 'CLOSED' || fresh.has(`-1|tcp|${socket}`));
  fill($('tcp'), open.slice(0, 200).map(([socket, tcp]) => [fresh.has(`-1|tcp|${socket}`),
    `s${socket}`, `${machine(ipOf(socket))} ${sockets[socket][0].split(':')[1]}`,
    tcp === 'LISTEN' ? '' : machine(sockets[socket][1].replace(/:\d+$/, '')), tcp]));
}

function draw() {
  const step = steps[now], host = Number($('host').value);
  $('slider').value = now;
  $('slider').setAttribute('aria-valuetext', step[TEXT]);
  $('where').textContent = `${now + 1} of ${steps.length}, ${clock(step[AT])}`;
  drawSteps();
  drawPackets();
  drawQueues(host);
  drawWheel(host);
  drawTables(host);
  if (!data.stops) return;
  let current = -1;
  data.stops.forEach(([at], stop) => { if (at <= now) current = stop; });
  [...$('stops').querySelectorAll('button')].forEach((button, stop) => {
    if (stop === current) button.setAttribute('aria-current', 'step');
    else button.removeAttribute('aria-current');
  });
}

// Breakpoints.

const KINDS = [['', 'any step'], ['callback', 'a callback'], ['fault', 'a fault'], ['event', 'an event'],
  ['call', 'a system call'], ['packet', 'a packet'], ['phase', 'a phase'], ['timer', 'a timer'],
  ['closed', 'an end'], ['broken', 'what broke']];

function matches(step) {
  const conn = $('by-conn').value, kind = $('by-kind').value, text = $('by-text').value.trim();
  if (conn !== '' && step[SLOT] !== Number(conn)) return false;
  if (kind !== '' && step[KIND] !== kind) return false;
  return !text || step[TEXT].toLowerCase().includes(text.toLowerCase());
}

function toBreak(by) {
  if (!$('by-conn').value && !$('by-kind').value && !$('by-text').value.trim()) {
    $('found').textContent = 'choose where to break';
    return false;
  }
  for (let at = now + by; at >= 0 && at < steps.length; at += by) {
    if (!matches(steps[at])) continue;
    $('found').textContent = '';
    go(at);
    return true;
  }
  $('found').textContent = by > 0 ? 'none after this step' : 'none before this step';
  return false;
}

function play() {
  if (player) {
    clearInterval(player);
    player = null;
  } else {
    player = setInterval(() => {
      if (now + 1 >= steps.length) return play();
      go(now + 1);
      const isSet = $('by-conn').value || $('by-kind').value || $('by-text').value.trim();
      if (isSet && matches(steps[now])) play();
    }, 250);
  }
  $('play').textContent = player ? 'pause' : 'play';
  $('play').setAttribute('aria-pressed', String(Boolean(player)));
}

// The frame.

function tellTour() {
  if (!data.stops) return;
  $('tour').hidden = false;
  $('lead').append(...prose(data.lead));
  for (const [at, text] of data.stops) {
    const button = node('button', {}, ...prose(text));
    button.addEventListener('click', () => go(at));
    $('stops').append(node('li', {}, button));
  }
  for (const [place, code] of data.code) {
    $('code').append(node('details', {}, node('summary', {}, node('code', {}, place)),
      node('pre', { tabindex: 0 }, node('code', {}, code))));
  }
  if (data.exercise) {
    $('exercise').hidden = false;
    $('exercise').append(node('b', {}, 'Exercise. '), ...prose(data.exercise));
  }
}

function fillChoices() {
  const slots = [...new Set(steps.map((step) => step[SLOT]))].filter((slot) => slot >= 0);
  slots.sort((one, other) => one - other);
  $('by-conn').append(node('option', { value: '' }, 'any connection'),
    ...slots.map((slot) => node('option', { value: slot }, `connection c${slot}`)));
  $('by-kind').append(...KINDS.map(([kind, text]) => node('option', { value: kind }, text)));
  $('host').append(...data.hosts.map((host, at) => node('option', { value: at }, host)));
  $('host').hidden = data.hosts.length < 2;
}

const KEYS = {
  ArrowRight: () => go(now + 1), ArrowLeft: () => go(now - 1), PageDown: () => go(now + 10),
  PageUp: () => go(now - 10), Home: () => go(0), End: () => go(steps.length - 1),
  n: () => toBreak(1), p: () => toBreak(-1), ' ': play,
};

function listen() {
  const clicks = { first: KEYS.Home, back: KEYS.ArrowLeft, play, on: KEYS.ArrowRight, last: KEYS.End,
    'break-on': KEYS.n, 'break-back': KEYS.p };
  for (const [id, run] of Object.entries(clicks)) $(id).addEventListener('click', run);
  $('slider').addEventListener('input', () => go(Number($('slider').value)));
  $('host').addEventListener('change', draw);
  addEventListener('keydown', (event) => {
    const isField = /^(INPUT|SELECT)$/.test(event.target.tagName);
    const presses = event.key === ' ' && /^(BUTTON|SUMMARY)$/.test(event.target.tagName);
    if (isField || presses || event.ctrlKey || event.altKey || event.metaKey) return;
    if (!Object.hasOwn(KEYS, event.key)) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  addEventListener('resize', draw);
}

$('title').textContent = data.title;
$('about').textContent = `A run of the simulated world, seed ${data.seed}, ${steps.length} steps` +
  (data.left_out ? ` (${data.left_out} earlier ones are left out)` : '') +
  '. Times are virtual: they say nothing about a real machine.';
if (data.failure) {
  $('failure').hidden = false;
  $('failure').textContent = data.failure;
}
if (steps.length) {
  fillChoices();
  tellTour();
  $('slider').max = steps.length - 1;
  listen();
  begin();
  go(data.stops && data.stops.length ? data.stops[0][0] : data.failure ? steps.length - 1 : 0);
  draw();
}
