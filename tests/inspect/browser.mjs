// The live page in a browser. Used by `tests/inspect/browser`:
// node --experimental-websocket browser.mjs SPEEDSCOPE URL MANY NONE ADDR
//
// URL is a page with a load, MANY one with a load of 1,000 connections, and NONE one without,
// whose echo server is at ADDR. Holds their numbers against each other and against what clients
// have done, uses mouse and keyboard, and takes pictures. Fails at the first thing that is not so.

import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';

import { checkContrast, checkFocus } from './access.mjs';
import { check, home, open, run, sleep } from './chromium.mjs';
import { chooseLanes, compareLanes } from './lanes.mjs';

const [speedscope, url, many, none, addr] = process.argv.slice(2);

/// A thousand connections: a frame is drawn in a sixtieth of a second.
async function watchMany() {
  const page = await open(many);
  await page.until(`views.length > 4 && views[views.length - 1].connections >= 1000`,
    'the page has 1,000 connections');
  const shown = await page.run(`cells.filter(Boolean).length`);
  check(shown >= 1000, `and shows ${shown}`);
  const size = { width: 1440, height: 900, deviceScaleFactor: 1, mobile: false };
  await page.call('Emulation.setDeviceMetricsOverride', size);
  await page.run(`$('lanes').scrollIntoView()`);
  await page.until(`lanes.rows.filter(({ isSeen }) => isSeen).length > 10`, 'with lanes in sight');
  const drawn = await page.frame('draw()');
  check(drawn < 16.6, `which is drawn in ${drawn.toFixed(1)} ms of CPU time: 60 times a second`);
  await chooseLanes(page);
  for (const scheme of ['dark', 'light']) await page.picture('many-' + scheme, 1280, 2100, scheme);
  check(page.errors.length === 0, 'no error was logged' + page.errors.join('\n'));
  await page.close();
}

/// Sends so many messages of five bytes, each when the one before has come back.
function talk(count) {
  const [host, port] = addr.split(':');
  const socket = connect({ host, port });
  socket.setNoDelay();
  return new Promise((done, fail) => {
    let left = count, here = 0;
    socket.on('connect', () => socket.write('hello'));
    socket.on('data', (bytes) => {
      here += bytes.length;
      if (here < 5) return;
      here = 0;
      left -= 1;
      if (left) socket.write('hello');
      else done(socket);
    });
    socket.on('error', fail);
  });
}

/// What clients have done is what the page says.
async function compare() {
  const page = await open(none);
  const { run, until, press } = page;
  await until(`views.length > 0`, 'a page without a load is live');
  const sockets = await Promise.all([talk(100), talk(100), talk(100)]);
  await until(`views[views.length - 1].read === 1500`, 'it has the 1,500 bytes that clients sent');
  await until(`$('connections').textContent === '3'`, 'and their three connections');
  const numbers = await run(`(({ written, opened, closed, handlers }) =>
    [written, opened, closed, handlers[0][0], handlers[0][1]])(views[views.length - 1])`);
  // Each was accepted, opened, and told of at least one hundred messages.
  check(numbers[0] === 1500 && numbers[1] === 3 && numbers[2] === 0 && numbers[4] >= 306,
    `and what they were sent: ${numbers}`);
  const slot = await run(`views[views.length - 1].conns[1][0]`);
  await run(`$('slots').focus()`);
  await press('Home');
  for (let at = 0; at < slot; at++) await press('ArrowRight');
  const text = await run(`$('slot').textContent`);
  check(text.includes('500 B in, 500 B out, 0 B queued'), `a slot says it: ${text}`);
  await compareLanes(page, addr, sockets);
  for (const socket of sockets) socket.end();
  await until(`views[views.length - 1].closed === 5`, 'and so are their ends');
  await until(`$('connections').textContent === '0'`, 'after which there is none');
  check(page.errors.length === 0, 'no error was logged' + page.errors.join('\n'));
  await page.close();
}

async function watch() {
  const page = await open(url);
  const { run, until, press } = page;
  await until(`document.querySelector('#state').className === 'live'`, 'the page is live');
  const first = Math.round(performance.now() - page.begun);
  check(first < 3000, `the first frame is there after ${first} ms`);
  check(await run('location.search') === '', 'the token has left the address');
  check(await run('document.cookie') === '', 'no script reads the cookie');
  await sleep(4000);
  const same = await run(`(() => {
    draw(); // else the page may show the view before
    const view = views[views.length - 1];
    const calls = view.handlers.reduce((sum, it) => sum + (it ? it[1] : 0), 0);
    const bars = (name) => view[name].reduce((sum, it) => sum + it, 0);
    return [calls, bars('callback_hist'), view.callbacks, bars('turn_hist'), view.turns,
      view.conns.length, view.connections, Number($('connections').textContent.split(',')[0])];
  })()`);
  check(same[0] === same[2] && same[1] === same[2], `handlers and bars have ${same[2]} callbacks`);
  check(same[3] === same[4], `the bars have ${same[4]} turns`);
  check(same[5] === same[6] && same[6] === same[7], `${same[6]} connections are shown`);
  const shares = await run(`[...document.querySelectorAll('#phases tr')].map((row) =>
    parseFloat(row.cells[1].textContent.replace('<', '')))`);
  const sum = shares.reduce((a, b) => a + b, 0);
  check(shares.length === 6 && Math.abs(sum - 100) < 1, `the phases are ${sum.toFixed(1)} % of all`);

  const more = await run(`(() => {
    draw();
    const { loop } = views[views.length - 1];
    const entries = loop.wheel.reduce((sum, [, , count]) => sum + count, 0);
    return [loop.timers, entries, document.querySelectorAll('#levels .full').length,
      loop.wheel.length, spans.size, $('longest').rows.length,
      $('timers-count').textContent, $('queues').rows.length];
  })()`);
  check(more[0] > 0 && more[1] >= more[0], `the wheel shows ${more[1]} entries of ${more[6]}`);
  check(more[2] === more[3], `${more[3]} slots of it are full`);
  check(more[4] > 20 && more[5] > 0 && more[7] === 5, `the timeline has ${more[4]} spans`);
  await run(`$('slots').focus()`);
  for (const key of ['ArrowRight', 'ArrowRight', 'ArrowDown', 'ArrowUp']) await press(key);
  check(/^Slot 1[: ]/.test(await run(`$('slot').textContent`)), 'arrow keys choose a slot');
  await press('Home');
  check(/^Slot 0[: ]/.test(await run(`$('slot').textContent`)), 'and so does Home');
  await run(`$('cells').scrollIntoView()`);
  const box = await run(`(({ x, y }) => ({ x, y }))($('cells').getBoundingClientRect())`);
  for (const type of ['mousePressed', 'mouseReleased']) {
    const cell = await run(`cell`);
    const at = { x: box.x + cell * 3 + 7, y: box.y + 7, button: 'left', clickCount: 1 };
    await page.call('Input.dispatchMouseEvent', { type, ...at });
  }
  check(/^Slot 3[: ]/.test(await run(`$('slot').textContent`)), 'and so does the mouse');

  await run(`$('freeze').click()`);
  await run(`new Promise(requestAnimationFrame)`); // what came before is drawn
  const frozen = await run(`views.length + ' ' + $('uptime').textContent`);
  await sleep(600);
  check(await run(`views.length + ' ' + $('uptime').textContent`) === frozen, 'the page freezes');
  await run(`$('freeze').click()`);
  const length = await run(`fetch('trace.json').then((it) => it.text()).then((it) => it.length)`);
  check(length > 100000, `the page saves a trace of ${length} bytes`);
  const trace = await fetchTrace();
  checkTrace(JSON.parse(trace));
  await until(`[...document.querySelectorAll('#warnings b')].some((it) => it.textContent === 'loop held')`,
    'the stall is named');
  const peaks = await run(`(() => {
    const [, longest] = $('turn-mean').textContent.match(/longest ([0-9.]+) ms/) || [0, 0];
    return [Number(longest), Number($('queues').rows[0].cells[2].textContent)];
  })()`);
  check(peaks[0] >= 50, `and the turn that it made long, of ${peaks[0]} ms`);
  check(peaks[1] > 0, `${peaks[1]} events were the most in a turn`);
  check((await run(`document.querySelector('#warnings').innerText`))
    .includes('Echo: on_data of connection'), 'with handler and connection');
  const drawn = await page.frame('draw()');
  check(drawn < 16.6, `a frame takes ${drawn.toFixed(1)} ms of CPU time`);
  await checkFocus(page, 'the live page');
  await checkContrast(page, 'the live page');
  await run(`scrollTo(0, 0)`);
  for (const scheme of ['dark', 'light']) await page.picture(scheme, 1440, 1900, scheme);
  for (const scheme of ['dark', 'light']) {
    await page.picture('narrow-' + scheme, 380, 3300, scheme);
    const wide = await run('document.documentElement.scrollWidth');
    check(wide <= 380, `nothing is wider than 380 px in ${scheme}: ${wide}`);
  }
  check(page.errors.length === 0, 'no error was logged' + page.errors.join('\n'));
  await refuse();
  await openTrace(trace);
}

/// The trace, by a client with the cookie that the token is moved to.
async function fetchTrace() {
  const moved = await fetch(url, { redirect: 'manual' });
  const cookie = moved.headers.get('set-cookie').split(';')[0];
  return (await fetch(new URL('trace.json', url), { headers: { cookie } })).text();
}

/// Holds a trace against the format of Chrome's trace events.
function checkTrace({ traceEvents, displayTimeUnit }) {
  check(displayTimeUnit === 'ms', 'times of the trace are shown in milliseconds');
  const count = {};
  for (const event of traceEvents) {
    const { ph, name, pid, tid, ts, dur, s, args } = event;
    count[ph] = (count[ph] || 0) + 1;
    const isSound = typeof name === 'string' && pid === 1 && tid === 1
      && (ph === 'X' || typeof args === 'object')
      && (ph === 'M' || (typeof ts === 'number' && ts >= 0))
      && (ph !== 'X' || (typeof dur === 'number' && dur >= 0)) && (ph !== 'i' || s === 't');
    if (!isSound || !'MXiC'.includes(ph)) throw new Error('unsound: ' + JSON.stringify(event));
  }
  check(count.X > 1000 && count.M === 2, `events of the trace are sound: ${JSON.stringify(count)}`);
  const spans = traceEvents.filter(({ ph }) => ph === 'X');
  spans.sort((one, other) => one.ts - other.ts || other.dur - one.dur);
  const open = [];
  for (const span of spans) {
    const end = span.ts + span.dur;
    while (open.length && open[open.length - 1] <= span.ts + 0.001) open.pop();
    if (open.length && end > open[open.length - 1] + 0.002) {
      throw new Error('it crosses the end of another span: ' + JSON.stringify(span));
    }
    open.push(end);
  }
  check(true, 'spans of the trace lie in each other or apart');
}

/// Opens a trace in speedscope, as its command does.
async function openTrace(trace) {
  const file = join(home, 'trace.js'), encoded = Buffer.from(trace).toString('base64');
  writeFileSync(file, `speedscope.loadFileFromBase64('trace.json', '${encoded}')`);
  const page = await open(`file://${speedscope}/dist/release/index.html#localProfilePath=${file}`);
  await page.until(`document.body.innerText.includes('loop (tid 1)')`,
    'speedscope opens the trace');
  await page.picture('speedscope', 1280, 800, 'light');
  await page.run(`[...document.querySelectorAll('*')].find((it) => it.children.length <= 1 &&
    it.textContent.endsWith('Sandwich')).click()`);
  await page.until(`document.body.innerText.includes('Echo on_data')`, 'and names the callbacks');
  await page.picture('speedscope-sums', 1280, 800, 'light');
  // Ordered by the time of each without what lies in it. Spans that cross would add up to more.
  const text = await page.run(`document.body.innerText`);
  const row = text.match(/([\d.]+)ms \([^)]*\)\s+inspect::Echo on_data/);
  check(row && row[1] >= 50 && row[1] < 500, `and has the stall, of ${row?.[1]} ms`);
}

/// More pages than may watch, and one that has no token.
async function refuse() {
  const origin = new URL(url).origin;
  for (let at = 0; at < 3; at++) {
    const page = await open(origin);
    await page.until(`$('state').className === 'live'`, `page ${at + 2} watches`);
  }
  const fifth = await open(origin);
  await fifth.until(`$('state').textContent.startsWith('four pages watch')`, 'a fifth one is told');
  const plain = await fetch(origin);
  check(plain.status === 403, 'without the token there is nothing');
}

await run(async () => {
  await watch();
  await compare();
  await watchMany();
});
