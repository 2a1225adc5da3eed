// The pages of `web` in a browser. Used by `examples/web/tests/browser`:
// node --experimental-websocket browser.mjs https://localhost:PORT
//
// Does what a visitor does, looks at what the server has made of it, and takes pictures. Fails at
// the first thing that is not so.

import { check, open, run } from '../../../tests/inspect/chromium.mjs';

const [url] = process.argv.slice(2);

async function upload() {
  const { run, until, picture, errors } = await open(url + '/upload');
  await until(`!!document.querySelector('input[type=file]')`, 'the upload page is there');
  await run(`(() => {
    window.bytes = new Uint8Array(3 << 20).map((_, at) => at * 7 + (at >> 8));
    const chosen = new DataTransfer();
    chosen.items.add(new File([bytes], 'a <b> "name".bin'));
    chosen.items.add(new File(['gr\u00fcn'], 'green.html'));
    document.querySelector('input[type=file]').files = chosen.files;
    window.seen = [];
    new MutationObserver(() => seen.push(document.querySelector('progress').value))
      .observe(document.querySelector('progress'), { attributes: true });
    document.querySelector('button').click();
  })()`);
  const says = `document.querySelector('[role=status]').textContent`;
  await until(`${says}.startsWith('20')`, 'the files are taken');
  check(await run(`document.querySelector('progress').value`) === 1, 'the bar is full');
  check((await run('seen')).length > 0, 'the bar has moved');
  check(!await run(`document.querySelector('button').disabled`), 'the button can be used again');
  const paths = (await run(says)).match(/\/upload\/\w+/g) || [];
  check(paths.length === 2, 'both files have a path');
  const [binary, page] = await run(`Promise.all(${JSON.stringify(paths)}.map(async (path) => {
    const answer = await fetch(path);
    const found = new Uint8Array(await answer.arrayBuffer());
    const fields = Object.fromEntries(answer.headers);
    const same = found.length === bytes.length && found.every((byte, at) => byte === bytes[at]);
    return { same, length: found.length, fields };
  }))`);
  check(binary.same, 'the file comes back as it was sent');
  check(page.length === 5, 'so does the second');
  for (const { fields } of [binary, page]) {
    check(fields['content-disposition'].startsWith('attachment'), 'it is an attachment');
    check(fields['x-content-type-options'] === 'nosniff', 'and not to be guessed at');
  }
  check(errors.length === 0, 'the page has no error ' + errors.join('; '));
  await picture('upload', 800, 500, 'light');
}

/// Writes into a field, and presses the button of its form.
const submit = (fields) => `(() => {
  const fields = ${JSON.stringify(fields)};
  for (const name in fields) document.querySelector('[name=' + name + ']').value = fields[name];
  document.querySelector('[name=' + Object.keys(fields)[0] + ']').form
    .querySelector('button').click();
})()`;

async function session() {
  const { call, run, until, picture } = await open(url + '/notes');
  const session = async () => {
    const { cookies } = await call('Network.getCookies', { urls: [url] });
    return cookies.find(({ name }) => name === '__Host-session');
  };
  await until(`location.pathname === '/login' && !!document.querySelector('[name=password]')`,
    'without a session there is the login');
  await picture('login', 800, 400, 'light');
  await run(submit({ name: 'ann', password: 'guess' }));
  await until(`document.body.innerText.includes('is wrong')`, 'a wrong password is refused');
  check(await session() === undefined, 'and begins no session');

  await call('Page.navigate', { url: url + '/login' });
  await until(`!!document.querySelector('[name=password]')`, 'the login is there again');
  await run(submit({ name: 'ann', password: 'secret' }));
  await until(`location.pathname === '/notes'
    && document.querySelector('h1')?.innerText === 'Notes of ann'`, 'the notes are there');
  const first = await session();
  check(first !== undefined, 'the browser has taken the cookie __Host-session');
  check(first.secure && first.httpOnly && first.path === '/', 'Secure, HttpOnly, of the path /');
  check(first.domain === 'localhost', 'of this host alone');
  check(await run('document.cookie') === '', 'no script reads it');

  const note = '<img src=x onerror="document.title = 1"> & gr\u00fcn';
  await run(submit({ text: note }));
  await until(`document.querySelectorAll('li').length === 1`, 'a note is added');
  check(await run(`document.querySelector('li').innerText`) === note, 'it is text, as written');
  check(await run('document.title') === 'Notes', 'and no part of the page');
  await picture('notes', 800, 400, 'light');

  await call('Page.navigate', { url: url + '/login' });
  await until(`!!document.querySelector('[name=password]')`, 'the login is there a third time');
  await run(submit({ name: 'ann', password: 'secret' }));
  await until(`document.querySelectorAll('li').length === 1`, 'the note is still there');
  check((await session()).value !== first.value, 'a login begins another session');

  await run(`document.querySelector('form[action="/logout"] button').click()`);
  await until(`location.pathname === '/login'`, 'logged out');
  check(await session() === undefined, 'the cookie is gone');
  await call('Network.setCookie',
    { url, name: first.name, value: first.value, secure: true, httpOnly: true, path: '/' });
  await call('Page.navigate', { url: url + '/notes' });
  await until(`location.pathname === '/login'`, 'a session that has ended opens nothing');
}

await run(async () => {
  await upload();
  await session();
});
