// A browser that is told what to do, over its debugging protocol and without a package. Pictures go
// to the folder that PICTURES names.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/// Where pictures are written, if they are asked for.
const folder = process.env.PICTURES;
export const home = mkdtempSync(join(tmpdir(), 'browser-'));
const more = (process.env.BROWSER_FLAGS || '').split(' ').filter(Boolean);
const browser = spawn(process.env.CHROMIUM || 'chromium', ['--headless', '--no-sandbox',
  '--disable-gpu', '--remote-debugging-port=0', `--user-data-dir=${home}`, ...more, 'about:blank'],
  { stdio: ['ignore', 'ignore', 'pipe'] });

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export function check(is, what) {
  if (!is) throw new Error(what);
  console.log('ok: ' + what);
}

/// The address of the debugging protocol, which the browser prints.
const port = await new Promise((done, fail) => {
  let text = '';
  browser.stderr.on('data', (data) => {
    text += data;
    const found = text.match(/DevTools listening on ws:\/\/127\.0\.0\.1:(\d+)\//);
    if (found) done(found[1]);
  });
  browser.on('error', fail);
  browser.on('exit', () => fail(new Error('the browser has ended: ' + text)));
});

/// A tab, with `call` for what the protocol knows and `run` for what the page evaluates.
export async function open(address) {
  const made = await fetch(`http://127.0.0.1:${port}/json/new?about:blank`, { method: 'PUT' });
  const { id, webSocketDebuggerUrl } = await made.json();
  const socket = new WebSocket(webSocketDebuggerUrl);
  await new Promise((done) => { socket.onopen = done; });
  const waiting = new Map(), errors = [];
  let last = 0;
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.id) {
      const { done, fail } = waiting.get(message.id);
      if (message.error) fail(new Error(message.error.message));
      else done(message.result);
    }
    if (message.method === 'Runtime.exceptionThrown') {
      errors.push(message.params.exceptionDetails.exception?.description || 'an exception');
    }
    if (message.method === 'Log.entryAdded' && message.params.entry.level === 'error') {
      errors.push(`${message.params.entry.text} ${message.params.entry.url || ''}`);
    }
  };
  const call = (method, params = {}) => new Promise((done, fail) => {
    waiting.set(++last, { done, fail });
    socket.send(JSON.stringify({ id: last, method, params }));
  });
  const run = async (expression) => {
    const options = { expression, returnByValue: true, awaitPromise: true };
    const { result, exceptionDetails } = await call('Runtime.evaluate', options);
    if (exceptionDetails) throw new Error(exceptionDetails.exception.description);
    return result.value;
  };
  const until = async (expression, what) => {
    for (let at = 0; at < 100; at++) {
      if (await run(expression).catch(() => false)) return console.log('ok: ' + what);
      await sleep(100);
    }
    throw new Error('waited in vain: ' + what + ': ' + await run('document.body.innerText'));
  };
  const press = async (key, windowsVirtualKeyCode = 0) => {
    const pressed = { key, code: key, windowsVirtualKeyCode };
    await call('Input.dispatchKeyEvent', { type: 'keyDown', ...pressed });
    await call('Input.dispatchKeyEvent', { type: 'keyUp', ...pressed });
  };
  /// The part of a frame of 60 in a second that the page takes of its thread to draw once, with
  /// style, layout and painting: in CPU time, and the least of three rounds, since what other
  /// programs do to the caches only lengthens it.
  const frame = async (draw) => {
    await call('Performance.enable', { timeDomain: 'threadTicks' });
    const spent = async () => {
      const { metrics } = await call('Performance.getMetrics');
      return metrics.find(({ name }) => name === 'TaskDuration').value;
    };
    let millis = Infinity;
    for (let round = 0; round < 3; round++) {
      const from = await spent();
      await run(`(async () => {
        for (let at = 0; at < 20; at++) {
          await new Promise(requestAnimationFrame);
          ${draw};
        }
      })()`);
      millis = Math.min(millis, (await spent() - from) * 1000 / 20);
    }
    await call('Performance.disable');
    return millis;
  };
  const picture = async (name, width, height, scheme) => {
    await call('Emulation.setEmulatedMedia',
      { features: [{ name: 'prefers-color-scheme', value: scheme }] });
    await call('Emulation.setDeviceMetricsOverride',
      { width, height, deviceScaleFactor: 1, mobile: width < 500 });
    await sleep(700);
    if (!folder) return;
    const options = { format: 'png', captureBeyondViewport: true };
    const { data } = await call('Page.captureScreenshot', options);
    writeFileSync(join(folder, name + '.png'), Buffer.from(data, 'base64'));
  };
  for (const domain of ['Page', 'Runtime', 'Log']) await call(domain + '.enable');
  const begun = performance.now();
  await call('Page.navigate', { url: address });
  // Not by a call, whose answer may not come when its tab is gone.
  const close = () => fetch(`http://127.0.0.1:${port}/json/close/${id}`);
  return { call, run, until, press, frame, picture, close, errors, begun };
}

/// Runs a test and ends the browser.
export async function run(test) {
  try {
    await test();
  } catch (error) {
    console.error(`failed: ${error.message}`);
    process.exitCode = 1;
  } finally {
    browser.removeAllListeners('exit');
    const ended = new Promise((done) => browser.once('exit', done));
    browser.kill();
    await ended;
    // Its other processes end a moment later.
    rmSync(home, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
    process.exit();
  }
}
