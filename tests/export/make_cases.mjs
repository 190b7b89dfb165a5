// usage: node make_cases.mjs STEMFABRIC FOLDER
// Inputs for the model in FOLDER/export, of sizes that no export was compared with, and what
// `stemfabric predict` answers to them: FOLDER/cases.json, as compare.mjs reads it.
import {execFileSync} from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import {readNpy, readSafetensors, writeNpy} from '../../scripts/studio/arrays.mjs';

const [stemfabric, folder] = process.argv.slice(2);
const card = JSON.parse(fs.readFileSync(path.join(folder, 'export', 'model_card.json'), 'utf8'));
const {input_dim: width, max_sequence_length: longest} = card.model.config;
const tensors = readSafetensors(path.join(folder, 'export', 'model.safetensors'));

// Which tokens of which sample are present: whole; padded at the end; every third one missing; the
// last alone. Then samples without any padding.
const padded = longest - 5;
const MASKS = [
  [t => true, t => t < Math.ceil(padded / 2), t => t % 3 !== 1, t => t === padded - 1].map(
    present => Array.from({length: padded}, (_, t) => present(t) ? 1 : 0)),
  Array.from({length: 5}, () => Array(11).fill(1))
];

// Spread as the input statistics say; a sine that turns faster and faster looks like noise.
function features(count, phase) {
  return Array.from({length: count}, (_, i) => {
    const scale = tensors['input.scale'].data[i % width];
    return tensors['input.mean'].data[i % width] + 1.5 * Math.sin(0.37 * i * i + phase) / (scale || 1);
  });
}

const cases = MASKS.map((rows, number) => {
  const shape = [rows.length, rows[0].length];
  const work = path.join(folder, `case-${number}`);
  fs.mkdirSync(work);
  const files = {x: path.join(work, 'x.npy'), mask: path.join(work, 'mask.npy')};
  writeNpy(files.x, {shape: [...shape, width], data: features(shape[0] * shape[1] * width, number)}, '<f4');
  writeNpy(files.mask, {shape, data: rows.flat()}, '|u1');
  execFileSync(stemfabric, ['predict', '--model', path.join(folder, 'run'), '--input', files.x, '--mask',
    files.mask, '--output-dir', path.join(work, 'predictions'), '--device', 'cpu'],
    {stdio: ['ignore', 'ignore', 'inherit']});
  const outputs = Object.fromEntries(card.model.stems.map(
    stem => [stem, readNpy(path.join(work, 'predictions', `${stem}.npy`))]));
  return {stem_features: readNpy(files.x), mask: readNpy(files.mask), outputs};
});
fs.writeFileSync(path.join(folder, 'cases.json'), JSON.stringify(cases));
