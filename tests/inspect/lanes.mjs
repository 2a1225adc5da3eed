// Connections as lanes: what the page shows held against what clients do. Used by `browser.mjs`.

import { connect } from 'node:net';

import { check } from './chromium.mjs';

/// The row of a client, in the page.
const ROW = (client) => `[...document.querySelectorAll('#lanes li')].find((row) =>
  row.querySelector('.peer').textContent === 'from 127.0.0.1:${client.localPort}')`;

const cell = (client, name) => `${ROW(client)}?.querySelector('.${name}').textContent`;

/// A client that has sent a text and has it back.
function say(addr, text) {
  const [host, port] = addr.split(':');
  const socket = connect({ host, port, allowHalfOpen: true });
  return new Promise((done, fail) => {
    socket.on('connect', () => socket.write(text));
    socket.once('data', () => done(socket));
    socket.on('error', fail);
  });
}

/// What clients have done is what their lanes say. The page has no other connections.
export async function compareLanes(page, addr, sockets) {
  const { run, until, press } = page;
  for (const socket of sockets) {
    const row = await run(`['who', 'tcp', 'in', 'out'].map((name) =>
      ${ROW(socket)}.querySelector('.' + name).textContent)`);
    check(String(row) === 'inspect::Echo,ESTABLISHED,500 B,500 B', `a client has its lane: ${row}`);
    // 100 messages at least, an open.
    const calls = await run(`(() => {
      const { id, callbacks } = lanes.shown.find(({ peer }) => peer?.endsWith(':${socket.localPort}'));
      return [callbacks, lanes.ticks.get(id).reduce((sum, [, , count]) => sum + count, 0)];
    })()`);
    check(calls[0] >= 101 && calls[0] === calls[1], `whose ticks are its callbacks: ${calls}`);
    await run(`${ROW(socket)}.scrollIntoView({ block: 'center' })`);
    await until(`lanes.rows.find(({ row }) => row === ${ROW(socket)}).isSeen`, 'it is seen');
    const inks = await run(`(() => {
      drawLanes();
      const { width, height } = ${ROW(socket)}.querySelector('canvas');
      const pen = ${ROW(socket)}.querySelector('canvas').getContext('2d');
      // Above the line of the lane there are only ticks.
      const { data } = pen.getImageData(0, 0, width, height - 5);
      return data.filter((it, at) => at % 4 === 3 && it).length;
    })()`);
    check(inks > 3, `and are drawn, in ${inks} points`);
  }

  const half = await say(addr, 'later');
  half.end();
  await until(`${cell(half, 'tcp')}.startsWith('CLOSE_WAIT')`, 'a client that half-closes is in CLOSE_WAIT');
  const title = await run(`${ROW(half)}.querySelector('.tcp').title`);
  check(title.includes('the peer has ended') && title.includes('told by the system'),
    `which is explained: ${title}`);
  await until(`${cell(half, 'tcp')} === 'closed by the peer'`, 'and its end says by whom');

  const reset = await say(addr, 'hello');
  await until(`${cell(reset, 'in')} === '5 B'`, 'another client has its lane');
  const place = await run(`[...document.querySelectorAll('#lanes li')].indexOf(${ROW(reset)})`);
  await run(`$('lanes').focus()`);
  await press('Home');
  for (let at = 0; at < place; at++) await press('ArrowDown');
  const words = await run(`$('lane').textContent`);
  check(words.includes(`:${reset.localPort}: ESTABLISHED`) && words.includes('5 B in, 5 B out'),
    `which is chosen by keys and told in words: ${words}`);
  check(await run(`${ROW(reset)}.id === $('lanes').getAttribute('aria-activedescendant')
    && ${ROW(reset)}.getAttribute('aria-selected') === 'true'`), 'and is the selected option');
  const { localPort } = reset;
  reset.resetAndDestroy();
  await until(`${cell({ localPort }, 'tcp')} === 'reset by the peer'`, 'a reset shows its reason');
  await until(`$('lane').textContent.includes('reset by the peer')`, 'in words too');
  await until(`!(${ROW({ localPort })})`, 'and after a while the lane is gone');
}

/// Forty lanes of many connections, by order and by handler.
export async function chooseLanes(page) {
  const { run, until } = page;
  const rows = `document.querySelectorAll('#lanes li').length`;
  await until(`${rows} === 40`, 'there are forty lanes');
  check(/^[34]\d of \d{4}(,|$)/.test(await run(`$('lanes-count').textContent`)),
    `of ${await run(`$('lanes-count').textContent`)}`);
  const choose = (id, value) => run(`(() => {
    $('${id}').value = '${value}';
    $('${id}').dispatchEvent(new Event('change'));
  })()`);
  await choose('lane-order', 'oldest');
  await until(`(() => {
    const ages = lanes.shown.map(({ since }) => since);
    return lanes.shown.length === 40 && ages.every((it, at) => at === 0 || it >= ages[at - 1]);
  })()`, 'the oldest ones are shown by age');
  await choose('lane-order', 'newest');
  await until(`lanes.shown.every((it, at) => at === 0 || it.since <= lanes.shown[at - 1].since)`,
    'and the newest ones');
  await choose('lane-handler', '0');
  await until(`lanes.shown.length === 40 && lanes.shown.every(({ handler }) => handler === 0)
    && / of 1?\\d{3}(,|$)/.test($('lanes-count').textContent)`, 'those of a handler are chosen');
  await choose('lane-order', 'active');
  await choose('lane-handler', '');
  await until(`lanes.shown.length === 40 && $('state').className === 'live'`, 'and all again');
}
