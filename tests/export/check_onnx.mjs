// usage: node check_onnx.mjs NODE_MODULES_PARENT MODEL.onnx CASES.json
// Runs an exported model in ONNX Runtime and compares its outputs.
import {compare, loader, readCases} from './compare.mjs';

const [modules, file, casesFile] = process.argv.slice(2);
const ort = loader(modules)('onnxruntime-node');

let worst = 0;
for (const graphOptimizationLevel of ['disabled', 'all']) {
  const session = await ort.InferenceSession.create(file,
    {graphOptimizationLevel, intraOpNumThreads: 1});
  for (const one of readCases(casesFile)) {
    const feed = name => new ort.Tensor('float32', Float32Array.from(one[name].data), one[name].shape);
    const outputs = await session.run({stem_features: feed('stem_features'), mask: feed('mask')});
    for (const [stem, want] of Object.entries(one.outputs)) {
      const got = outputs[stem];
      worst = Math.max(worst, compare(stem, got && {shape: got.dims, data: got.data}, want));
    }
  }
}
console.log(`onnxruntime ${ort.env.versions.node ?? ort.env.versions.common}: worst ${worst.toExponential(1)}`);
