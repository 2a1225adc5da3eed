// Pages of recorded runs in a browser. Used by `tests/inspect/browser`:
// node --experimental-websocket replay.mjs FOLDER
//
// The folder has a page for each scene, and `seed.html`, the page of a seed. Steps through them by
// keys and mouse, forwards and backwards.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import { checkContrast, checkFocus } from './access.mjs';
import { check, open, run } from './chromium.mjs';

const [pages] = process.argv.slice(2);

/// All that a page shows of a step.
const SHOWN = `[...document.querySelectorAll('main, #where, #tour')].map((it) => it.innerHTML).join()`;

async function load(name) {
  const page = await open('file://' + join(pages, name));
  await page.until(`document.querySelectorAll('#steps li').length > 0`, `${name} shows steps`);
  return page;
}

async function step() {
  const page = await load('seed.html');
  const { run, press } = page;
  await press('Home');
  check(await run('now') === 0, 'Home is the first step');
  const seen = [];
  for (let at = 0; at < 40; at++) {
    seen.push(await run(SHOWN));
    await press('ArrowRight');
  }
  check(await run('now') === 40, 'an arrow key is a step');
  let same = true;
  for (let at = 39; at >= 0; at--) {
    await press('ArrowLeft');
    // What a step has changed is marked, and is so from either side.
    same &&= await run(SHOWN) === seen[at];
  }
  check(same, 'forty steps backwards show what they showed forwards');
  const whole = await run(`(() => {
    go(steps.length - 1);
    const forwards = JSON.stringify([...state].sort());
    go(0);
    const start = JSON.stringify([...state].sort());
    go(steps.length - 1);
    const again = JSON.stringify([...state].sort()) === forwards;
    go(0);
    return [again, JSON.stringify([...state].sort()) === start, steps.length];
  })()`);
  check(whole[0] && whole[1], `${whole[2]} steps, forwards and backwards twice, end in one state`);
  for (const [kind, word] of [['callback', 'on_'], ['fault', 'fault']]) {
    await run(`go(0); $('by-kind').value = '${kind}'; document.activeElement.blur()`);
    await press('n');
    const text = await run(`document.querySelector('#steps [aria-current]').textContent`);
    check(text.includes(word) || kind === 'fault', `a break at a ${kind} stops at one`);
    check(await run(`steps[now][KIND] === '${kind}'`), `and the step is a ${kind}`);
  }
  await run(`$('by-kind').value = ''; $('by-conn').selectedIndex = 1; go(0); toBreak(1)`);
  check(await run(`steps[now][SLOT] === Number($('by-conn').value)`), 'a connection is a break too');
  await run(`$('by-conn').value = ''; $('by-text').value = 'on_close'; toBreak(1)`);
  check(await run(`steps[now][TEXT].startsWith('on_close')`), 'and so are words');
  await run(`$('slider').value = 5; $('slider').dispatchEvent(new Event('input'))`);
  check(await run('now') === 5, 'the slider goes to its step');
  await run(`$('by-text').value = ''; go(Math.floor(steps.length / 2))`);
  const drawn = await page.frame('go(now + 1)');
  check(drawn < 50, `a step is drawn in ${drawn.toFixed(1)} ms of CPU time`);
  await checkFocus(page, 'a replay');
  await checkContrast(page, 'a replay');
  await pictures(page, 'replay');
  check(page.errors.length === 0, 'no error was logged' + page.errors.join('\n'));
}

async function pictures(page, name) {
  for (const scheme of ['dark', 'light']) {
    await page.picture(`${name}-${scheme}`, 1500, 1300, scheme);
    await page.picture(`${name}-narrow-${scheme}`, 380, 2900, scheme);
    const wide = await page.run('document.documentElement.scrollWidth');
    check(wide <= 380, `nothing of ${name} is wider than 380 px in ${scheme}: ${wide}`);
  }
}

/// Clicks through the stops of a scene.
async function visit(name) {
  const page = await load(name);
  const { run } = page;
  const stops = await run(`data.stops.length`);
  for (let stop = 0; stop < stops; stop++) {
    await run(`$('stops').querySelectorAll('button')[${stop}].click()`);
    const is = await run(`now === data.stops[${stop}][0] &&
      $('stops').querySelectorAll('button')[${stop}].hasAttribute('aria-current')`);
    if (!is) throw new Error(`${name}: stop ${stop} is not shown`);
  }
  const code = await run(`[...document.querySelectorAll('#code details')].every((it) => {
    it.open = true;
    return it.querySelector('pre').textContent.includes('fn ');
  })`);
  check(code, `${name}: ${stops} stops, and the code beside them`);
  check(page.errors.length === 0, 'no error was logged' + page.errors.join('\n'));
  if (name === 'four-way-close.html') {
    await run(`document.querySelectorAll('#code details').forEach((it) => { it.open = false; })`);
    await checkFocus(page, 'a scene');
    await checkContrast(page, 'a scene');
    await pictures(page, 'scene');
  }
}

await run(async () => {
  await step();
  const scenes = readdirSync(pages).filter((name) => name.endsWith('.html') && name !== 'seed.html');
  check(scenes.length === 14, '14 scenes');
  for (const name of scenes) await visit(name);
});
