#!/usr/bin/env node
// Runs an exported TensorFlow.js model in a browser on the tokens of a shard, and compares it with what
// `stemfabric predict` gave for them. Prints JSON; status 1 if they differ by more than 1e-4 of the
// largest output.
//   predict.mjs --model DIR --inputs x.npy --mask mask.npy --expected DIR --tfjs DIR --browser PROGRAM
import path from 'node:path';
import {parseArgs} from 'node:util';
import {runModel} from './chromium.mjs';
import {readNpy} from './arrays.mjs';

const kStems = ['vocals', 'drums', 'bass', 'harmonic', 'perc', 'sub'];
const option = {type: 'string'};
const {values} = parseArgs({
  options: {model: option, inputs: option, mask: option, expected: option, tfjs: option, browser: option}
});

const report = await runModel({
  model: values.model, tfjs: values.tfjs, browser: values.browser, stems: kStems,
  inputs: [{features: readNpy(values.inputs), mask: readNpy(values.mask)}]
});
const [predicted] = report.predicted;

let largest = 0;
let difference = 0;
for (const stem of kStems) {
  const expected = readNpy(path.join(values.expected, `${stem}.npy`));
  const got = predicted[stem];
  if (got.shape.join() !== expected.shape.join()) {
    throw new Error(`${stem}: shape ${got.shape} in the browser, ${expected.shape} from stemfabric`);
  }
  expected.data.forEach((value, i) => {
    largest = Math.max(largest, Math.abs(value));
    const gap = Math.abs(value - got.data[i]);
    difference = gap <= difference ? difference : gap;  // a NaN stays
  });
}
const agreement = difference / largest;
console.log(JSON.stringify({
  samples: predicted[kStems[0]].shape[0], largest, difference, agreement, milliseconds: report.milliseconds,
  tfjs: report.version, browser: report.browser
}));
process.exit(agreement <= 1e-4 ? 0 : 1);
