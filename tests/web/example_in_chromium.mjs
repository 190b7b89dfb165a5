// usage: node example_in_chromium.mjs SITE SONG OUTPUT_DIR
// Opens SITE/example.html in headless Chromium, chooses SONG as a user would, and saves the stems
// that the page plays as OUTPUT_DIR/<stem>.wav. Prints what the page says.
import {spawn} from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import {removeProfile} from '../../scripts/studio/chromium.mjs';

const [site, song, output] = process.argv.slice(2);

const DEADLINE_MS = 300_000;
const TYPES = {'.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript',
  '.json': 'application/json'};

function serve(folder) {
  const server = http.createServer((request, response) => {
    const file = path.join(folder, path.normalize(new URL(request.url, 'http://site').pathname));
    if (!fs.existsSync(file) || !fs.statSync(file).isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {'Content-Type': TYPES[path.extname(file)] ?? 'application/octet-stream'});
    fs.createReadStream(file).pipe(response);
  });
  return new Promise(ready => server.listen(0, '127.0.0.1', () => ready(server)));
}

// The DevTools protocol over a pair of pipes: messages of JSON, each ended by a zero byte.
class Browser {
  constructor(profile) {
    this.process = spawn('chromium', ['--headless=new', '--no-sandbox', '--disable-gpu',
      '--disable-dev-shm-usage', '--remote-debugging-pipe', `--user-data-dir=${profile}`, 'about:blank'],
      {stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe']});
    this.waiting = new Map();
    this.next = 1;
    this.ended = new Promise(resolve => this.process.once('exit', resolve));
    this.ended.then(status => {
      for (const {reject} of this.waiting.values()) reject(new Error(`chromium ended: ${status}`));
    });
    let text = '';
    this.process.stdio[4].setEncoding('utf8').on('data', part => {
      const messages = (text + part).split('\0');
      text = messages.pop();
      messages.forEach(message => this.receive(JSON.parse(message)));
    });
  }

  receive({id, result, error}) {
    if (id === undefined) return;  // an event
    const {resolve, reject} = this.waiting.get(id);
    this.waiting.delete(id);
    if (error) reject(new Error(error.message)); else resolve(result);
  }

  async send(method, params = {}, sessionId = undefined) {
    const id = this.next++;
    if (this.process.exitCode !== null) throw new Error(`chromium ended: ${this.process.exitCode}`);
    this.process.stdio[3].write(`${JSON.stringify({id, method, params, sessionId})}\0`);
    return new Promise((resolve, reject) => this.waiting.set(id, {resolve, reject}));
  }

  async open(url) {
    const {targetId} = await this.send('Target.createTarget', {url});
    const {sessionId} = await this.send('Target.attachToTarget', {targetId, flatten: true});
    return new Page(this, sessionId);
  }

  async close() {
    this.send('Browser.close').catch(() => {});  // it may end before it answers
    await this.ended;
  }
}

class Page {
  constructor(browser, session) {
    this.send = (method, params) => browser.send(method, params, session);
  }

  async evaluate(expression) {
    const {result, exceptionDetails} = await this.send('Runtime.evaluate',
      {expression, awaitPromise: true, returnByValue: true});
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  // The page's status as soon as it is another than `before` and no announcement ("… …").
  async status(before = '') {
    const deadline = Date.now() + DEADLINE_MS;
    for (;;) {
      const text = await this.evaluate('document.getElementById("status")?.textContent ?? " …"');
      if (text !== before && !text.endsWith('…')) return text;
      if (Date.now() > deadline) throw new Error(`the page says for minutes: ${text}`);
      await new Promise(later => setTimeout(later, 100));
    }
  }

  async choose(file) {
    const {root} = await this.send('DOM.getDocument');
    const {nodeId} = await this.send('DOM.querySelector', {nodeId: root.nodeId, selector: '#song'});
    await this.send('DOM.setFileInputFiles', {nodeId, files: [path.resolve(file)]});
  }

  async stems() {
    return this.evaluate(`Promise.all([...document.querySelectorAll('figure')].map(async figure => {
      const bytes = new Uint8Array(await (await fetch(figure.querySelector('audio').src)).arrayBuffer());
      let text = '';
      for (let i = 0; i < bytes.length; i += 32768) {
        text += String.fromCharCode(...bytes.subarray(i, i + 32768));
      }
      return [figure.querySelector('figcaption').textContent, btoa(text)];
    }))`);
  }
}

const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'chromium-'));
const server = await serve(site);
const browser = new Browser(profile);
try {
  const page = await browser.open(`http://127.0.0.1:${server.address().port}/example.html`);
  const ready = await page.status();
  console.log(ready);
  await page.choose(song);
  console.log(await page.status(ready));
  fs.mkdirSync(output, {recursive: true});
  for (const [stem, bytes] of await page.stems()) {
    fs.writeFileSync(path.join(output, `${stem}.wav`), Buffer.from(bytes, 'base64'));
  }
} finally {
  await browser.close();
  server.close();
  await removeProfile(profile);
}
