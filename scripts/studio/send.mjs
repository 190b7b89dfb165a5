#!/usr/bin/env node
// Sends snapshots to a collector as the Studio does, and prints what came of it as JSON.
//   send.mjs --to URL [--browser PROGRAM] FILE…
// Without --browser by Node's fetch alone. With it, half of them from a page of another origin in that
// browser, which asks by OPTIONS first; and one more, by navigator.sendBeacon, while a page is unloaded.
import fs from 'node:fs';
import path from 'node:path';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import {runPage} from './chromium.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const {values, positionals: files} =
  parseArgs({options: {to: {type: 'string'}, browser: {type: 'string'}}, allowPositionals: true});
if (!values.to || files.length === 0) {
  console.error('usage: send.mjs --to URL [--browser PROGRAM] FILE…');
  process.exit(2);
}

const byNode = values.browser ? files.slice(0, Math.ceil(files.length / 2)) : files;
const byBrowser = files.slice(byNode.length);
const answers = [];
for (const file of byNode) {
  const response = await fetch(values.to, {
    method: 'POST',
    headers: {'Content-Type': 'application/json', 'X-Prime-Fabric-Channel': 'stem-separation'},
    body: fs.readFileSync(file)
  });
  answers.push({file: path.basename(file), by: 'fetch, Node', status: response.status, answer: await response.json()});
}

// The standard allows beacons 64 KiB, less than most snapshots have: the smallest, without its stems and
// with an id of its own.
function beaconBody() {
  const smallest = [...files].sort((a, b) => fs.statSync(a).size - fs.statSync(b).size)[0];
  const {groundTruthStems, ...snapshot} = JSON.parse(fs.readFileSync(smallest, 'utf8'));
  return JSON.stringify({...snapshot, id: crypto.randomUUID()});
}

if (values.browser) {
  const job = {
    to: values.to,
    snapshots: byBrowser.map(file => ({file: path.basename(file), text: fs.readFileSync(file, 'utf8')})),
    beacon: beaconBody()
  };
  const report = await runPage({
    page: '/page/send.html', folders: {'/page/': path.join(here, 'page')}, values: {'/job.json': job},
    browser: values.browser
  });
  answers.push(...report.answers);
}
console.log(JSON.stringify(answers, null, 1));
process.exit(answers.every(answer => answer.status === 200 || answer.queued) ? 0 : 1);
