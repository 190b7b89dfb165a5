// usage: node check_chromium.mjs NODE_MODULES_PARENT MODEL_FOLDER CASES.json ...
// Loads exported graph models with TensorFlow.js in headless Chromium, and compares their outputs.
import path from 'node:path';
import {runModel} from '../../scripts/studio/chromium.mjs';
import {compare, models} from './compare.mjs';

const args = process.argv.slice(2);
const tfjs = path.join(args[0], 'node_modules', '@tensorflow', 'tfjs', 'dist');

let worst = 0;
let report;
for (const [model, cases] of models(args)) {
  const stems = Object.keys(cases[0].outputs);
  report = await runModel({
    model, tfjs, stems, inputs: cases.map(one => ({features: one.stem_features, mask: one.mask})), browser: 'chromium'
  });
  cases.forEach((one, i) => {
    for (const stem of stems) worst = Math.max(worst, compare(stem, report.predicted[i][stem], one.outputs[stem]));
  });
}
console.log(`tfjs ${report.version}, ${/Chrome\/[0-9]+/.exec(report.browser)}: worst ${worst.toExponential(1)}`);
