// A client of node: `client.js PORT CERTS`. What it says is echoed; the server counts on.
'use strict';
const [port, certs] = process.argv.slice(2);
const assert = require('assert');
const { createHash, randomBytes } = require('crypto');
const { readFileSync } = require('fs');
const tls = require('tls');

const LOTS = 100 << 20;

function options(version, more) {
  return {
    host: '127.0.0.1', port, servername: 'b.example', ALPNProtocols: ['echo'],
    ca: readFileSync(`${certs}/ca.pem`), cert: readFileSync(`${certs}/client.pem`),
    key: readFileSync(`${certs}/client.key`), minVersion: version, maxVersion: version, ...more,
  };
}

// Says one word; the session that may be resumed, once the server has ended the connection.
function word(version, session) {
  return new Promise((resolve, reject) => {
    let kept, answer = '';
    const stream = tls.connect(options(version, { session }), () => {
      assert.equal(stream.alpnProtocol, 'echo');
      assert.equal(stream.isSessionReused(), session !== undefined);
      stream.write('hello');
    });
    stream.on('session', (fresh) => { kept = fresh; });
    stream.on('data', (piece) => { answer += piece; });
    stream.on('error', reject);
    stream.on('close', () => {
      assert.equal(answer, 'hello');
      resolve(kept);
    });
  });
}

// Says so many bytes, and if it is to be its end; all of them must come back, and then an end.
function lots(version, count, saysEnd) {
  return new Promise((resolve, reject) => {
    const block = randomBytes(1 << 20), sent = createHash('sha256'), seen = createHash('sha256');
    let come = 0, left = count;
    const stream = tls.connect(options(version, { allowHalfOpen: true }), function write() {
      while (left > 0) {
        left -= block.length;
        sent.update(block);
        if (!stream.write(block) && left > 0) return stream.once('drain', write);
      }
      if (saysEnd) stream.end();
    });
    stream.on('data', (piece) => {
      seen.update(piece);
      come += piece.length;
    });
    stream.on('error', reject);
    stream.on('end', () => {
      assert.equal(come, count);
      assert.equal(seen.digest('hex'), sent.digest('hex'));
      stream.end();
      resolve();
    });
  });
}

(async () => {
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    const session = await word(version);
    assert(session, 'there is no session to resume');
    await word(version, session);
    await lots(version, LOTS, false);
    await lots(version, 20 << 20, true);
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
