// What the checks of exported models share. A case holds inputs and the trainer's outputs.
import fs from 'node:fs';
import path from 'node:path';
import {createRequire} from 'node:module';

export const TOLERANCE = 1e-4;  // kExportTolerance of trainer/export/verification.h

export function loader(modules) {
  return createRequire(path.join(path.resolve(modules), 'here.js'));
}

// The pairs of model and file of cases behind the first argument.
export function models(args) {
  const pairs = [];
  for (let i = 1; i + 1 < args.length; i += 2) pairs.push([args[i], readCases(args[i + 1])]);
  if (pairs.length === 0) throw new Error('no models given');
  return pairs;
}

function readCases(file) {
  const cases = JSON.parse(fs.readFileSync(file, 'utf8'));
  if (cases.length === 0) throw new Error(`${file}: no cases`);
  return cases;
}

// The largest difference as a share of the stem's largest output; throws where it is too large.
export function compare(stem, got, want) {
  if (!got) throw new Error(`no output ${stem}`);
  if (got.shape.join() !== want.shape.join()) {
    throw new Error(`${stem}: shape [${got.shape}], want [${want.shape}]`);
  }
  const largest = want.data.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
  let worst = 0;
  want.data.forEach((x, i) => {
    const share = got.data[i] === x ? 0 : Math.abs(got.data[i] - x) / largest;
    if (!(share <= TOLERANCE)) throw new Error(`${stem}[${i}]: ${got.data[i]}, want ${x}`);
    worst = Math.max(worst, share);
  });
  return worst;
}
