// What WCAG 2.2 AA asks of a page: contrast, the order of the focus, names of what takes it. Used
// by `browser.mjs` and `replay.mjs`.

import { check } from './chromium.mjs';

/// Contrast of each text with what is behind it, and of what must be told apart without words.
/// Runs in the page.
function lowContrasts() {
  const parse = (text) => {
    const [r, g, b, a = 1] = (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
    return { r, g, b, a };
  };
  const over = (top, under) => {
    const mix = (name) => top[name] * top.a + under[name] * (1 - top.a);
    return { r: mix('r'), g: mix('g'), b: mix('b'), a: 1 };
  };
  const light = ({ r, g, b }) => {
    const [red, green, blue] = [r, g, b].map((part) => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ratio = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const chain = (it) => (it ? [...chain(it.parentElement), it] : []);
  const ground = (it) => chain(it).reduce((under, each) =>
    over(parse(getComputedStyle(each).backgroundColor), under), { r: 255, g: 255, b: 255, a: 1 });
  const opacity = (it) => chain(it).reduce((all, each) => all * getComputedStyle(each).opacity, 1);
  const isShown = (it) => it.checkVisibility({ visibilityProperty: true })
    && getComputedStyle(it).clipPath === 'none';
  const found = [];
  let texts = 0;
  for (const it of document.querySelectorAll('body *')) {
    const words = [...it.childNodes].filter((child) => child.nodeType === Node.TEXT_NODE)
      .map((child) => child.data.trim()).join(' ').trim() || it.placeholder || '';
    if (!words || !isShown(it) || ['SCRIPT', 'STYLE', 'title'].includes(it.tagName)) continue;
    const pseudo = it.placeholder && !it.value ? '::placeholder' : null;
    const style = getComputedStyle(it, pseudo), size = parseFloat(style.fontSize);
    const under = ground(it);
    const ink = parse(it.ownerSVGElement ? style.fill : style.color);
    ink.a *= opacity(it);
    const wanted = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const is = ratio(over(ink, under), under);
    texts += 1;
    if (is < wanted) found.push(`${is.toFixed(2)} of ${wanted}: ${words.slice(0, 40)}`);
  }
  for (const it of document.querySelectorAll('.fill, .bar, .full, #legend i, line.packet')) {
    if (!isShown(it)) continue;
    const style = getComputedStyle(it), under = ground(it.ownerSVGElement || it.parentElement);
    const drawn = it.tagName === 'line' ? style.stroke : style.fill;
    const is = ratio(over(parse(it.ownerSVGElement ? drawn : style.backgroundColor), under), under);
    if (is < 3) found.push(`${is.toFixed(2)} of 3: ${it.tagName} ${it.getAttribute('class')}`);
  }
  return { texts, found: [...new Set(found)] };
}

/// Checks contrast in both schemes.
export async function checkContrast(page, name) {
  for (const scheme of ['dark', 'light']) {
    await page.picture(`${name.replaceAll(' ', '-')}-${scheme}`, 1280, 1400, scheme);
    const { texts, found } = await page.run(`(${lowContrasts})()`);
    check(texts > 20 && found.length === 0,
      `${texts} texts of ${name} have the contrast of AA in ${scheme}${found.join('\n')}`);
  }
}

/// Which element has the focus: where it is, and how that is shown. Runs in the page.
function focused() {
  const it = document.activeElement;
  if (!it || it === document.body) return null;
  const all = [...document.querySelectorAll('*')], { x, y } = it.getBoundingClientRect();
  const { outlineStyle, outlineWidth } = getComputedStyle(it);
  const text = it.id || it.textContent.trim().slice(0, 30);
  const group = it.closest('header, section');
  return { place: all.indexOf(it), text, x, y: y + scrollY, group: all.indexOf(group),
    isSeen: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 };
}

/// Goes through the page by the tab key: all that can be used is reached, in the order of the text
/// and with a frame around it, and the last one leads out.
export async function checkFocus(page, name) {
  // From the beginning, and not from where the mouse was pressed last.
  await page.run(`(() => {
    const { body } = document;
    body.tabIndex = -1;
    body.focus();
    body.removeAttribute('tabindex');
    scrollTo(0, 0);
  })()`);
  const wanted = await page.run(`[...document.querySelectorAll('a[href], button, input, select, ' +
    'summary, [tabindex="0"]')].filter((it) => it.checkVisibility() && !it.disabled).length`);
  const stops = [];
  for (let at = 0; at <= wanted; at++) {
    await page.press('Tab', 9);
    const stop = await page.run(`(${focused})()`);
    if (!stop || stop.place === stops[0]?.place) break;
    stops.push(stop);
  }
  check(stops.length === wanted, `the tab key reaches ${wanted} places of ${name}: ` +
    stops.map(({ text }) => text).join(', '));
  const hidden = stops.filter(({ isSeen }) => !isSeen).map(({ text }) => text);
  check(hidden.length === 0, `and each is seen to have the focus ${hidden}`);
  const back = stops.filter((stop, at) => at > 0 && stop.place < stops[at - 1].place);
  check(back.length === 0, 'and they come in the order of the text');
  // Within a section the eye goes down too, and along a line.
  const crossed = stops.filter((stop, at) => at > 0 && stop.group === stops[at - 1].group
    && (stop.y < stops[at - 1].y - 8
      || (Math.abs(stop.y - stops[at - 1].y) <= 8 && stop.x <= stops[at - 1].x)));
  check(crossed.length === 0, `and in the order of the eye ${crossed.map(({ text }) => text)}`);
  const { nodes } = await page.call('Accessibility.getFullAXTree');
  const isNamed = ({ name, role }) => role.value === 'RootWebArea' || name?.value.trim();
  const nameless = nodes.filter(({ ignored, properties = [] }) => !ignored
    && properties.some((it) => it.name === 'focusable' && it.value.value)).filter((it) => !isNamed(it));
  check(nameless.length === 0,
    `and each has a name ${nameless.map(({ role }) => role.value)}`);
}
