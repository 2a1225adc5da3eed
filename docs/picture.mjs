// Takes the pictures of the README. Used by `docs/picture`:
// node --experimental-websocket picture.mjs LIVE_URL SCENE_FILE
import { writeFileSync } from 'node:fs';

import { check, open, run, sleep } from '../tests/inspect/chromium.mjs';

const [url, scene] = process.argv.slice(2);
const MAX_BYTES = 260_000, MIN_BYTES = 20_000;

/// A part of a page, made smaller.
async function shoot(page, name, clip) {
  const options = { format: 'png', captureBeyondViewport: true, clip };
  const { data } = await page.call('Page.captureScreenshot', options);
  const picture = Buffer.from(data, 'base64');
  check(picture.length > MIN_BYTES && picture.length < MAX_BYTES, `${name}: ${picture.length} bytes`);
  writeFileSync(name, picture);
}

async function size(page, width, height) {
  const metrics = { width, height, deviceScaleFactor: 1, mobile: false };
  await page.call('Emulation.setDeviceMetricsOverride', metrics);
}

await run(async () => {
  const live = await open(url);
  await size(live, 1280, 1640);
  await sleep(20_000); // so that the last minute has something to show
  await shoot(live, 'docs/page.png', { x: 0, y: 0, width: 1280, height: 1590, scale: 0.7 });

  const replay = await open('file://' + scene);
  await size(replay, 1400, 1200);
  await replay.until(`document.querySelectorAll('#steps li').length > 0`, 'the scene shows steps');
  await replay.run(`go(data.stops[2][0])`);
  await sleep(500);
  const top = await replay.run(`document.querySelector('#controls').offsetTop`);
  await shoot(replay, 'docs/replay.png', { x: 0, y: top - 8, width: 1400, height: 690, scale: 0.66 });
});
