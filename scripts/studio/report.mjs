#!/usr/bin/env node
// The page that ends the loop: index.html in the run's folder, from what its steps wrote.
//   report.mjs RUN_DIR
import fs from 'node:fs';
import path from 'node:path';

const run = process.argv[2];
const read = name => {
  const file = path.join(run, name);
  return fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : null;
};
const escape = text => String(text).replace(/[&<>"]/g, c => `&#${c.charCodeAt(0)};`);
const table = (head, rows) => `<table><tr>${head.map(cell => `<th>${escape(cell)}</th>`).join('')}</tr>
${rows.map(row => `<tr>${row.map(cell => `<td>${escape(cell)}</td>`).join('')}</tr>`).join('\n')}</table>`;
const decibels = value => (typeof value === 'number' ? value.toFixed(1) : '–');

const sent = read('sent.json');
const sanitized = fs.readFileSync(path.join(run, 'records.jsonl'), 'utf8').trim().split('\n').length;
const evaluation = read('model/evaluation_report.json');
const card = read('export/model_card.json');
const browser = read('browser.json');
const ids = new Set(sent.filter(answer => answer.answer).map(answer => answer.answer.id)).size +
            sent.filter(answer => answer.queued).length;
if (sanitized !== ids) {
  throw new Error(`${ids} snapshots were sent, ${sanitized} records came out of the store`);
}

const boxes = [
  ['Studio', `${ids} snapshots sent`], ['ingest', 'on the disk'], ['sanitize', `${sanitized} records`],
  ['train', `${evaluation.training.step} steps`], ['evaluate', `SDR ${decibels(evaluation.aggregateMetrics.sdr)} dB`],
  ['export', card.files.length + ' files'],
  ['browser', browser ? `${browser.agreement.toExponential(1)} apart` : 'not tried']
];
const picture = `<svg viewBox="0 0 ${boxes.length * 130} 90" role="img" aria-label="The loop">
${boxes.map(([name, what], i) => `<rect x="${i * 130 + 4}" y="10" width="110" height="56" rx="9"/>
<text x="${i * 130 + 59}" y="34" class="name">${escape(name)}</text><text x="${i * 130 + 59}" y="54">${escape(what)}</text>
${i > 0 ? `<path d="M${i * 130 - 15} 38 h16"/>` : ''}`).join('\n')}</svg>`;

const page = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>From the Studio and back</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .25rem .8rem; border-bottom: 1px solid #d5dae1; text-align: left; }
svg rect { fill: #e7f0fb; stroke: #4a7fc1; } svg path { stroke: #5b6472; stroke-width: 2; }
svg text { font-size: 12px; text-anchor: middle; fill: #5b6472; } svg .name { font-size: 14px; font-weight: 600; fill: #1c2430; }
</style>
<h1>From the Studio and back</h1>
${picture}
<h2>Snapshots in</h2>
${table(['snapshot', 'sent by', 'answer', 'id'], sent.map(a =>
    [a.file, a.by, a.queued === undefined ? a.status : a.queued ? 'queued; the answer of a beacon is never read' : 'refused by the browser',
     a.answer?.id ?? '–']))}
<p>${sanitized} records came out of the store: each snapshot once.</p>
<h2>Scores on the validation split</h2>
${table(['stem', 'SDR, dB', 'SDR of the mixture, dB'], Object.entries(evaluation.stemMetrics).map(([stem, metrics]) =>
    [stem, decibels(metrics.sdr), decibels(evaluation.baselines.mixture.stemMetrics[stem]?.sdr)]))}
<p>A handful of snapshots and a small model: it shows that the loop closes, not what a model can do.
<a href="model/evaluation_report.json">evaluation_report.json</a>, <a href="model/report.html">report.html</a></p>
<h2>Weights out</h2>
<p><a href="export/model_card.md">Model card</a></p>
${table(['file', 'bytes'], card.files.map(file => [file.name, file.bytes]))}
<h2>Back in the browser</h2>
${browser ? `<p>TensorFlow.js ${escape(browser.tfjs)} in ${escape(browser.browser)} predicted ${browser.samples} validation samples in
${browser.milliseconds.toFixed(0)} ms. The largest difference from <code>stemfabric predict</code> is ${browser.difference.toExponential(2)}, where the
largest output is ${browser.largest.toFixed(3)}: ${browser.agreement.toExponential(2)} of it.</p>`
          : '<p>Not tried in this run (<code>--short</code>).</p>'}
</html>
`;
fs.writeFileSync(path.join(run, 'index.html'), page);
console.log(`\n${ids} snapshots in, ${sanitized} records, SDR ${decibels(evaluation.aggregateMetrics.sdr)} dB` +
            (browser ? `, browser and stemfabric agree to ${browser.agreement.toExponential(1)}` : '') + `\nPage: ${path.join(run, 'index.html')}`);
