'use strict';
// Draws what the recorder sends. All names are set as text, so that none becomes markup.

const $ = (id) => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';
const PHASES = ['poll', 'events', 'ready queue', 'mailbox', 'timers', 'flush and close'];
const TICKS_A_SECOND = 4, MINUTE = 60 * TICKS_A_SECOND;
const views = [];           // the last minute and a little
let frozen = false, chosen = null, cells = [], cell = 15;

// Words for numbers.

function short(number) {
  for (const [unit, size] of [['G', 1e9], ['M', 1e6], ['k', 1e3]]) {
    if (number >= size * 10) return Math.round(number / size) + ' ' + unit;
    if (number >= size) return (number / size).toFixed(1) + ' ' + unit;
  }
  return number >= 10 || Number.isInteger(number) ? String(Math.round(number)) : number.toFixed(1);
}

const bytes = (number) => short(number) + (number < 1000 ? ' B' : 'B');

function time(ns) {
  for (const [unit, size] of [['s', 1e9], ['ms', 1e6], ['µs', 1e3]]) {
    if (ns >= size) return (ns / size).toFixed(ns >= 100 * size ? 0 : 1) + ' ' + unit;
  }
  return Math.round(ns) + ' ns';
}

function share(part) {
  const percent = 100 * part;
  if (percent > 0 && percent < 0.1) return '< 0.1 %';
  return percent.toFixed(percent >= 99.95 || percent === 0 ? 0 : 1) + ' %';
}

// Elements.

function node(tag, attributes = {}, ...children) {
  const isSvg = ['path', 'rect', 'text', 'line', 'circle', 'svg', 'title'].includes(tag);
  const it = isSvg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) it.setAttribute(name, value);
  it.append(...children);
  return it;
}

function setText(it, text) {
  if (it.textContent !== text) it.textContent = text;
}

/// Rows of texts into a table, without making again what is there.
function fillRows(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, at) => {
    const tr = body.rows[at] || body.insertRow();
    row.forEach((text, column) => {
      const td = tr.cells[column] || tr.insertCell();
      td.className = column === 0 ? 'name' : 'n';
      setText(td, text);
    });
  });
}

/// The view that is about so many ticks older than the last one.
const ago = (ticks) => views[Math.max(0, views.length - 1 - ticks)];

/// The greatest value of a number in the last ten seconds. Peaks are counted anew for each view.
const peak = (read) => Math.max(...views.slice(-10 * TICKS_A_SECOND).map(read));

/// What a number has grown a second, over so many ticks.
function rate(read, ticks = TICKS_A_SECOND) {
  const last = views[views.length - 1], first = ago(ticks);
  const seconds = (last.at - first.at) / 1e9;
  return seconds > 0 ? (read(last) - read(first)) / seconds : 0;
}

// The wheel.

const buckets = [];
const HUB = 46, RIM = 122;

function sector(from, to, inner, outer) {
  const at = (angle, radius) =>
    (radius * Math.sin(angle)).toFixed(2) + ' ' + (-radius * Math.cos(angle)).toFixed(2);
  return `M${at(from, inner)}L${at(from, outer)}A${outer} ${outer} 0 0 1 ${at(to, outer)}` +
    `L${at(to, inner)}A${inner} ${inner} 0 0 0 ${at(from, inner)}Z`;
}

function buildWheel() {
  const wheel = $('wheel'), step = 2 * Math.PI / PHASES.length;
  PHASES.forEach((name, at) => {
    const middle = at * step, from = middle - step / 2 + 0.03, to = middle + step / 2 - 0.03;
    const fill = node('path', { class: 'fill' });
    const x = 141 * Math.sin(middle), y = -141 * Math.cos(middle);
    const label = node('text', { x, y: y + 4, 'text-anchor': 'middle' }, String(at + 1));
    wheel.append(node('path', { class: 'spoke', d: sector(from, to, HUB, RIM) }), fill, label);
    buckets.push({ from, to, fill });
  });
  const middle = { x: 0, 'text-anchor': 'middle' };
  wheel.append(
    node('text', { ...middle, y: -2, id: 'turns', 'font-size': 17 }, '0'),
    node('text', { ...middle, y: 16, class: 'soft' }, 'turns/s'));
}

function drawWheel() {
  const last = views[views.length - 1], first = ago(TICKS_A_SECOND);
  const lengths = [last.poll_ns - first.poll_ns];
  const counts = [last.turns - first.turns];
  last.phases.forEach(([ns, count], at) => {
    lengths.push(ns - first.phases[at][0]);
    counts.push(count - first.phases[at][1]);
  });
  // Without a turn in that second, the loop has slept.
  const sum = lengths.reduce((a, b) => a + b, 0);
  const seconds = (last.at - first.at) / 1e9;
  const rows = lengths.map((length, at) => {
    const part = sum > 0 ? length / sum : Number(at === 0);
    const { from, to, fill } = buckets[at];
    const outer = HUB + (RIM - HUB) * Math.sqrt(part);
    fill.setAttribute('d', part > 0 ? sector(from, to, HUB, outer) : '');
    const done = seconds > 0 ? counts[at] / seconds : 0;
    return [`${at + 1} ${PHASES[at]}`, share(part), short(done)];
  });
  fillRows($('phases'), rows);
  setText($('turns'), short(rate((view) => view.turns)));
}

// The tiles.

const TILES = [
  ['callbacks a second', (view) => view.callbacks, short],
  ['turns a second', (view) => view.turns, short],
  ['read a second', (view) => view.read, bytes],
  ['written a second', (view) => view.written, bytes],
  ['opened a second', (view) => view.opened, short],
  ['closed a second', (view) => view.closed, short],
  ['timers fired a second', (view) => view.fired, short],
  ['largest delay of a timer', null, time],
];

function buildTiles() {
  for (const tile of TILES) {
    const [name, read] = tile;
    const number = node('b'), path = node('path');
    const shape = { viewBox: '0 0 240 30', preserveAspectRatio: 'none', 'aria-hidden': 'true' };
    const it = node('div', { class: 'tile' }, number, node('span', {}, name));
    if (read) it.append(node('svg', shape, path));
    $('tiles').append(it);
    Object.assign(tile, { number, path });
  }
}

function drawTiles() {
  for (const tile of TILES) {
    const [, read, words] = tile;
    if (!read) {
      setText(tile.number, words(views[views.length - 1].latest_ns));
      continue;
    }
    const points = [];
    for (let at = 1; at < views.length; at++) {
      const seconds = (views[at].at - views[at - 1].at) / 1e9;
      points.push(seconds > 0 ? (read(views[at]) - read(views[at - 1])) / seconds : 0);
    }
    const most = Math.max(...points, 1e-9), x0 = MINUTE - points.length;
    const line = points.map((value, at) => `L${x0 + at} ${(28 - 26 * value / most).toFixed(1)}`);
    tile.path.setAttribute('d', points.length ? `M${x0} 30${line.join('')}L240 30Z` : '');
    setText(tile.number, words(rate(read)));
  }
}

// The histograms.

function drawBars(svg, name, ns, count, mean, longest) {
  const last = views[views.length - 1], first = ago(10 * TICKS_A_SECOND);
  const counts = last[name].map((number, at) => number - first[name][at]);
  const shown = counts.slice(0, 24), width = svg.clientWidth || 400, height = 130;
  shown[23] += counts[24] + counts[25];
  const most = Math.max(...shown, 1), step = width / shown.length, foot = height - 18;
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  const parts = [node('line', { class: 'axis', x1: 0, x2: width, y1: foot, y2: foot })];
  shown.forEach((number, at) => {
    const floor = at === 0 ? 0 : 2 ** (at + 7);
    // One among thousands is seen too.
    const tall = number === 0 ? 0 : 3 + (foot - 5) * Math.log1p(number) / Math.log1p(most);
    const bar = node('rect', {
      class: floor >= last.slow_ns / 2 ? 'bar slow' : 'bar',
      x: at * step + 1, width: Math.max(1, step - 2), y: foot - tall, height: tall,
    });
    bar.append(node('title', {}, `${number} from ${time(floor)} to ${time(2 ** (at + 8))}`));
    parts.push(bar);
  });
  for (const [label, length] of [['1 µs', 1e3], ['32 µs', 32e3], ['1 ms', 1e6], ['33 ms', 33e6],
    ['1 s', 1e9]]) {
    const x = (Math.log2(length) - 7) * step;
    parts.push(node('text', { class: 'soft', x, y: height - 3, 'text-anchor': 'middle' }, label));
  }
  svg.replaceChildren(...parts);
  const took = count(last) - count(first);
  const peaks = longest ? `, longest ${time(peak(longest))}` : '';
  setText($(mean),
    took > 0 ? `mean ${time((ns(last) - ns(first)) / took)}${peaks}, bars logarithmic` : '');
}

// The map of slots.

const MIN_CELL = 15, MAX_CELL = 26, MAP_HEIGHT = 230;

function color(handler) {
  return 'c' + (handler < 0 ? 5 : handler % 6);
}

function drawMap() {
  const last = views[views.length - 1], before = views[views.length - 2];
  const canvas = $('cells'), width = $('slots').clientWidth, ratio = devicePixelRatio || 1;
  const slots = last.conns.reduce((most, conn) => Math.max(most, conn[0] + 1), 1);
  const fitting = Math.floor(Math.sqrt(width * MAP_HEIGHT / slots));
  cell = Math.max(MIN_CELL, Math.min(MAX_CELL, fitting));
  const columns = Math.max(1, Math.floor(width / cell));
  const highest = Math.max(slots, columns) - 1;
  const rows = Math.ceil((highest + 1) / columns), height = rows * cell;
  if (canvas.width !== width * ratio || canvas.height !== height * ratio) {
    [canvas.width, canvas.height] = [width * ratio, height * ratio];
    canvas.style.height = height + 'px';
  }
  const style = getComputedStyle(document.documentElement);
  const paint = (name) => style.getPropertyValue('--' + name);
  const colors = ['c0', 'c1', 'c2', 'c3', 'c4', 'c5'].map(paint);
  const draw = canvas.getContext('2d');
  draw.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw.clearRect(0, 0, width, height);
  draw.fillStyle = paint('line');
  const place = (slot) => [(slot % columns) * cell, Math.floor(slot / columns) * cell];
  for (let slot = 0; slot < rows * columns; slot++) {
    const [x, y] = place(slot);
    draw.fillRect(x + cell / 2 - 1, y + cell / 2 - 1, 2, 2);
  }
  const calls = new Map(before ? before.conns.map((conn) => [conn[1], conn[7]]) : []);
  cells = [];
  for (const conn of last.conns) {
    const [slot, id, handler, , , , output, callbacks, phase] = conn, [x, y] = place(slot);
    cells[slot] = conn;
    const isBusy = calls.get(id) !== callbacks;
    draw.globalAlpha = isBusy ? 1 : 0.45;
    draw.fillStyle = draw.strokeStyle = colors[handler < 0 ? 5 : handler % 6];
    draw.lineWidth = 2;
    if (phase === 'open' || phase === 'writing') draw.fillRect(x + 1, y + 1, cell - 3, cell - 3);
    else draw.strokeRect(x + 2, y + 2, cell - 5, cell - 5);
    draw.globalAlpha = 1;
    if (output > 0 || phase === 'paused') {
      draw.fillStyle = paint('alarm');
      draw.fillRect(x + 5, y + 5, cell - 11, cell - 11);
    }
  }
  if (chosen !== null && chosen < rows * columns) {
    const [x, y] = place(chosen);
    draw.strokeStyle = paint('ink');
    draw.lineWidth = 2;
    draw.strokeRect(x, y, cell - 1, cell - 1);
  }
  Object.assign(canvas, { columns, rows });
  const most = last.conns.length < last.connections ? `, ${last.conns.length} of them shown` : '';
  setText($('connections'), `${last.connections}${most}`);
  tellSlot();
  drawLegend();
}

function nameOf(handler) {
  const known = views[views.length - 1].handlers[handler];
  return known ? known[0] : 'handler not known yet';
}

function tellSlot() {
  if (chosen === null) return;
  const conn = cells[chosen];
  if (!conn) {
    setText($('slot'), `Slot ${chosen} is free.`);
    return saySlot(`${chosen}`);
  }
  const [slot, id, handler, age, read, written, output, callbacks, phase, peer] = conn;
  setText($('slot'), `Slot ${slot}: connection ${id}, ${phase}, of ${nameOf(handler)}` +
    (peer ? `, from ${peer}` : '') + `; ${time(age * 1e6)} old, ${bytes(read)} in, ` +
    `${bytes(written)} out, ${bytes(output)} queued, ${callbacks} callbacks.`);
  saySlot(`${chosen} ${id} ${phase}`);
}

/// Numbers change all the time: what is spoken is another slot, connection or phase.
function saySlot(key) {
  if ($('slot-said').dataset.key === key) return;
  $('slot-said').dataset.key = key;
  setText($('slot-said'), $('slot').textContent);
}

function drawLegend() {
  const seen = [...new Set(cells.filter(Boolean).map((conn) => conn[2]))].sort();
  const legend = seen.slice(0, 8).map((handler) => [color(handler), nameOf(handler)]);
  const key = JSON.stringify(legend);
  if ($('legend').dataset.key === key) return;
  $('legend').dataset.key = key;
  const item = ([name, text]) => node('li', {}, node('i', { class: name }), text);
  $('legend').replaceChildren(...legend.map(item));
}

function choose(slot) {
  const { columns, rows } = $('cells');
  chosen = Math.max(0, Math.min(rows * columns - 1, slot));
  const box = $('slots'), y = Math.floor(chosen / columns) * cell;
  if (y < box.scrollTop) box.scrollTop = y;
  if (y + cell > box.scrollTop + box.clientHeight) box.scrollTop = y + cell - box.clientHeight;
  setText($('slot'), '');
  drawMap();
}

function listenToMap() {
  $('cells').addEventListener('click', (event) => {
    const column = Math.floor(event.offsetX / cell), row = Math.floor(event.offsetY / cell);
    choose(row * $('cells').columns + Math.min(column, $('cells').columns - 1));
  });
  $('slots').addEventListener('keydown', (event) => {
    const { columns, rows } = $('cells');
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const ends = { Home: 0, End: columns * rows - 1 };
    if (event.key in ends) choose(ends[event.key]);
    else if (event.key in steps) choose(chosen === null ? 0 : chosen + steps[event.key]);
    else return;
    event.preventDefault();
  });
}

// The timer wheel and the queues.

const LEVELS = 7, SLOTS = 64, ROW = 16;

const levels = { width: 0, slots: [], hands: [], step: 0 };

/// The slots are made once for a width; what changes are their classes.
function buildLevels(width) {
  const step = (width - 20) / SLOTS, parts = [];
  Object.assign(levels, { width, step, slots: [], hands: [] });
  for (let level = 0; level < LEVELS; level++) {
    parts.push(node('text', { class: 'soft', x: 0, y: level * ROW + 12 }, String(level)));
    for (let slot = 0; slot < SLOTS; slot++) {
      const shape = { x: 18 + slot * step, y: level * ROW + 2, width: step - 1, height: ROW - 4 };
      const cell = node('rect', { class: 'slot', ...shape });
      cell.append(node('title'));
      levels.slots.push({ cell, count: 0 });
      parts.push(cell);
    }
  }
  for (let level = 0; level < LEVELS; level++) {
    const hand = { class: 'hand', y: level * ROW + 1.5, width: step, height: ROW - 3 };
    levels.hands.push(node('rect', hand));
  }
  $('levels').setAttribute('viewBox', `0 0 ${width} ${LEVELS * ROW}`);
  $('levels').replaceChildren(...parts, ...levels.hands);
}

function drawLevels() {
  const { wheel, tick, timers, deferred } = views[views.length - 1].loop;
  const width = Math.max($('levels').clientWidth || 500, 420);
  if (levels.width !== width) buildLevels(width);
  const full = new Map(wheel.map(([level, slot, count]) => [level * SLOTS + slot, count]));
  levels.slots.forEach((it, at) => {
    const count = full.get(at) || 0;
    if (it.count === count) return;
    it.count = count;
    it.cell.setAttribute('class', count ? 'slot full' : 'slot');
    it.cell.firstChild.textContent = count ? `${count} entries` : '';
  });
  levels.hands.forEach((hand, level) => {
    hand.setAttribute('x', 17.5 + Math.floor(tick / SLOTS ** level) % SLOTS * levels.step);
  });
  setText($('timers-count'), `${timers} timers` + (deferred ? `, ${deferred} deferred` : ''));
}

function drawQueues() {
  const { loop } = views[views.length - 1];
  const row = (name, phase, now) => [name, String(now), short(peak((v) => v.peak_counts[phase])),
    short(rate((view) => view.phases[phase][1]))];
  fillRows($('queues'), [
    row('events', 0, '–'),
    row('ready queue', 1, loop.ready),
    row('mailbox', 2, loop.messages),
    row('timers', 3, '–'),
    row('to flush, to tear down, to try again', 4,
      `${loop.flushes}, ${loop.closes}, ${loop.retries}`),
  ]);
}

// The timeline.

const SECONDS = 8, spans = new Map(), DEPTHS = ['turns', 'phases', 'callbacks'];

function noteSpans(view) {
  for (const span of view.spans) spans.set(`${span[0]} ${span[2]}`, span);
  for (const [key, [at, length]] of spans) {
    if (at + length < view.at - SECONDS * 1e9) spans.delete(key);
  }
}

function drawTimeline() {
  const { at: end, slow_ns: slow } = views[views.length - 1], begin = end - SECONDS * 1e9;
  const width = $('timeline').clientWidth || 500, height = 116;
  const x = (at) => 66 + (width - 70) * Math.max(0, at - begin) / (end - begin);
  const parts = DEPTHS.map((name, depth) =>
    node('text', { class: 'soft', x: 0, y: depth * 30 + 20 }, name));
  for (let second = 0; second <= SECONDS; second += 2) {
    const at = end - second * 1e9;
    parts.push(node('line', { class: 'axis', x1: x(at), x2: x(at), y1: 2, y2: 96 }),
      node('text', { class: 'soft', x: x(at), y: 112, 'text-anchor': second ? 'middle' : 'end' },
        second ? `${second} s ago` : 'now'));
  }
  // Two paths for all: thousands of elements would take longer than a frame.
  const paths = { bar: '', 'bar slow': '' };
  for (const [at, length, depth] of spans.values()) {
    const from = x(at), wide = Math.max(1.5, x(at + length) - from);
    paths[length >= slow ? 'bar slow' : 'bar'] +=
      `M${from.toFixed(1)} ${depth * 30 + 4}h${wide.toFixed(1)}v24h-${wide.toFixed(1)}z`;
  }
  for (const [name, d] of Object.entries(paths)) parts.push(node('path', { class: name, d }));
  $('timeline').setAttribute('viewBox', `0 0 ${width} ${height}`);
  $('timeline').setAttribute('height', height);
  $('timeline').replaceChildren(...parts);
  const calls = [...spans.values()].filter((span) => span[2] === 2);
  calls.sort((one, other) => other[1] - one[1]);
  fillRows($('longest'), calls.slice(0, 5).map(([at, length, , name, conn]) =>
    [name, time(length), time(Math.max(0, end - at - length)), conn || '–']));
}

// Handlers and warnings.

/// A text in which what stands between backticks is code.
function prose(text) {
  return text.split('`').map((part, at) => (at % 2 ? node('code', {}, part) : part));
}

function drawHandlers() {
  const last = views[views.length - 1], first = ago(TICKS_A_SECOND);
  const seconds = (last.at - first.at) / 1e9, rows = [];
  last.handlers.forEach((handler, at) => {
    if (!handler) return;
    const [name, calls, ns, longest] = handler;
    const old = first.handlers[at] || [name, 0, 0, 0];
    const did = calls - old[1], took = ns - old[2];
    const part = seconds > 0 ? took / (seconds * 1e9) : 0;
    const mean = did > 0 ? time(took / did) : '–';
    rows.push([name, short(seconds > 0 ? did / seconds : 0), share(part), mean, time(longest)]);
  });
  fillRows($('handlers'), rows);
}

function drawWarnings() {
  const { warnings, warned, at } = views[views.length - 1];
  const key = JSON.stringify([warnings, Math.floor(at / 1e9)]);
  if ($('warnings').dataset.key === key) return;
  $('warnings').dataset.key = key;
  setText($('warned-count'), warned > 0 ? `${warned}` : '');
  const items = warnings.map((warning) => {
    const past = `${time(Math.max(0, at - warning.at_ms * 1e6))} ago`;
    const times = warning.count > 1 ? `, ${warning.count} times` : '';
    return node('li', {}, node('b', {}, warning.kind), ` ${past}${times}`,
      node('p', {}, warning.text), node('p', { class: 'advice' }, ...prose(warning.meaning)),
      node('p', { class: 'advice' }, ...prose(warning.advice)));
  });
  const none = node('li', { class: 'none' }, 'None: no callback held the loop, no timer was late.');
  $('warnings').replaceChildren(...(items.length ? items : [none]));
}

// The stream.

function draw() {
  if (!views.length) return;
  drawWheel();
  drawTiles();
  drawBars($('turn-bars'), 'turn_hist', (v) => v.turn_ns, (v) => v.turns, 'turn-mean',
    (v) => v.peak_turn_ns);
  drawBars($('callback-bars'), 'callback_hist',
    (v) => v.handlers.reduce((sum, it) => sum + (it ? it[2] : 0), 0), (v) => v.callbacks,
    'callback-mean');
  drawMap();
  drawLanes();
  drawLevels();
  drawQueues();
  drawTimeline();
  drawHandlers();
  drawWarnings();
  setText($('uptime'), time(views[views.length - 1].at));
}

function tell(state, text) {
  $('state').className = state;
  setText($('state'), text);
}

function take(event) {
  tell('live', frozen ? 'live, page frozen' : 'live');
  if (frozen) return;
  const view = JSON.parse(event.data);
  // Numbers that have fallen are those of another process.
  if (views.length && view.at < views[views.length - 1].at) {
    views.length = 0;
    spans.clear();
  }
  noteSpans(view);
  noteLanes(view);
  views.push(view);
  if (views.length > MINUTE + 1) views.shift();
  requestAnimationFrame(draw);
}

let stream = null, reopening = 0;

function connect() {
  stream = new EventSource('events' + laneQuery());
  stream.onopen = forgetLanes;
  stream.onmessage = take;
  const own = stream;
  stream.onerror = async () => {
    if (own !== stream) return;
    tell('lost', 'the loop does not answer: trying again');
    if (own.readyState !== EventSource.CLOSED) return;
    // The stream was refused: a plain request tells why, unless the server is gone.
    const answer = await fetch('events' + laneQuery()).catch(() => null);
    if (own !== stream) return;
    if (answer && !answer.ok) tell('lost', await answer.text());
    if (answer && answer.ok) answer.body.cancel();
    clearTimeout(reopening);
    reopening = setTimeout(connect, 2000);
  };
}

/// Asks for other lanes, or for all that was missed. The old stream ends first: there may be four.
function reopen() {
  if (stream) stream.close();
  stream = null;
  clearTimeout(reopening);
  reopening = setTimeout(connect, 100);
}

buildWheel();
buildTiles();
listenToMap();
listenToLanes(reopen);
$('freeze').addEventListener('click', () => {
  frozen = !frozen;
  $('freeze').setAttribute('aria-pressed', String(frozen));
  for (const id of ['lane-order', 'lane-handler']) $(id).disabled = frozen;
  if (!frozen) reopen();
});
addEventListener('resize', () => requestAnimationFrame(draw));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
connect();
