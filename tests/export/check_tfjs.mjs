// usage: node check_tfjs.mjs NODE_MODULES_PARENT MODEL_FOLDER CASES.json
// Loads an exported graph model in TensorFlow.js as a page does, and compares its outputs.
import fs from 'node:fs';
import path from 'node:path';
import {compare, loader, readCases} from './compare.mjs';

const [modules, folder, casesFile] = process.argv.slice(2);
const tf = loader(modules)('@tensorflow/tfjs');

// What tf.loadGraphModel(url) does, with files in the place of requests.
const files = {
  load: async () => {
    const model = JSON.parse(fs.readFileSync(path.join(folder, 'model.json'), 'utf8'));
    return tf.io.getModelArtifactsForJSON(model, async manifest => {
      const bytes = Buffer.concat(manifest.flatMap(group => group.paths)
        .map(name => fs.readFileSync(path.join(folder, name))));
      return [manifest.flatMap(group => group.weights),
        bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)];
    });
  }
};

async function values(tensor) {
  return {shape: tensor.shape, data: await tensor.data()};
}

await tf.setBackend('cpu');
const model = await tf.loadGraphModel(files);
let worst = 0;
for (const one of readCases(casesFile)) {
  const feed = name => tf.tensor(one[name].data, one[name].shape, 'float32');
  const outputs = model.predict({stem_features: feed('stem_features'), mask: feed('mask')});
  if (Object.keys(outputs).length !== 6) throw new Error(`outputs ${Object.keys(outputs)}`);
  for (const [stem, want] of Object.entries(one.outputs)) {
    worst = Math.max(worst, compare(stem, await values(outputs[stem]), want));
  }
  // Without a mask everything is present.
  if (one.mask.data.every(m => m === 1)) {
    const alone = model.predict(feed('stem_features'));
    for (const [stem, want] of Object.entries(one.outputs)) {
      worst = Math.max(worst, compare(stem, await values(alone[stem]), want));
    }
  }
}
console.log(`tfjs ${tf.version.tfjs}: worst ${worst.toExponential(1)}`);
