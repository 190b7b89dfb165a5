// usage: node check_onnx.mjs NODE_MODULES_PARENT MODEL.onnx CASES.json ...
// Runs exported models in ONNX Runtime and compares their outputs.
import {compare, loader, models} from './compare.mjs';

const args = process.argv.slice(2);
const ort = loader(args[0])('onnxruntime-node');

async function check(session, one) {
  const feed = name => new ort.Tensor('float32', Float32Array.from(one[name].data), one[name].shape);
  const outputs = await session.run({stem_features: feed('stem_features'), mask: feed('mask')});
  let worst = 0;
  for (const [stem, want] of Object.entries(one.outputs)) {
    const got = outputs[stem];
    worst = Math.max(worst, compare(stem, got && {shape: got.dims, data: got.data}, want));
  }
  return worst;
}

let worst = 0;
for (const [file, cases] of models(args)) {
  for (const graphOptimizationLevel of ['disabled', 'all']) {
    const session = await ort.InferenceSession.create(file,
      {graphOptimizationLevel, intraOpNumThreads: 1});
    for (const one of cases) worst = Math.max(worst, await check(session, one));
  }
}
console.log(`onnxruntime ${ort.env.versions?.common ?? 'of an old version'}: worst ${worst.toExponential(1)}`);
